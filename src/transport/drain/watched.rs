use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::handle::{Drain, Seat};

impl Drain {
    /// Makes an HTTP connection take part in the drain. Returns a future to spawn in place of `connection`.
    ///
    /// `shut_down` is called when the drain [starts](Self::start). It is the connection's own `graceful_shutdown`,
    /// after which hyper answers the request in flight and accepts no other. An upgraded connection belongs to its
    /// transport from then on.
    ///
    /// ```no_run
    /// # async fn serve(tcp: tokio::net::TcpStream, drain: tower_transport::transport::Drain) {
    /// # use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    /// # let service = tower_transport::transport::websocket::WebSocketService::new(|_, _| async {});
    /// let connection = hyper::server::conn::http1::Builder::new()
    ///     .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service))
    ///     .with_upgrades();
    /// tokio::spawn(drain.watch(connection, |connection| connection.graceful_shutdown()));
    /// # }
    /// ```
    ///
    /// The connection counts among [`connections`](Self::connections). A connection that is cut resolves to `None`.
    pub fn watch<C, F>(&self, connection: C, shut_down: F) -> Watched<C, F>
    where
        C: Future,
        F: FnOnce(Pin<&mut C>),
    {
        Watched { connection, shut_down: Some(shut_down), seat: self.enter() }
    }
}

pin_project! {
    /// The future of [`Drain::watch`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Watched<C, F> {
        #[pin]
        connection: C,
        shut_down: Option<F>,
        seat: Arc<Seat>,
    }
}

impl<C, F> Future for Watched<C, F>
where
    C: Future,
    F: FnOnce(Pin<&mut C>),
{
    type Output = Option<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        this.seat.wakers.reader.register(cx.waker());
        if this.seat.is_cut() {
            return Poll::Ready(None);
        }
        if this.seat.is_started()
            && let Some(shut_down) = this.shut_down.take()
        {
            shut_down(this.connection.as_mut());
        }
        this.connection.poll(cx).map(Some)
    }
}

impl<C, F> fmt::Debug for Watched<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("seat", &self.seat).finish_non_exhaustive()
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
        // Read again: the cut may have come before the waker was registered.
        if seat.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}
