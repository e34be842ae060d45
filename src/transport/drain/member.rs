use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{handle::Drain, registry::Seat};
use crate::{CloseFrame, Error, Message, rt, transport::signal};

/// A transport's membership in a drain. It tells the transport when to begin its close, and wakes its halves for it.
///
/// The close waits until the writing half has nothing more to write, so that messages accepted by a queue above go out
/// first. It waits at most for the time of a close: neither a peer that does not read nor a writer that never ends can
/// delay it further.
#[derive(Debug)]
pub(crate) struct Member {
    seat: Arc<Seat>,
    /// The maximum time for which the writing half may delay the close.
    patience: Duration,
    /// Whether there is a reading half. If so, it performs the close.
    has_reader: bool,
    /// Whether something was written since the reading half last checked.
    has_written: bool,
    /// Whether the writing half waits for room.
    is_waiting: bool,
    /// Whether the reading half has seen that the drain has started.
    has_seen: bool,
    timer: Option<Pin<Box<rt::Sleep>>>,
}

impl Member {
    pub(crate) fn new(seat: Arc<Seat>, patience: Duration) -> Self {
        Self { seat, patience, has_reader: false, has_written: false, is_waiting: false, has_seen: false, timer: None }
    }

    /// Returns the seat, for a handler that is cut with the transport.
    #[cfg_attr(not(feature = "webtransport"), allow(dead_code, reason = "other transports get it in advance"))]
    pub(crate) fn seat(&self) -> Arc<Seat> {
        self.seat.clone()
    }

    /// Returns the cause, once the drain has cut the connection.
    #[inline]
    pub(crate) fn cut(&self) -> Option<Error> {
        self.seat.is_cut().then(|| {
            Error::closed("the connection did not close within the time limit of the server's drain and was cut")
                .with_close_frame(self.frame())
        })
    }

    /// Returns the close frame of the transport.
    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        self.seat.frame()
    }

    /// Returns whether the reading half has nothing to do for the drain.
    #[inline]
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.has_reader = true;
        self.seat.is_quiet()
    }

    /// Takes a message of a broadcast, which the open transport has to send.
    pub(crate) fn take_notice(&mut self) -> Option<Message> {
        self.seat.take_notice()
    }

    /// Checks before the open transport reads. Returns the frame with which to begin the close, once it is time.
    #[inline]
    pub(crate) fn poll_reader(&mut self, cx: &mut Context<'_>) -> Option<CloseFrame> {
        self.has_reader = true;
        if self.seat.is_started() { self.poll_close(cx) } else { None }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Option<CloseFrame> {
        self.has_seen = true;
        signal::drains();
        if signal::is_held() {
            return None;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(rt::sleep(patience)));
        if timer.as_mut().poll(cx).is_pending() {
            if self.is_waiting {
                return None;
            }
            // Messages of a queue above may still come: only a round without any ends the wait.
            if std::mem::take(&mut self.has_written) {
                // A writer in the same task gets its turn before the next check.
                cx.waker().wake_by_ref();
                return None;
            }
        }
        self.timer = None;
        self.frame()
    }

    /// Registers the reading half, which has nothing to read. Returns whether it must check again immediately.
    #[inline]
    pub(crate) fn reader_waits(&mut self, cx: &Context<'_>) -> bool {
        self.seat.wakers().reader.register(cx.waker());
        // Checked once: a transport that is already closing does not ask.
        let has_started = self.seat.is_started();
        (has_started && !std::mem::replace(&mut self.has_seen, has_started))
            || self.seat.is_cut()
            || self.seat.has_notice()
    }

    /// Checks before the open transport makes room for a message. Returns the frame with which to begin the close if
    /// there is no reading half to do so.
    #[inline]
    pub(crate) fn poll_writer(&self) -> Option<CloseFrame> {
        if !self.seat.is_started() {
            return None;
        }
        signal::drains();
        if signal::is_held() {
            return None;
        }
        let close = self.seat.close()?;
        (!self.has_reader || close.at.elapsed() >= self.patience).then(|| close.frame.clone())
    }

    /// Records the state of the writing half after `poll_ready` or `poll_flush`. Returns whether it must check again
    /// immediately.
    #[inline]
    pub(crate) fn writer_waits<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) -> bool {
        let was_waiting = std::mem::replace(&mut self.is_waiting, polled.is_pending());
        if self.is_waiting {
            self.seat.wakers().writer.register(cx.waker());
            return self.seat.is_cut() || (self.seat.is_started() && !self.has_reader && !signal::is_held());
        }
        if was_waiting && self.seat.is_started() {
            self.seat.wakers().reader.wake();
        }
        false
    }

    /// Records that a message was written.
    #[inline]
    pub(crate) fn wrote(&mut self) {
        self.has_written = true;
    }
}

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
        Watched { connection, shut_down: Some(shut_down), seat: self.enter_http() }
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
        this.seat.wakers().reader.register(cx.waker());
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

debug_fields!([C, F] Watched<C, F> { seat });

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
        seat.wakers().handler.register(cx.waker());
        // Read again: the cut may have come before the waker was registered.
        if seat.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}
