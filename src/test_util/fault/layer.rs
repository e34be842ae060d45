use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tower_layer::Layer;

use super::{
    state::{Direction, State},
    transport::{Fault, Link},
};

/// The controller of the faults of all transports that its [`layer`](Self::layer) wrapped. Clones control the same.
///
/// What is said here holds for the transports that stand now; one that is wrapped later (after a reconnect, say) begins
/// without a fault.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Weak<Link>>>>);

/// Wraps a transport in a [`Fault`].
#[derive(Clone, Debug)]
pub struct FaultLayer {
    faults: Faults,
}

impl Faults {
    /// A controller without a transport.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The layer that puts transports under this control.
    #[must_use]
    pub fn layer(&self) -> FaultLayer {
        FaultLayer { faults: self.clone() }
    }

    /// Nothing moves in this direction: `poll_ready` and `poll_flush`, or `poll_next`, are `Pending` until
    /// [`resume`](Self::resume).
    pub fn stall(&self, direction: Direction) {
        self.change(|state| state.stall(direction));
    }

    /// Takes every fault off this direction. Not after [`half_open`](Self::half_open) or [`cut`](Self::cut): these are for
    /// good.
    pub fn resume(&self, direction: Direction) {
        self.change(|state| state.resume(direction));
    }

    /// The next `messages` of this direction are lost, without a word to either end.
    pub fn lose(&self, direction: Direction, messages: usize) {
        self.change(|state| state.lose(direction, messages));
    }

    /// From now on about one message in `one_in` is lost, the same ones for the same seed.
    pub fn lose_some(&self, direction: Direction, one_in: NonZeroU32, seed: u64) {
        self.change(|state| state.lose_some(direction, one_in, seed));
    }

    /// From now on a message passes in this direction only with a permit, and here are so many more of them. With 0 the
    /// direction stands until the next call: that is how a slow peer is played without a clock.
    pub fn permit(&self, direction: Direction, messages: usize) {
        self.change(|state| state.permit(direction, messages));
    }

    /// The peer vanishes without a word: what is sent is swallowed, as if it were delivered, and nothing comes in any more,
    /// not even the end. `poll_close` is ready.
    pub fn half_open(&self) {
        self.change(State::half_open);
    }

    /// The connection is cut: the stream gives an error that [`is_closed`](crate::Error::is_closed) and then ends, the sink
    /// fails with the same. The peer notices when the transport under test is dropped, as one that is cut should be.
    pub fn cut(&self) {
        self.change(State::cut);
    }

    fn change(&self, change: impl Fn(&mut State)) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.faults.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&link));
        Fault::new(inner, link)
    }
}
