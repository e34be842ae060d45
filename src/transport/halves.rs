use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// The wakers of the two halves of a transport, as one waker that wakes both.
///
/// A transport keeps one waker a direction, the newest. Where one half makes the transport do the other's work (reading has to
/// write a pong, writing has to read a close), it would put its own waker where the other half's stood: it gives this one.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Halves {
    /// Both halves, and the waker of both.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let halves = Arc::new(Self::default());
        let waker = Waker::from(halves.clone());
        (halves, waker)
    }
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}
