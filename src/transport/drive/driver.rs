use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    outbox::Next,
    queues::{BATCH, Consumer, Queues},
};
use crate::{
    CloseFrame, Error, Transport,
    transport::{
        QueueConfig,
        close_deadline::{CloseDeadline, WaitsFor},
        payload::Payload,
        signal::{self, Mark},
    },
};

/// The maximum number of messages that one poll moves each way before it flushes and lets other tasks run.
const BUDGET: usize = 1024;

/// The number of idle polls in a row after which the queues release memory that an idle connection does not need.
const IDLE: u8 = 2;

pin_project! {
    /// The task of a [driven](crate::TransportExt::drive) transport. This future owns the whole stack and moves
    /// messages between it and the [`Sender`](super::Sender)s and the [`Receiver`](super::Receiver). Spawn it.
    ///
    /// It guarantees:
    ///
    /// - **Queues flushes.** All queued messages are fed to the transport and then flushed once.
    /// - **Independent directions.** A peer that does not read blocks only the writing; a full inbox blocks only the
    ///   reading. The transport's own work (pongs, heartbeats) continues even if no task sends or receives, unless the
    ///   inbox is full.
    /// - **Control first.** Pings and pongs overtake waiting data.
    /// - **Bounds.** All waiting messages are within the bounds of the [`QueueConfig`](crate::QueueConfig). Nothing is
    ///   allocated in advance. Waiting messages take memory, and an idle connection releases it except for 16 messages
    ///   each way.
    /// - **A visible end.** When the last sender is gone, or one [closes](super::Sender::close), accepted messages are
    ///   sent and the transport is closed. The same happens when the [`Drain`](crate::transport) of the transport's
    ///   server starts. The driver then reads until the peer has closed too. When the transport ends
    ///   or fails, the receiver gets the messages already read, then the error and `None`; every waiting sender and
    ///   every later call gets the cause. When the driver is dropped, both ends get an error for which
    ///   [`is_closed`](Error::is_closed) is true.
    /// - **A bounded end.** A peer that does not read, or does not close its own end, cannot hold up a close: after
    ///   [`QueueConfig::close_within`](crate::QueueConfig::close_within) without progress the connection is cut.
    ///
    /// It resolves to `Ok` if the transport ended cleanly or was closed, and to the last error otherwise.
    ///
    /// # Cancel safety
    ///
    /// Between polls no operation is half done. Dropping the driver drops the transport and all unsent messages.
    #[must_use = "nothing is sent or received unless the driver is polled: spawn it"]
    pub struct Driver<T, Out, In = Out> {
        #[pin]
        transport: T,
        worker: Worker<Out, In>,
    }
}

/// The driver without the transport, which is pinned.
struct Worker<Out, In> {
    queues: Arc<Queues<Out, In>>,
    /// The outgoing queue. Its batch is empty between polls.
    out: Consumer<Out, In>,
    /// The function that creates the closing message, used once.
    payload: Payload<Out>,
    /// Whether the transport holds unflushed messages.
    is_dirty: bool,
    /// Whether this poll moved a message.
    has_moved: bool,
    /// The number of polls in a row that moved nothing, up to [`IDLE`].
    idle: u8,
    writing: Writing,
    /// The frame with which the transport is closed.
    frame: Option<CloseFrame>,
    /// The error after which the sink cannot be used.
    write_error: Option<Error>,
    /// The last item that was read, if it was an error.
    read_error: Option<Error>,
    /// Runs from the moment the queue is closing until the sink is closed, and from then until the peer has closed.
    deadline: CloseDeadline,
}

/// The state of the writing direction. Each row describes one poll.
///
/// | | is fed | then | time limit |
/// |---|---|---|---|
/// | `Open` | messages from the queue | `poll_flush`, if anything was fed | once the queue is closing |
/// | `Closing` | the close message, once, if the transport is ready | `poll_close`, with the frame | yes |
/// | `Closed` | nothing | nothing | while the inbox has room |
/// | `Failed` | nothing | nothing | no |
///
/// `Open` becomes `Closing` once the queue is closing and empty, which becomes `Closed` once `poll_close` is ready.
/// Both become `Failed` if the sink fails. The driver ends with the stream.
///
/// The queue empties before a requested close. If it overflowed, it closes immediately and discards both the waiting
/// messages and those that the driver puts back. It accepts no message from then on, so `Closing` never returns to
/// `Open`, and nothing is fed after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The transport is being closed: the last sender is gone, a sender has asked for the close, or the queue
    /// overflowed.
    Closing,
    /// The sink is closed. The stream yields items until the peer has closed too.
    Closed,
    /// The sink has failed. The stream may still yield items, and usually the reason.
    Failed,
}

