use std::fmt;

use super::{
    bench::{Bench, Numbered, Side},
    check::Check,
    rules,
    wait::Patience,
};
use crate::Transport;

/// The default for how many messages may be accepted while the peer does not read; see [`Contract::room`].
const ROOM: usize = 1 << 16;

/// The contract of [`Transport`], to be checked on pairs of connected transports.
///
/// `P` creates a fresh pair, `(here, there)`, for each check and direction. The two ends may be of different types.
/// `There` and `Back` are the [`Messages`] of the two directions.
#[derive(Clone)]
pub struct Contract<P, There, Back> {
    pair: P,
    there: There,
    back: Back,
    room: usize,
    patience: Patience,
}

/// The messages of one direction: how the n-th is created, and as what it arrives.
#[derive(Clone, Copy)]
pub struct Messages<Make, Arrives> {
    make: Make,
    arrives: Arrives,
}

impl<P, F> Contract<P, Messages<F, F>, Messages<F, F>> {
    /// Creates a contract in which both ends send and receive `message(0)`, `message(1)` and so on.
    ///
    /// The messages should differ from each other, and you choose their size. Above an operating system, choose
    /// messages large enough to fill its buffers within [`room`](Self::room) messages.
    pub fn new<M>(pair: P, message: F) -> Self
    where
        F: Fn(usize) -> M + Clone,
    {
        Self {
            pair,
            there: Messages { make: message.clone(), arrives: message.clone() },
            back: Messages { make: message.clone(), arrives: message },
            room: ROOM,
            patience: Patience::default(),
        }
    }
}

impl<P, There, Back> Contract<P, There, Back> {
    /// Sets the messages that the first end sends, and the form in which they arrive at the second: any type that `In`
    /// can be compared with.
    pub fn outgoing<Make, Arrives, Out, Due>(
        self,
        make: Make,
        arrives: Arrives,
    ) -> Contract<P, Messages<Make, Arrives>, Back>
    where
        Make: Fn(usize) -> Out,
        Arrives: Fn(usize) -> Due,
    {
        let Self { pair, back, room, patience, .. } = self;
        Contract { pair, there: Messages { make, arrives }, back, room, patience }
    }

    /// Sets the messages that the second end sends, and the form in which they arrive at the first: any type that `In`
    /// can be compared with.
    pub fn incoming<Make, Arrives, Out, Due>(
        self,
        make: Make,
        arrives: Arrives,
    ) -> Contract<P, There, Messages<Make, Arrives>>
    where
        Make: Fn(usize) -> Out,
        Arrives: Fn(usize) -> Due,
    {
        let Self { pair, there, room, patience, .. } = self;
        Contract { pair, there, back: Messages { make, arrives }, room, patience }
    }

    /// Sets how many messages may be accepted in one direction while the peer does not read, counting all buffers in
    /// between. Defaults to 65536.
    #[must_use]
    pub fn room(self, messages: usize) -> Self {
        Self { room: messages, ..self }
    }

    /// Sets when a check gives up: when a future of `timer`, created when the waiting begins, is ready. With a
    /// runtime's clock, use `|| tokio::time::sleep(Duration::from_secs(30))`.
    ///
    /// The default counts how often the other tasks had their turn, which is right for in-memory transports. If an
    /// operating system or a clock is involved, a timer is required.
    #[must_use]
    pub fn patience<F>(self, timer: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self { patience: Patience::timer(timer), ..self }
    }
}

impl<P, A, B, F, G, H, I, Out, Due, OutBack, DueBack> Contract<P, Messages<F, G>, Messages<H, I>>
where
    P: AsyncFn() -> (A, B),
    A: Transport<Out, In: PartialEq<DueBack> + fmt::Debug + 'static>,
    B: Transport<OutBack, In: PartialEq<Due> + fmt::Debug + 'static>,
    F: Fn(usize) -> Out,
    G: Fn(usize) -> Due,
    H: Fn(usize) -> OutBack,
    I: Fn(usize) -> DueBack,
{
    /// Runs all checks, in the order of [`Check::ALL`].
    ///
    /// # Panics
    ///
    /// Panics at the first violated rule, with the rule, what was found and what to do.
    pub async fn all(&self) {
        for check in Check::ALL {
            self.check(check).await;
        }
    }

    /// Runs one check in both directions, each on its own pair.
    ///
    /// # Panics
    ///
    /// Panics if the rule is violated, with the rule, what was found and what to do.
    pub async fn check(&self, check: Check) {
        for turned in [false, true] {
            let (here, there) = (self.pair)().await;
            let here = Numbered::new(here, &self.there.make, &self.back.arrives);
            let there = Numbered::new(there, &self.back.make, &self.there.arrives);
            let mut bench = Bench {
                a: Side::new(Box::new(here)),
                b: Some(Side::new(Box::new(there))),
                check,
                room: self.room,
                patience: self.patience.clone(),
                ends: ["the first end of the pair", "the second"],
            };
            if turned {
                bench.turn();
            }
            rules::run(check, bench).await;
        }
    }
}

debug_fields!([P, There, Back] Contract<P, There, Back> { room });

debug_fields!([Make, Arrives] Messages<Make, Arrives> {});
