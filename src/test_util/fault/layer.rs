use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tower_layer::Layer;

use super::{
    state::{Direction, State},
    transport::{Fault, Link},
};

/// The controller of the faults of all transports that its [`layer`](Self::layer) wrapped. Clones control the same
/// transports.
///
/// A fault applies to the transports that exist at the time of the call. A transport that is wrapped later (for
/// example, after a reconnect) begins without a fault.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Weak<Link>>>>);

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
        self.change(State::half_open);
    }

    /// Cuts the connection: the stream returns an error for which [`is_closed`](crate::Error::is_closed) is true and
    /// then ends, and the sink fails with the same error. The peer notices when the transport under test is dropped, as
    /// a cut one should be.
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
