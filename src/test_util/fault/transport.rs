use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use crate::{Error, sync::Mutex, transport::wakers::WakerPair};

/// The controller of the faults of all transports that its [`layer`](Self::layer) wrapped. Clones control the same
/// transports.
///
/// A fault applies to the transports that exist at the time of the call. A transport that is wrapped later (for
/// example, after a reconnect) begins without a fault.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Weak<Link>>>>);

debug_fields!(Faults {});

/// A layer that wraps a transport in a [`Fault`].
#[derive(Clone, Debug)]
pub struct FaultLayer {
    faults: Faults,
}

impl Faults {
    /// Creates a controller without a transport.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the layer that puts transports under this control.
    #[must_use]
    pub fn layer(&self) -> FaultLayer {
        FaultLayer { faults: self.clone() }
    }

    /// Stops this direction: `poll_ready` and `poll_flush`, or `poll_next`, are `Pending` until
    /// [`resume`](Self::resume).
    pub fn stall(&self, direction: Direction) {
        self.change(|state| state.stall(direction));
    }

    /// Removes every fault from this direction. It has no effect after [`half_open`](Self::half_open) or
    /// [`cut`](Self::cut), which are permanent.
    pub fn resume(&self, direction: Direction) {
        self.change(|state| state.resume(direction));
    }

    /// Loses the next `messages` of this direction, without a word to either end.
    pub fn lose(&self, direction: Direction, messages: usize) {
        self.change(|state| state.lose(direction, messages));
    }

    /// Loses about one message in `one_in` from now on, the same ones for the same seed.
    pub fn lose_some(&self, direction: Direction, one_in: NonZeroU32, seed: u64) {
        self.change(|state| state.lose_some(direction, one_in, seed));
    }

    /// Lets a message pass in this direction only with a permit from now on, and adds `messages` permits. With 0 the
    /// direction stops until the next call: this simulates a slow peer without a clock.
    pub fn permit(&self, direction: Direction, messages: usize) {
        self.change(|state| state.permit(direction, messages));
    }

    /// Makes the peer vanish without a word: sent messages are swallowed as if they were delivered, and nothing comes
    /// in any more, not even the end. `poll_close` is ready.
    pub fn half_open(&self) {
        self.change(Directions::half_open);
    }

    /// Cuts the connection: the stream returns an error for which [`is_closed`](crate::Error::is_closed) is true and
    /// then ends, and the sink fails with the same error. The peer notices when the transport under test is dropped, as
    /// a cut one should be.
    pub fn cut(&self) {
        self.change(Directions::cut);
    }

    fn change(&self, change: impl Fn(&mut Directions)) {
        let mut links = self.0.lock();
        links.retain(|link| link.strong_count() > 0);
        let alive: Vec<_> = links.iter().filter_map(Weak::upgrade).collect();
        drop(links);
        for link in alive {
            link.change(&change);
        }
    }
}

impl<T> Layer<T> for FaultLayer {
    type Service = Fault<T>;

    fn layer(&self, inner: T) -> Fault<T> {
        let link = Arc::new(Link::default());
        self.faults.0.lock().push(Arc::downgrade(&link));
        Fault { inner, link }
    }
}

pin_project! {
    /// A transport with injected faults; see [`Faults`].
    #[derive(Debug)]
    pub struct Fault<T> {
        #[pin]
        inner: T,
        link: Arc<Link>,
    }
}

/// The state that a transport shares with its controller.
#[derive(Default)]
struct Link {
    state: Mutex<Directions>,
    wakers: WakerPair,
}

debug_fields!(Link {});

impl Link {
    fn change(&self, change: impl FnOnce(&mut Directions)) {
        change(&mut self.state.lock());
        self.wakers.wake_both();
    }

    fn check(&self) -> Result<(), Error> {
        match self.state.lock().end() {
            PermanentFault::Cut | PermanentFault::Ended => Err(cut()),
            PermanentFault::Open | PermanentFault::HalfOpen => Ok(()),
        }
    }