/// The state of one direction at the end of its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is more to do, but other tasks run first.
    Yield,
    Wait,
    /// The stream has ended.
    Ended,
}

impl<T, Out, In> Driver<T, Out, In> {
    pub(super) fn new(transport: T, queues: Arc<Queues<Out, In>>, queue: &QueueConfig<Out, In>) -> Self {
        let worker = Worker {
            out: Consumer::new(queues.clone()),
            queues,
            payload: queue.outgoing,
            is_dirty: false,
            has_moved: false,
            idle: 0,
            writing: Writing::Open,
            frame: None,
            write_error: None,
            read_error: None,
            deadline: CloseDeadline::new(queue.close_within),
        };
        Self { transport, worker }
    }
}

#[cfg(test)]
impl<T, Out, In> Driver<T, Out, In> {
    /// Returns the number of messages for which memory is allocated.
    pub(super) fn capacity(&self) -> usize {
        self.worker.out.batch.capacity()
    }
}

impl<Out, In> Worker<Out, In> {
    /// Gives waiting messages to the transport, and flushes.
    fn write<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Turn
    where
        T: Transport<Out, In = In>,
    {
        let mut turn = Turn::Wait;
        // Each turn feeds as much as it can before it flushes: queued messages share one flush. Feeding may change the
        // state, so the flush below asks again: the close that the queue has asked for begins in the same turn.
        if self.writing == Writing::Open {
            match self.feed(transport.as_mut(), cx) {
                Ok(fed) => turn = fed,
                Err(error) => self.fail(error),
            }
        }
        let flushed = match self.writing {
            Writing::Open if self.is_dirty => signal::holding(|| transport.poll_flush(cx)),
            Writing::Closing => signal::with_close_frame(self.frame.as_ref(), || transport.poll_close(cx)),
            _ => return turn,
        };
        match flushed {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                self.out.flushed();
                if self.writing == Writing::Closing {
                    self.writing = Writing::Closed;
                    self.deadline.stop();
                    self.out.end(&Error::closed("the connection was closed by this end"), true);
                }
            }
            Poll::Ready(Err(error)) => {
                let error = error.into();
                if !error.is_rejection() {
                    self.fail(error);
                    return turn;
                }
                // Messages that the transport had accepted are lost. The transport continues, and so does the flush or
                // the close.
                self.lose(error);
                return Turn::Yield;
            }
        }
        turn
    }

    fn feed<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Result<Turn, Error>
    where
        T: Transport<Out, In = In>,
    {
        // In batches, so that the lock of the queue is held for few messages at a time and senders get their turn.
        for round in 0..BUDGET / BATCH {
            match self.out.refill(round == 0) {
                Next::Close(frame) => {
                    self.begin_close(transport, cx, frame);
                    return Ok(Turn::Wait);
                }
                Next::GoOn if self.out.batch.is_empty() => return Ok(Turn::Wait),
                Next::GoOn => {}
            }
            if let Some(turn) = self.feed_batch(transport.as_mut(), cx)? {
                self.out.settle();
                return Ok(turn);
            }
        }
        self.out.settle();
        Ok(Turn::Yield)
    }

    /// Begins the close: the queue yields no more messages. If a message type can express a close, the transport is
    /// given that message too, because transports that do not know [`signal::close_frame`] would otherwise tell the
    /// peer nothing.
    fn begin_close<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>, frame: Option<CloseFrame>)
    where
        T: Transport<Out, In = In>,
    {
        self.writing = Writing::Closing;
        if let Some(frame) = &frame
            && let Some(close) = self.payload.make_close(frame.clone())
            // A full transport would delay the close for as long as its peer does not read; `poll_close` has a limit.
            && matches!(transport.as_mut().poll_ready(cx), Poll::Ready(Ok(())))
        {
            // The transport may already be closed.
            let _ = transport.as_mut().start_send(close);
        }
        self.frame = frame;
    }

    /// Gives the batch to the transport. Returns how the turn ends if the transport did not take all of it.
    fn feed_batch<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Result<Option<Turn>, Error>
    where
        T: Transport<Out, In = In>,
    {
        while !self.out.batch.is_empty() {
            match signal::holding(|| transport.as_mut().poll_ready(cx)).map_err(Into::into) {
                Poll::Ready(Ok(())) => {}
                // The error concerns earlier messages. The batch is put back and goes on in the next turn.
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    self.lose(error);
                    return Ok(Some(Turn::Yield));
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Some(Turn::Wait)),
            }
            let Some(entry) = self.out.batch.pop_front() else { break };
            // Counted before it is sent: a message that fails left the queue all the same.
            self.out.fed.count(&entry);
            self.is_dirty = true;
            // Not set if the transport takes nothing: the driver would keep itself awake for as long as the peer does
            // not read.
            self.has_moved = true;
            if let Err(error) = transport.as_mut().start_send(entry.message) {
                let error = error.into();
                self.out.fed.refused += 1;
                // Any other error concerns this message. If it is the transport's end, the next poll tells it.
                if error.is_closed() && !error.is_rejection() {
                    return Err(error);
                }
                self.refuse(error.into_rejection().into_unsent());
            }
        }
        Ok(None)
    }

    /// Reports a message that could not be sent, while others can. The receiver gets the error if it has room.
    fn refuse(&mut self, error: Error) {
        let mut inbox = self.queues.inbox.lock();
        let gone = if inbox.has_room() { inbox.push(Err(error), 0) } else { Some(Err(error)) };
        self.queues.wake_receiver(inbox);
        drop(gone);
    }

    /// Reports the loss of messages that the transport had accepted. The receiver gets the error if it has room, and so
    /// do waiting flushes.
    fn lose(&mut self, error: Error) {
        self.out.lose(error.clone());
        self.refuse(error);
    }

    /// Returns `Ready` once a close has taken too long, until the sink is closed. `mark` was taken before the
    /// writing of this poll.
    fn poll_writing_deadline(&mut self, mark: Mark, cx: &mut Context<'_>) -> Poll<()> {
        let waits_for = match self.writing {
            Writing::Open if self.queues.outbox.lock().is_closing() => WaitsFor::Room,
            Writing::Closing => WaitsFor::Transport,
            Writing::Open | Writing::Closed | Writing::Failed => return Poll::Pending,
        };
        self.deadline.poll(self.has_moved || mark.has_moved(), waits_for.unless_client(mark), cx)
    }

    /// Returns `Ready` once the peer has not closed for too long after this end has. `mark` was taken before the
    /// reading.
    fn poll_reading_deadline(&mut self, mark: Mark, cx: &mut Context<'_>) -> Poll<()> {
        if self.writing != Writing::Closed {
            return Poll::Pending;
        }
        // A slow receiver is not a dead peer.
        if !self.queues.inbox.lock().has_room() {
            self.deadline.stop();
            return Poll::Pending;
        }
        self.deadline.poll(self.has_moved || mark.has_moved(), WaitsFor::Transport, cx)
    }

    /// Gives up a transport that could not be closed in time, or whose peer did not close, and reports it.
    fn cut(&mut self) -> Error {
        let limit = self.deadline.limit();
        let lost = self.queues.outbox.lock().len();
        let error = match self.writing {
            Writing::Closed => Error::timeout(format!(
                "the connection was cut: this end has closed, and the peer neither closed nor sent anything for \
                 {limit:?} (QueueConfig::close_within)"
            )),
            _ => Error::timeout(format!(
                "the connection was cut: it could not be closed within {limit:?} without progress \
                 (QueueConfig::close_within). Lost: {lost} queued messages, and those that the transport had not \
                 written"
            )),
        };
        crate::log::close_cut(&error, lost);
        self.fail(error.clone());
        // Even into a full inbox: it is the last item.
        let mut inbox = self.queues.inbox.lock();
        let gone = inbox.push(Err(error.clone()), 0);
        drop(inbox);
        drop(gone);
        self.end_reading();
        error
    }

    /// Passes on, in order with the incoming messages, that the connection was lost and replaced by another.
    fn pass_on_loss(&self, mark: Mark) {
        if mark.has_lost() {
            let mut inbox = self.queues.inbox.lock();
            inbox.push_loss();
            self.queues.wake_receiver(inbox);
        }
    }

    /// Ends the writing after the sink failed. The peer's last messages may still be read.
    fn fail(&mut self, error: Error) {
        self.writing = Writing::Failed;
        self.out.end(&error, false);
        self.write_error = Some(error);
    }

    /// Reads from the transport while the inbox has room.
    fn read<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Turn
    where
        T: Transport<Out, In = In>,
    {
        let mut has_room = self.queues.inbox.lock().has_room();
        for _ in 0..BUDGET {
            if !has_room {
                return Turn::Wait;
            }
            let mark = Mark::now();
            // A report of an earlier poll must not count for this message.
            signal::take_decoded();
            let polled = signal::holding(|| transport.as_mut().poll_next(cx));
            let decoded = signal::take_decoded();
            self.pass_on_loss(mark);
            let message = match polled {
                Poll::Pending => return Turn::Wait,
                Poll::Ready(None) => return Turn::Ended,
                Poll::Ready(Some(message)) => message.map_err(Into::into),
            };
            self.has_moved = true;
            self.read_error = match &message {
                // A layer that sends from the reader's task reports lost messages here, and the transport continues.
                Err(error) if error.is_rejection() && error.is_closed() => {
                    self.out.lose(error.clone());
                    None
                }
                message => message.as_ref().err().cloned(),
            };
            let size = message.as_ref().map_or(0, |message| {
                self.queues.incoming.known_size(message).unwrap_or_else(|| size_of::<In>().max(decoded))
            });
            let mut inbox = self.queues.inbox.lock();
            let gone = inbox.push(message, size);
            has_room = inbox.has_room();
            self.queues.wake_receiver(inbox);
            // A message is the user's, and its drop may use the queue.
            drop(gone);
        }
        Turn::Yield
    }

    /// Returns whether every sender and receiver is gone, so there is no one left to notify.
    fn is_pointless(&self) -> bool {
        self.write_error.is_some() && self.queues.inbox.lock().abandoned
    }

    fn end_reading(&self) {
        let mut inbox = self.queues.inbox.lock();
        inbox.ended = true;
        self.queues.wake_receiver(inbox);
    }

    /// Closes the queue, because the transport's server drains. The transport leaves its close to the driver, which
    /// gives it everything that was accepted before. Returns whether there is something to do now.
    fn begin_drain(&mut self) -> bool {
        let is_new = !self.queues.outbox.lock().is_closing() && self.writing == Writing::Open;
        if is_new {
            self.out.drain();
        }
        is_new
    }

    /// Releases memory once nothing has moved for a while. Returns whether to check again.
    fn rest(&mut self) -> bool {
        if std::mem::take(&mut self.has_moved) {
            self.idle = 0;
        } else if self.idle == IDLE {
            return false;
        } else {
            self.idle += 1;
        }
        if self.idle == IDLE {
            self.out.trim();
            self.queues.inbox.lock().trim();
            return false;
        }
        self.out.has_spare() || self.queues.inbox.lock().has_spare()
    }
}

