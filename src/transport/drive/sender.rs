use std::{
    future::{self, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;
use tower_service::Service;

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
use super::watch::CloseWatch;
use super::{
    outbox::{Admission, End, Gone},
    queues::{Queues, wake_all},
    try_send_error::TrySendError,
    waiters::Position,
    watch::{EndWatch, Undriven},
};
use crate::{
    CloseFrame, Error,
    transport::{backlog::Entry, wakers::poll_prepared},
};

/// A writing end of a [driven](crate::TransportExt::drive) transport. Clone it for every task that writes.
///
/// It is a `Sink<Out>` and a `Service<Out, Response = ()>`. In both, and in [`send`](Self::send), a taken message is
/// *accepted*: it is in the bounded queue. [`flush`](Self::flush) waits until accepted messages have been handed to the
/// operating system. Messages of one sender keep their order, except that pings and pongs overtake.
///
/// A ready sender has reserved a place in the queue. The next message takes it; [`abort_send`](Self::abort_send) or
/// dropping the sender returns it. A clone starts without a place. [`WhenFull`](crate::WhenFull) determines what
/// happens if there is no place. Senders wait for places in line, first come, first served. If a woken sender does not
/// poll, for example because its future was dropped, its turn passes to the next one once the driver has checked again.
///
/// When the last sender is dropped, or closed by `Sink::poll_close`, accepted messages are sent and the transport is
/// closed. To close it with a code, or while there are other senders, use [`close`](Self::close).
pub struct Sender<Out, In = Out> {
    queues: Arc<Queues<Out, In>>,
    id: u64,
    ticket: Option<u64>,
    has_place: bool,
    flush: Option<Position>,
    /// The number of losses of accepted messages that this sender has been told of.
    losses: u64,
    is_closed: bool,
}

impl<Out, In> Sender<Out, In> {
    pub(super) fn new(queues: Arc<Queues<Out, In>>) -> Self {
        let mut outbox = queues.outbox.lock();
        let (id, losses) = (outbox.join(), outbox.losses());
        drop(outbox);
        Self { queues, id, ticket: None, has_place: false, flush: None, losses, is_closed: false }
    }

    /// Sends one message. Waits for a place in the queue if the queue's policy is to wait, and takes it.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true, or the error that ended the transport, if
    /// the transport has ended or a sender has [closed](Self::close) it. Returns an error for which
    /// [`is_full`](Error::is_full) is true if the queue is full and therefore [closes](crate::WhenFull::Close) the
    /// connection, and one for which [`is_config`](Error::is_config) is true if the queue is full and nobody has polled
    /// the [driver](crate::Driven::into_parts) yet, after 10 seconds (never in wasm32 and with `panic = "abort"`). The
    /// message is lost in each case.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready sends nothing, and gives up its place in line. Once it is ready the
    /// message is accepted.
    pub fn send(&self, message: Out) -> Sending<'_, Out, In> {
        Sending {
            sender: self,
            ticket: None,
            entry: Some(self.queues.measure.entry(message)),
            undriven: Undriven::new(),
        }
    }

    /// Sends one message if there is a place for it now, and returns it otherwise. It does not overtake waiting
    /// senders.
    ///
    /// # Errors
    ///
    /// Returns a [`TrySendError`] with the message if the queue has no place for it or accepts no more messages. If the
    /// queue's policy is to drop, the message is taken (and may be dropped and counted). If the policy is to
    /// [close](crate::WhenFull::Close), a full queue closes the connection, and the error has no message.
    ///
    /// ```
    /// use tower_transport::{Message, QueueConfig, TransportExt, channel};
    ///
    /// let (here, _there) = channel::<Message, Message>(8);
    /// let (sender, _receiver, _driver) = here.drive(QueueConfig::messages().max_messages(1.try_into()?)).into_parts();
    /// assert!(sender.try_send(Message::text("one")).is_ok());
    ///
    /// let refused = sender.try_send(Message::text("two")).unwrap_err();
    /// assert!(refused.error().is_full());
    /// assert_eq!(refused.into_message(), Some(Message::text("two")));
    /// # Ok::<(), std::num::TryFromIntError>(())
    /// ```
    pub fn try_send(&self, message: Out) -> Result<(), TrySendError<Out>> {
        // Measured before the lock: size and key are functions of the user.
        let entry = self.queues.measure.entry(message);
        if self.is_closed {
            return Err(TrySendError::new(closed_sender(), Some(entry.message)));
        }
        let mut outbox = self.queues.outbox.lock();
        match outbox.admit(None, Some(&entry)) {
            Admission::Ready => {
                let (result, gone) = outbox.push(entry);
                drop(outbox);
                drop(gone);
                self.queues.driver.wake();
                result.map_err(|error| TrySendError::new(error, None))
            }
            Admission::Wait => {
                let look_again = outbox.free() > 0;
                drop(outbox);
                if look_again {
                    self.queues.driver.wake();
                }
                Err(TrySendError::new(Error::full("the outgoing queue has no place"), Some(entry.message)))
            }
            Admission::Closed(error) => {
                drop(outbox);
                Err(TrySendError::new(error, Some(entry.message)))
            }
        }
    }

    /// Closes the transport with this code and reason, for all senders. Accepted messages are sent first.
    ///
    /// The close begins with the call, not with the first poll. From then on every [`send`](Self::send), including
    /// those that already wait, returns an error for which [`is_closed`](Error::is_closed) is true. The future is ready
    /// once the transport is closed. It works above any codec: the frame travels next to the messages, by
    /// [`signal::close_frame`](crate::transport::signal::close_frame). A transport without close codes is closed in its
    /// own way.
    ///
    /// The first frame wins: if the transport is already closing, this call only waits.
    ///
    /// # Errors
    ///
    /// Returns the error that ended the transport before it was closed. Returns an error for which
    /// [`is_closed`](Error::is_closed) is true if a full queue [closed](crate::WhenFull::Close) it or the peer did.
    /// Returns an error for which [`is_timeout`](Error::is_timeout) is true if the transport did not take the accepted
    /// messages and the close within [`QueueConfig::close_within`](crate::QueueConfig::close_within); the connection is
    /// then cut. A server's session that waits for its client has its own time for that. An event stream, which has no
    /// driver, is given up only while this future is polled. Its body then ends with the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops the wait: the transport is still closed.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tower::ServiceBuilder;
    /// use tower_transport::{
    ///     CloseCode, CloseFrame, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel, codec::JsonCodec,
    /// };
    ///
    /// let (here, mut there) = channel::<Message, Message>(8);
    /// let orders = ServiceBuilder::new().codec(JsonCodec::<u32>::new()).service(here);
    /// let (sender, _receiver, driver) = orders.drive(QueueConfig::values()).into_parts();
    /// tokio::spawn(driver);
    ///
    /// sender.send(7).await?;
    /// sender.close(CloseFrame::new(CloseCode::RESTART, "a new version")).await?;
    /// assert!(sender.send(8).await.unwrap_err().is_closed());
    ///
    /// assert_eq!(there.receive_message().await.unwrap()?, Message::text("7"));
    /// let Some(Ok(Message::Close(Some(frame)))) = there.receive_message().await else { panic!("no close message") };
    /// assert_eq!(frame.code(), CloseCode::RESTART);
    /// # Ok::<(), tower_transport::Error>(()) }).unwrap();
    /// ```
    pub fn close(&self, frame: CloseFrame) -> impl Future<Output = Result<(), Error>> {
        // In the call itself, not in the future: a caller that does not await it has closed all the same.
        let wakers = self.queues.outbox.lock().close(frame);
        wake_all(wakers);
        self.queues.driver.wake();
        #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
        let mut watch = CloseWatch::new(&self.queues);
        #[cfg(not(all(feature = "sse", not(target_arch = "wasm32"))))]
        let mut watch = EndWatch::new(&self.queues);
        async move {
            let end = poll_fn(|cx| watch.poll(cx)).await;
            if end.is_clean { Ok(()) } else { Err(end.error) }
        }
    }

    /// Gives up the place that `poll_ready` reserved, or the place in line for one. Returns whether there was either.
    ///
    /// Use it in a task that was ready to send, decides not to, and keeps the sender. Otherwise the place stays
    /// reserved until the next message.
    pub fn abort_send(&mut self) -> bool {
        let (ticket, has_place) = (self.ticket.take(), std::mem::take(&mut self.has_place));
        withdraw(&self.queues, ticket, has_place);
        ticket.is_some() || has_place
    }

    /// Waits until all messages of any sender that are accepted by now have been handed to the operating system.
    ///
    /// # Errors
    ///
    /// Returns the error that ended the transport before that. Returns an error that [is a
    /// rejection](Error::is_rejection), once, if messages that any sender had sent since this sender's last flush were
    /// lost with a connection and the transport continues with another one. Call it again for the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.flush = None;
        let mut undriven = Undriven::new();
        poll_fn(|cx| match self.poll_flushed(cx) {
            Poll::Pending => undriven.poll(&self.queues, cx).map(Err),
            flushed => flushed,
        })
        .await
    }

    /// Waits until either side has ended the transport, and returns the reason: the error of every later
    /// [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn closed(&self) -> Error {
        wait_for_end(&self.queues).await.error
    }

    /// Returns whether every [`send`](Self::send) fails from now on: the transport has ended or is being closed, or
    /// this sender is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed || self.queues.outbox.lock().closed().is_some()
    }

    /// Returns the number of waiting messages.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queues.outbox.lock().len()
    }

    /// Returns the number of waiting bytes, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queues.outbox.lock().bytes()
    }

    /// Returns the number of messages dropped since the beginning: by the queue's policy, because the transport
    /// rejected them, or because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queues.outbox.lock().dropped()
    }

    /// Returns a handle to the depth of the queue, which does not count as a sender.
    #[cfg(feature = "optimized")]
    pub(crate) fn depth(&self) -> QueueDepth<Out, In> {
        QueueDepth(self.queues.clone())
    }

    #[cfg(any(test, feature = "rt"))]
    pub(super) fn queues(&self) -> &Queues<Out, In> {
        &self.queues
    }

    /// Removes this sender from the count of senders.
    fn leave(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        self.abort_send();
        // The last one to leave closes the queue, and only the driver can close the transport.
        let was_last = self.queues.outbox.lock().part();
        if was_last {
            self.queues.driver.wake();
        }
    }

    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_closed {
            return Poll::Ready(Err(closed_sender()));
        }
        if self.has_place {
            return Poll::Ready(match self.queues.outbox.lock().closed() {
                Some(error) => Err(error),
                None => Ok(()),
            });
        }
        let result = ready!(poll_admission(&self.queues, &mut self.ticket, &mut None, cx));
        self.has_place = result.is_ok();
        Poll::Ready(result)
    }

    fn push(&mut self, message: Out) -> Result<(), Error> {
        if !std::mem::take(&mut self.has_place) {
            return Err(Error::full("a message was sent before its sender was ready; wait for `poll_ready` first"));
        }
        // A flush that was begun and given up waited for the messages before this one. The next flush is for this one
        // too.
        self.flush = None;
        let entry = self.queues.measure.entry(message);
        let (result, gone) = self.queues.outbox.lock().push(entry);
        drop(gone);
        self.queues.driver.wake();
        result
    }

    fn poll_flushed(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        poll_prepared(cx, |prepared| {
            let mut outbox = self.queues.outbox.lock();
            if let Some(error) = outbox.take_loss(&mut self.losses) {
                return Some(Err(error));
            }
            // Kept over the polls: other senders push meanwhile, and their messages must not hold up this flush.
            let mark = *self.flush.get_or_insert_with(|| outbox.accepted());
            if outbox.flushes.poll(mark, self.id, prepared) {
                self.flush = None;
                return Some(Ok(()));
            }
            outbox.over().map(Err)
        })
    }
}

