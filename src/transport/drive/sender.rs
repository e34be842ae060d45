use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_sink::Sink;
use tower_service::Service;

use super::{Shared, flushes::Mark, outbox::Admission, wake_all, watch};
use crate::Error;

/// A writing end of a [driven](crate::TransportExt::drive) transport: clone it for every task that writes.
///
/// It is a `Sink<Out>` and a `Service<Out, Response = ()>`. In both, and in [`send`](Self::send), a message that is taken is
/// *accepted*: it stands in the bounded queue. [`flush`](Self::flush) waits until what was accepted has been handed to the
/// operating system. Messages of one sender keep their order, but that pings and pongs overtake.
///
/// Being ready reserves a place in the queue, which the next message takes, and which dropping the sender gives back; a clone
/// starts without one. What happens when there is no place is [`WhenFull`](crate::WhenFull)'s to say.
///
/// When the last sender is dropped, or closed by `Sink::poll_close`, what was accepted is sent and the transport is closed.
pub struct Sender<Out, In = Out> {
    shared: Arc<Shared<Out, In>>,
    id: u64,
    ticket: Option<u64>,
    has_place: bool,
    flush: Option<Mark>,
    /// How many losses of accepted messages this sender knows of.
    losses: u64,
    is_closed: bool,
}

impl<Out, In> Sender<Out, In> {
    pub(super) fn new(shared: Arc<Shared<Out, In>>) -> Self {
        let mut outbox = shared.outbox();
        let (id, losses) = (outbox.join(), outbox.losses());
        drop(outbox);
        Self { shared, id, ticket: None, has_place: false, flush: None, losses, is_closed: false }
    }

    /// Sends one message: waits for a place in the queue, where the queue's policy is to wait, and takes it.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed), or the error that ended the transport, once it has ended;
    /// [`is_full`](Error::is_full) where the message filled a queue that then
    /// [closes](crate::WhenFull::Close) the connection. The message is lost with it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the message is not sent; ready, it is accepted.
    pub fn send(&self, message: Out) -> Send<'_, Out, In> {
        Send { sender: self, ticket: None, message: Some(message) }
    }

    /// Waits until all that any sender was told is accepted by now has been handed to the operating system.
    ///
    /// # Errors
    ///
    /// Returns the error that ended the transport before that. Returns an error that [is a rejection](Error::is_rejection), once,
    /// if messages that any sender had sent since this one's last flush were lost with a connection and the transport goes on
    /// with another: call it again for the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.flush = None;
        std::future::poll_fn(|cx| self.poll_flushed(cx)).await
    }

    /// Waits until the transport has ended, by either side, and gives the reason: the error of every later [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn closed(&self) -> Error {
        watch::end(&self.shared).await
    }

    /// How many messages wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.outbox().len()
    }

    /// How many bytes wait, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.outbox().bytes()
    }

    /// How many messages were dropped since the beginning: by the queue's policy, because the transport refused them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.outbox().dropped()
    }

    /// Counts no more among the senders.
    fn leave(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        withdraw(&self.shared, self.ticket.take(), std::mem::take(&mut self.has_place));
        let mut outbox = self.shared.outbox();
        outbox.senders -= 1;
        let was_last = outbox.senders == 0;
        drop(outbox);
        if was_last {
            self.shared.driver.wake();
        }
    }

    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_closed {
            return Poll::Ready(Err(Error::closed("this sender was closed")));
        }
        if self.has_place {
            return Poll::Ready(match self.shared.outbox().closed() {
                Some(error) => Err(error),
                None => Ok(()),
            });
        }
        let result = std::task::ready!(poll_admission(&self.shared, &mut self.ticket, &mut None, cx));
        self.has_place = result.is_ok();
        Poll::Ready(result)
    }

    fn push(&mut self, message: Out) -> Result<(), Error> {
        if !std::mem::take(&mut self.has_place) {
            return Err(Error::full("a message was sent before its sender was ready; wait for `poll_ready` first"));
        }
        self.flush = None;
        let result = self.shared.outbox().push(message);
        self.shared.driver.wake();
        result
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut outbox = self.shared.outbox();
        if let Some(error) = outbox.take_loss(&mut self.losses) {
            return Poll::Ready(Err(error));
        }
        let mark = *self.flush.get_or_insert_with(|| outbox.accepted());
        if outbox.flushes.poll(mark, self.id, cx.waker()) {
            self.flush = None;
            return Poll::Ready(Ok(()));
        }
        match outbox.closed() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

/// Takes a place, and puts the message into it if there is one already; or takes a place in line.
fn poll_admission<Out, In>(
    shared: &Shared<Out, In>,
    ticket: &mut Option<u64>,
    message: &mut Option<Out>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut outbox = shared.outbox();
    let admission = outbox.admit(*ticket, message.as_ref());
    if let Admission::Wait = admission {
        match *ticket {
            Some(ticket) => outbox.waiters.sleep(ticket, cx.waker()),
            None => *ticket = Some(outbox.waiters.join(cx.waker())),
        }
        return Poll::Pending;
    }
    if let Some(ticket) = ticket.take() {
        outbox.waiters.leave(ticket);
    }
    Poll::Ready(match admission {
        Admission::Closed(error) => Err(error),
        _ => message.take().map_or(Ok(()), |message| outbox.push(message)),
    })
}

/// Gives up a place in line, or a place, and wakes who moves up.
fn withdraw<Out, In>(shared: &Shared<Out, In>, ticket: Option<u64>, has_place: bool) {
    if ticket.is_none() && !has_place {
        return;
    }
    let mut outbox = shared.outbox();
    if let Some(ticket) = ticket {
        outbox.waiters.leave(ticket);
    }
    if has_place {
        outbox.give_back();
    }
    let free = outbox.free();
    let wakers: Vec<_> = std::iter::from_fn(|| outbox.waiters.next(free)).collect();
    drop(outbox);
    wake_all(wakers);
}

impl<Out, In> Clone for Sender<Out, In> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<Out, In> Drop for Sender<Out, In> {
    fn drop(&mut self) {
        self.leave();
        self.shared.outbox().flushes.forget(self.id);
    }
}

impl<Out, In> Sink<Out> for Sender<Out, In> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_place(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        self.push(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flushed(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.leave();
        self.poll_flushed(cx)
    }
}

impl<Out, In> Service<Out> for Sender<Out, In> {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_place(cx)
    }

    fn call(&mut self, message: Out) -> Self::Future {
        ready(self.push(message))
    }
}

impl<Out, In> fmt::Debug for Sender<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outbox = self.shared.outbox();
        f.debug_struct("Sender")
            .field("queued", &outbox.len())
            .field("queued_bytes", &outbox.bytes())
            .field("dropped", &outbox.dropped())
            .finish_non_exhaustive()
    }
}

/// The future of [`Sender::send`].
#[must_use = "futures do nothing unless awaited"]
pub struct Send<'a, Out, In> {
    sender: &'a Sender<Out, In>,
    ticket: Option<u64>,
    message: Option<Out>,
}

impl<Out, In> Unpin for Send<'_, Out, In> {}

impl<Out, In> Future for Send<'_, Out, In> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let shared = &this.sender.shared;
        let result = std::task::ready!(poll_admission(shared, &mut this.ticket, &mut this.message, cx));
        shared.driver.wake();
        Poll::Ready(result)
    }
}

impl<Out, In> Drop for Send<'_, Out, In> {
    fn drop(&mut self) {
        withdraw(&self.sender.shared, self.ticket.take(), false);
    }
}

impl<Out, In> fmt::Debug for Send<'_, Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send").finish_non_exhaustive()
    }
}
