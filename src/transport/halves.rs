use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// The wakers of a transport's two halves, as one waker that wakes both.
///
/// A transport keeps one waker per direction, the newest. When one half makes the transport do the other's work
/// (reading has to write a pong, writing has to read a close), its own waker would replace the other half's. It passes
/// this waker instead.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Halves {
    /// Creates both halves, and the waker of both.
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