/// The depth of a queue.
#[cfg(feature = "optimized")]
pub(crate) struct QueueDepth<Out, In = Out>(Arc<Queues<Out, In>>);

#[cfg(feature = "optimized")]
impl<Out, In> QueueDepth<Out, In> {
    /// Returns the number of waiting messages, of waiting bytes, and of messages dropped since the beginning.
    pub(crate) fn get(&self) -> (usize, usize, u64) {
        let outbox = self.0.outbox.lock();
        (outbox.len(), outbox.bytes(), outbox.dropped())
    }
}

#[cfg(feature = "optimized")]
impl<Out, In> Clone for QueueDepth<Out, In> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

fn closed_sender() -> Error {
    Error::closed("this sender was closed")
}

/// Waits until the transport has ended, and returns the reason.
async fn wait_for_end<Out, In>(queues: &Queues<Out, In>) -> End {
    let mut watch = EndWatch::new(queues);
    poll_fn(|cx| watch.poll(cx)).await
}

/// Takes a place and puts the message into it if there is one already; otherwise takes a place in line.
fn poll_admission<Out, In>(
    queues: &Queues<Out, In>,
    ticket: &mut Option<u64>,
    entry: &mut Option<Entry<Out>>,
    cx: &Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut may_look_again = false;
    let polled = poll_prepared(cx, |prepared| {
        let mut outbox = queues.outbox.lock();
        let admission = outbox.admit(*ticket, entry.as_ref());
        if matches!(admission, Admission::Wait) {
            // The ticket keeps its age over several polls, and over several wakers.
            outbox.waiters.sleep(ticket, prepared);
            may_look_again = outbox.free() > 0;
            return None;
        }
        // In the same lock as the push: between the two another sender would see one waiter too few.
        let waker = ticket.take().and_then(|ticket| outbox.waiters.leave(ticket));
        let (result, gone) = match (admission, entry.take()) {
            (Admission::Closed(error), entry) => (Err(error), entry.map_or(Gone::Nothing, Gone::One)),
            (_, Some(entry)) => outbox.push(entry),
            (_, None) => (Ok(()), Gone::Nothing),
        };
        // The senders behind this one have moved up.
        queues.pass_turns(outbox, &mut Vec::new());
        drop((waker, gone));
        Some(result)
    });
    // The driver ends the turn of a sender that does not come. It may be asleep, as the queue that it serves is not
    // full.
    if polled.is_pending() && may_look_again {
        queues.driver.wake();
    }
    polled
}