impl<T, Out, In> Future for Driver<T, Out, In>
where
    T: Transport<Out, In = In>,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let worker = this.worker;
        // Before the queues are looked at: a sender that pushes after the look wakes this task again.
        worker.queues.driver.register(cx.waker());
        worker.queues.drive();
        let mark = Mark::now();
        let since = mark;
        // Writing before reading: an answer that this poll reads may need the room that it makes.
        let wrote = worker.write(this.transport.as_mut(), cx);
        if worker.poll_writing_deadline(mark, cx).is_ready() {
            return Poll::Ready(Err(worker.cut()));
        }
        worker.pass_on_loss(mark);
        // A mark of its own: bytes that the write has moved are no sign of the peer.
        let mark = Mark::now();
        let read = worker.read(this.transport.as_mut(), cx);
        let is_draining = since.has_drained() && worker.begin_drain();
        if read != Turn::Ended && !worker.is_pointless() {
            if worker.poll_reading_deadline(mark, cx).is_ready() {
                return Poll::Ready(Err(worker.cut()));
            }
            let is_resting = worker.rest();
            // A budget is used up, or idle polls are counted before memory is released. Other tasks go first.
            if wrote == Turn::Yield || read == Turn::Yield || is_draining || is_resting {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let failure = worker.read_error.clone().or(worker.write_error.clone().filter(|error| !error.is_closed()));
        let cause = failure.clone().unwrap_or_else(|| match this.transport.poll_ready(cx) {
            // The transport's own error is the most specific.
            Poll::Ready(Err(error)) => error.into(),
            _ => Error::closed("the peer closed the connection"),
        });
        // The peer's answer to our close may end the stream before `poll_close` is polled again.
        let is_clean = worker.writing == Writing::Closing && failure.is_none();
        worker.out.end(&cause, is_clean);
        worker.end_reading();
        Poll::Ready(failure.map_or(Ok(()), Err))
    }
}

impl<Out, In> Drop for Worker<Out, In> {
    fn drop(&mut self) {
        self.out.end(&Error::closed("the driver of the transport was dropped"), false);
        self.end_reading();
    }
}

debug_fields!([T, Out, In] Driver<T, Out, In>, |this| { writing: this.worker.writing });