    /// Returns `true` if the transport below is to be polled, and `false` if the peer has vanished: then all is well,
    /// as far as the sink can tell.
    fn poll_out(&self, cx: &Context<'_>, waits: impl FnOnce(&mut Directions) -> bool) -> Poll<Result<bool, Error>> {
        self.wakers.writer.register(cx.waker());
        let mut state = self.state.lock();
        match state.end() {
            PermanentFault::Cut | PermanentFault::Ended => Poll::Ready(Err(cut())),
            PermanentFault::HalfOpen => Poll::Ready(Ok(false)),
            PermanentFault::Open if waits(&mut state) => Poll::Pending,
            PermanentFault::Open => Poll::Ready(Ok(true)),
        }
    }

    fn is_half_open(&self) -> bool {
        self.state.lock().end() == PermanentFault::HalfOpen
    }
}

fn cut() -> Error {
    Error::closed("the connection was cut (by fault injection)")
}

impl<T> Fault<T> {
    accessors! {
        inner: T, "transport",
        get_mut: "Faults do not affect what is sent or received there.",
        into_inner: ", without its faults.",
    }
}

impl<T, In, E> Stream for Fault<T>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
{
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // Registered first, so that a change during the check is not missed; and always, because a change also wakes a
        // task that waits for the transport below.
        this.link.wakers.reader.register(cx.waker());
        loop {
            {
                let mut state = this.link.state.lock();
                match state.end() {
                    PermanentFault::Open if state.waits(Direction::Incoming) => return Poll::Pending,
                    PermanentFault::Open => {}
                    PermanentFault::HalfOpen => return Poll::Pending,
                    PermanentFault::Cut => {
                        state.ended();
                        return Poll::Ready(Some(Err(cut())));
                    }
                    PermanentFault::Ended => return Poll::Ready(None),
                }
            }
            match ready!(this.inner.as_mut().poll_next(cx)) {
                Some(Ok(message)) if this.link.state.lock().pass(Direction::Incoming) => {
                    return Poll::Ready(Some(Ok(message)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T, Out> Sink<Out> for Fault<T>
where
    T: Sink<Out, Error: Into<Error>>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match ready!(this.link.poll_out(cx, |state| state.waits(Direction::Outgoing)))? {
            true => this.inner.poll_ready(cx).map_err(Into::into),
            false => Poll::Ready(Ok(())),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.link.check()?;
        if this.link.is_half_open() || !this.link.state.lock().pass(Direction::Outgoing) {
            return Ok(());
        }
        this.inner.start_send(message).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match ready!(this.link.poll_out(cx, |state| state.is_stalled(Direction::Outgoing)))? {
            true => this.inner.poll_flush(cx).map_err(Into::into),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match ready!(this.link.poll_out(cx, |state| state.is_stalled(Direction::Outgoing)))? {
            true => this.inner.poll_close(cx).map_err(Into::into),
            false => Poll::Ready(Ok(())),
        }
    }
}

/// One of the two directions of a transport, as seen from the end with the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The messages that are sent.
    Outgoing,
    /// The messages that are received.
    Incoming,
}

/// Both directions of one transport.
#[derive(Debug, Default)]
struct Directions {
    outgoing: Flow,
    incoming: Flow,
    end: PermanentFault,
}

#[derive(Debug, Default)]
struct Flow {
    stalled: bool,
    /// The number of messages that may still pass; `None` means any number.
    permits: Option<usize>,
    /// The number of messages that are lost next.
    losses: usize,
    chance: Option<Chance>,
}

#[derive(Debug)]
struct Chance {
    random: u64,
    one_in: NonZeroU32,
}

/// A permanent fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PermanentFault {
    #[default]
    Open,
    /// Nothing comes in any more, and outgoing messages are swallowed.
    HalfOpen,
    /// The stream has not returned its error yet.
    Cut,
    /// The stream has returned its error.
    Ended,
}

impl Directions {
    fn end(&self) -> PermanentFault {
        self.end
    }

    fn half_open(&mut self) {
        if self.end == PermanentFault::Open {
            self.end = PermanentFault::HalfOpen;
        }
    }

    fn cut(&mut self) {
        if self.end != PermanentFault::Ended {
            self.end = PermanentFault::Cut;
        }
    }

    /// Records that the stream returns its error now.
    fn ended(&mut self) {
        self.end = PermanentFault::Ended;
    }

    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    fn stall(&mut self, direction: Direction) {
        self.flow(direction).stalled = true;
    }

    /// Resets the direction; messages that are due to be lost are not.
    fn resume(&mut self, direction: Direction) {
        *self.flow(direction) = Flow::default();
    }

    fn lose(&mut self, direction: Direction, messages: usize) {
        self.flow(direction).losses += messages;
    }

    fn lose_some(&mut self, direction: Direction, one_in: NonZeroU32, seed: u64) {
        self.flow(direction).chance = Some(Chance { random: seed, one_in });
    }

    fn permit(&mut self, direction: Direction, messages: usize) {
        let permits = &mut self.flow(direction).permits;
        *permits = Some(permits.unwrap_or(0).saturating_add(messages));
    }

    fn is_stalled(&mut self, direction: Direction) -> bool {
        self.flow(direction).stalled
    }

    /// Returns whether a message must wait.
    fn waits(&mut self, direction: Direction) -> bool {
        let flow = self.flow(direction);
        flow.stalled || flow.permits == Some(0)
    }

    /// Takes a message's permit. Returns whether the message passes; otherwise it is lost.
    fn pass(&mut self, direction: Direction) -> bool {
        let flow = self.flow(direction);
        if let Some(permits) = &mut flow.permits {
            *permits = permits.saturating_sub(1);
        }
        if flow.losses > 0 {
            flow.losses -= 1;
            return false;
        }
        !flow.chance.as_mut().is_some_and(Chance::strikes)
    }
}

impl Chance {
    /// `SplitMix64`: small, and deterministic for a seed on every platform.
    fn strikes(&mut self) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(u64::from(self.one_in.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    #[test]
    fn the_directions_do_not_know_each_other() {
        let mut state = Directions::default();
        state.stall(Outgoing);
        state.lose(Incoming, 1);
        assert!(state.waits(Outgoing) && !state.waits(Incoming));
        assert!(!state.pass(Incoming) && state.pass(Incoming) && state.pass(Outgoing));
    }

    #[test]
    fn each_permit_is_for_one_message() {
        let mut state = Directions::default();
        state.permit(Outgoing, 0);
        assert!(state.waits(Outgoing));
        state.permit(Outgoing, 2);
        assert!(state.pass(Outgoing) && !state.waits(Outgoing));
        assert!(state.pass(Outgoing) && state.waits(Outgoing));
        state.resume(Outgoing);
        assert!(!state.waits(Outgoing));
    }

    #[test]
    fn the_same_seed_loses_the_same_messages() {
        let losses = |seed| {
            let mut state = Directions::default();
            state.lose_some(Outgoing, NonZeroU32::new(10).unwrap(), seed);
            (0..1000).filter(|_| !state.pass(Outgoing)).collect::<Vec<_>>()
        };
        assert_eq!(losses(1), losses(1));
        assert_ne!(losses(1), losses(2));
        assert!((50..200).contains(&losses(1).len()), "{}", losses(1).len());
    }

    #[test]
    fn a_cut_is_for_good() {
        let mut state = Directions::default();
        state.half_open();
        state.cut();
        assert_eq!(state.end(), PermanentFault::Cut);
        state.ended();
        state.cut();
        state.half_open();
        state.resume(Incoming);
        assert_eq!(state.end(), PermanentFault::Ended);
    }
}
