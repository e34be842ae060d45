use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

use super::{CUT, Drain, OPEN};

/// The tasks of one connection. Each is woken when the drain starts and when it cuts.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    handler: AtomicWaker,
}

impl Wakers {
    pub(super) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
        self.handler.wake();
    }
}

/// A place among the connections of a [`Drain`], held by the transport and by its handler, and released when both are
/// gone.
pub(crate) struct Seat {
    pub(super) drain: Drain,
    id: u64,
    pub(super) wakers: Arc<Wakers>,
}

impl Seat {
    pub(super) const fn new(drain: Drain, id: u64, wakers: Arc<Wakers>) -> Self {
        Self { drain, id, wakers }
    }

    #[inline]
    pub(super) fn is_started(&self) -> bool {
        self.drain.0.phase() != OPEN
    }

    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.drain.0.phase() == CUT
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.drain.0.leave(self.id);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("id", &self.id).finish_non_exhaustive()
    }
}

pin_project! {
    /// A handler that runs until it ends or the drain cuts it. Without a seat it is only the handler.
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct Attended<F> {
        #[pin]
        handler: F,
        seat: Option<Arc<Seat>>,
    }
}

impl<F> Attended<F> {
    pub(crate) const fn new(handler: F, seat: Option<Arc<Seat>>) -> Self {
        Self { handler, seat }
    }
}

impl<F: Future<Output = ()>> Future for Attended<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(seat) = this.seat else { return this.handler.poll(cx) };
        if seat.is_cut() || this.handler.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        seat.wakers.handler.register(cx.waker());
        if seat.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}