/// Gives up a place in line or a reserved place, and wakes the senders that move up.
fn withdraw<Out, In>(queues: &Queues<Out, In>, ticket: Option<u64>, has_place: bool) {
    if ticket.is_none() && !has_place {
        return;
    }
    let mut outbox = queues.outbox.lock();
    let waker = ticket.and_then(|ticket| outbox.waiters.leave(ticket));
    if has_place {
        outbox.give_back();
    }
    queues.pass_turns(outbox, &mut Vec::new());
    drop(waker);
}

impl<Out, In> Clone for Sender<Out, In> {
    fn clone(&self) -> Self {
        if !self.is_closed {
            return Self::new(self.queues.clone());
        }
        // It does not count among the senders, and neither does its clone.
        let id = self.queues.outbox.lock().id();
        let queues = self.queues.clone();
        Self { queues, id, ticket: None, has_place: false, flush: None, losses: self.losses, is_closed: true }
    }
}

impl<Out, In> Drop for Sender<Out, In> {
    fn drop(&mut self) {
        self.leave();
        let waker = self.queues.outbox.lock().flushes.forget(self.id);
        drop(waker);
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
    type Future = future::Ready<Result<(), Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_place(cx)
    }

    fn call(&mut self, message: Out) -> Self::Future {
        future::ready(self.push(message))
    }
}

debug_fields!([Out, In] Sender<Out, In>, |this| {
    queued: this.queued(),
    queued_bytes: this.queued_bytes(),
    dropped: this.dropped(),
});

/// The future of [`Sender::send`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sending<'a, Out, In> {
    sender: &'a Sender<Out, In>,
    ticket: Option<u64>,
    entry: Option<Entry<Out>>,
    undriven: Undriven,
}

impl<Out, In> Unpin for Sending<'_, Out, In> {}

impl<Out, In> Future for Sending<'_, Out, In> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.sender.is_closed {
            return Poll::Ready(Err(closed_sender()));
        }
        let queues = &this.sender.queues;
        let Poll::Ready(result) = poll_admission(queues, &mut this.ticket, &mut this.entry, cx) else {
            return this.undriven.poll(queues, cx).map(Err);
        };
        queues.driver.wake();
        Poll::Ready(result)
    }
}

impl<Out, In> Drop for Sending<'_, Out, In> {
    fn drop(&mut self) {
        withdraw(&self.sender.queues, self.ticket.take(), false);
    }
}

debug_fields!([Out, In] Sending<'_, Out, In> {});
