use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;

use super::{
    Shared,
    outbox::{Fed, Next},
    wake_all,
};
use crate::{
    CloseFrame, Error, Transport,
    transport::{
        backlog::{Entry, KEPT},
        signal::{self, Mark},
    },
};

/// How many messages one lock of the queue moves.
const BATCH: usize = 64;

/// How many messages a poll moves each way before it flushes and lets other tasks run.
const BUDGET: usize = 1024;

/// After this many polls in a row that moved nothing, the queues give back what an idle connection does not need.
const IDLE: u8 = 2;

pin_project! {
    /// The task of a [driven](crate::TransportExt::drive) transport: a future that owns the whole stack and moves messages
    /// between it and the [`Sender`](super::Sender)s and the [`Receiver`](super::Receiver). Spawn it.
    ///
    /// What it promises:
    ///
    /// - **One flush for many.** All that is queued is fed to the transport, then flushed once.
    /// - **Reading and writing never wait for each other.** A peer that does not read stops the writing alone; a full inbox
    ///   stops the reading alone. What the transport does on its own (answers to pings, heartbeats) goes on though nobody
    ///   sends or receives, unless the inbox is full.
    /// - **Control first.** Pings and pongs overtake the data that waits.
    /// - **Bounds.** Everything that waits, waits in the [`Queue`](crate::Queue)'s bounds. Nothing is allocated in advance: memory
    ///   is taken by what waits, and given back once the connection is idle, but for 16 messages each way.
    /// - **An end that everyone sees.** When the last sender is gone, or one [closes](super::Sender::close), what was accepted is
    ///   sent and the transport closed, and the driver reads on until the peer has closed too. When the transport ends or fails, the receiver gets what was
    ///   read, then the error and `None`; every sender that waits, and every later call, gets the cause. When the driver is
    ///   dropped, both ends see [`is_closed`](Error::is_closed).
    ///
    /// It ends with `Ok` when the transport ended by itself or by a close, and with the last error otherwise.
    ///
    /// # Cancel safety
    ///
    /// Between polls nothing is half done; dropping it drops the transport and what was not sent.
    #[must_use = "nothing is sent or received unless the driver is polled: spawn it"]
    pub struct Driver<T, Out, In = Out> {
        #[pin]
        transport: T,
        state: State<Out, In>,
    }
}

/// All but the transport.
struct State<Out, In> {
    shared: Arc<Shared<Out, In>>,
    /// Makes the message that closes, once.
    close: Option<fn(CloseFrame) -> Out>,
    /// Taken from the queue, not yet given to the transport. Empty between polls.
    batch: VecDeque<Entry<Out>>,
    fed: Fed,
    wakers: Vec<Waker>,
    /// The transport holds what was not flushed.
    is_dirty: bool,
    /// This poll moved a message.
    has_moved: bool,
    /// How many polls in a row moved nothing, up to [`IDLE`].
    idle: u8,
    writing: Writing,
    /// With what the transport is closed.
    frame: Option<CloseFrame>,
    /// Why the sink is of no use any more.
    write_error: Option<Error>,
    /// The last thing that was read, if that was an error.
    read_error: Option<Error>,
}

/// How far the writing is. Each row is what one poll does.
///
/// | | is fed | then | becomes |
/// |---|---|---|---|
/// | `Open` | what the queue gives | `poll_flush`, if anything was fed since the last | `Closing` once the queue is closing and empty; `Over` where the sink fails |
/// | `Closing` | the close message, once, where there is one and the transport is ready | `poll_close`, with the close frame | `Over` when that is ready, well or not |
/// | `Over` | nothing | nothing | |
///
/// The queue empties before a close that was asked for, and at once where it overflowed: it discards what waits and what comes back
/// from the driver. It takes no message from then on, so `Closing` is never left for `Open`, and nothing is fed after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The last sender is gone, one has asked for the close, or the queue overflowed: the transport is being closed.
    Closing,
    /// The sink is closed or has failed; the stream may still have something to say.
    Over,
}

/// How one direction stands at the end of its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is more to do, but others have their turn first.
    Yield,
    Wait,
    /// The stream has ended.
    Ended,
}

impl<T, Out, In> Driver<T, Out, In> {
    pub(super) fn new(transport: T, shared: Arc<Shared<Out, In>>, close: Option<fn(CloseFrame) -> Out>) -> Self {
        let state = State {
            shared,
            close,
            batch: VecDeque::new(),
            fed: Fed::default(),
            wakers: Vec::new(),
            is_dirty: false,
            has_moved: false,
            idle: 0,
            writing: Writing::Open,
            frame: None,
            write_error: None,
            read_error: None,
        };
        Self { transport, state }
    }
}

#[cfg(test)]
impl<T, Out, In> Driver<T, Out, In> {
    /// For how many messages there is memory.
    pub(super) fn capacity(&self) -> usize {
        self.state.batch.capacity()
    }
}

impl<Out, In> State<Out, In> {
    /// Gives the transport what waits, and flushes.
    fn write<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Turn
    where
        T: Transport<Out, In = In>,
    {
        let mut turn = Turn::Wait;
        if self.writing == Writing::Open {
            match self.feed(transport.as_mut(), cx) {
                Ok(fed) => turn = fed,
                Err(error) => self.fail(error),
            }
        }
        let flushed = match self.writing {
            Writing::Open if self.is_dirty => transport.poll_flush(cx),
            Writing::Closing => signal::with_close_frame(self.frame.as_ref(), || transport.poll_close(cx)),
            _ => return turn,
        };
        match flushed {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                self.wakers.extend(self.shared.outbox().flushed());
                wake_all(self.wakers.drain(..));
                if self.writing == Writing::Closing {
                    self.writing = Writing::Over;
                    self.end_writing(Error::closed("the connection was closed by this end"), true);
                }
            }
            Poll::Ready(Err(error)) => {
                let error = error.into();
                if !error.is_rejection() {
                    self.fail(error);
                    return turn;
                }
                // Messages that the transport had accepted are lost; it goes on, and so does the flush or the close.
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
        self.shared.outbox().waiters.end_turns();
        for _ in 0..BUDGET / BATCH {
            let mut outbox = self.shared.outbox();
            let next = outbox.take(&mut self.batch, BATCH);
            self.shared.pass_turns(outbox, &mut self.wakers);
            if let Next::Close(frame) = next {
                self.begin_close(transport, cx, frame);
                return Ok(Turn::Wait);
            }
            if self.batch.is_empty() {
                return Ok(Turn::Wait);
            }
            let stopped = self.feed_batch(transport.as_mut(), cx)?;
            self.settle();
            if let Some(turn) = stopped {
                return Ok(turn);
            }
        }
        Ok(Turn::Yield)
    }

    /// Nothing more will come from the queue. Where a message can close, the transport is given that too: those that do not know of
    /// [`signal::close_frame`] tell the peer nothing otherwise.
    fn begin_close<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>, frame: Option<CloseFrame>)
    where
        T: Transport<Out, In = In>,
    {
        self.writing = Writing::Closing;
        if let (Some(close), Some(frame)) = (self.close, &frame)
            // One that is full would hold up the close for as long as its peer does not read; `poll_close` has a limit.
            && matches!(transport.as_mut().poll_ready(cx), Poll::Ready(Ok(())))
        {
            // It may be closed already.
            let _ = transport.as_mut().start_send(close(frame.clone()));
        }
        self.frame = frame;
    }

    /// Gives the transport the batch; tells how the turn ends if the transport did not take all.
    fn feed_batch<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Result<Option<Turn>, Error>
    where
        T: Transport<Out, In = In>,
    {
        while !self.batch.is_empty() {
            match transport.as_mut().poll_ready(cx).map_err(Into::into) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    self.lose(error);
                    return Ok(Some(Turn::Yield));
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Some(Turn::Wait)),
            }
            let Some(entry) = self.batch.pop_front() else { break };
            self.fed.count(&entry);
            self.is_dirty = true;
            // Not where the transport takes nothing: the driver would keep itself awake for as long as the peer does not read.
            self.has_moved = true;
            if let Err(error) = transport.as_mut().start_send(entry.message) {
                let error = error.into();
                self.fed.refused += 1;
                if error.is_closed() && !error.is_rejection() {
                    return Err(error);
                }
                self.refuse(error.into_rejection().into_unsent());
            }
        }
        Ok(None)
    }

    /// Tells the queue what became of the batch, and wakes whom that makes room for.
    fn settle(&mut self) {
        let mut outbox = self.shared.outbox();
        outbox.fed(std::mem::take(&mut self.fed));
        let gone = outbox.put_back(&mut self.batch);
        self.shared.pass_turns(outbox, &mut self.wakers);
        drop(gone);
    }

    /// One message could not be sent; the rest can. The receiver is told, if it has room.
    fn refuse(&mut self, error: Error) {
        let mut inbox = self.shared.inbox();
        let gone = if inbox.has_room() { inbox.push(Err(error), 0) } else { Some(Err(error)) };
        self.shared.wake_receiver(inbox);
        drop(gone);
    }

    /// Messages that the transport had accepted are lost. The receiver is told, if it has room, and so are those who flush.
    fn lose(&mut self, error: Error) {
        self.lose_flushes(&error);
        self.refuse(error);
    }

    fn lose_flushes(&mut self, error: &Error) {
        let error = error.clone();
        let mut outbox = self.shared.outbox();
        let (wakers, before) = outbox.lose(error);
        self.wakers.extend(wakers);
        drop(outbox);
        drop(before);
        wake_all(self.wakers.drain(..));
    }

    /// Passes on, in its place among the messages that come in, that the connection was lost and another takes its place.
    fn pass_on_loss(&self, mark: Mark) {
        if mark.has_lost() {
            let mut inbox = self.shared.inbox();
            inbox.push_loss();
            self.shared.wake_receiver(inbox);
        }
    }

    /// The sink has failed. The peer's last words may still be read.
    fn fail(&mut self, error: Error) {
        self.writing = Writing::Over;
        self.write_error = Some(error.clone());
        self.end_writing(error, false);
    }

    fn end_writing(&mut self, error: Error, is_clean: bool) {
        self.shared.end_writing(&mut self.fed, &mut self.batch, error, is_clean);
    }

    /// Takes what the transport gives, while the inbox has room.
    fn read<T>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Turn
    where
        T: Transport<Out, In = In>,
    {
        let mut has_room = self.shared.inbox().has_room();
        for _ in 0..BUDGET {
            if !has_room {
                return Turn::Wait;
            }
            let mark = Mark::now();
            let polled = transport.as_mut().poll_next(cx);
            self.pass_on_loss(mark);
            let message = match polled {
                Poll::Pending => return Turn::Wait,
                Poll::Ready(None) => return Turn::Ended,
                Poll::Ready(Some(message)) => message.map_err(Into::into),
            };
            self.has_moved = true;
            self.read_error = match &message {
                // A layer that sends on the reader's task tells here what was lost, and the transport goes on.
                Err(error) if error.is_rejection() && error.is_closed() => {
                    self.lose_flushes(error);
                    None
                }
                message => message.as_ref().err().cloned(),
            };
            let size = message.as_ref().map_or(0, self.shared.size_in);
            let mut inbox = self.shared.inbox();
            let gone = inbox.push(message, size);
            has_room = inbox.has_room();
            self.shared.wake_receiver(inbox);
            drop(gone);
        }
        Turn::Yield
    }

    /// Nobody is left whom what happens could concern.
    fn is_pointless(&self) -> bool {
        self.write_error.is_some() && self.shared.inbox().abandoned
    }

    fn end_reading(&self) {
        let mut inbox = self.shared.inbox();
        inbox.ended = true;
        self.shared.wake_receiver(inbox);
    }

    /// Gives memory back once nothing has moved for a while. Tells whether to look again.
    fn rest(&mut self) -> bool {
        if std::mem::take(&mut self.has_moved) {
            self.idle = 0;
        } else if self.idle == IDLE {
            return false;
        } else {
            self.idle += 1;
        }
        if self.idle == IDLE {
            self.batch.shrink_to(KEPT);
            self.wakers.shrink_to(KEPT);
            self.shared.outbox().trim();
            self.shared.inbox().trim();
            return false;
        }
        self.batch.capacity().max(self.wakers.capacity()) > 2 * KEPT
            || self.shared.outbox().has_spare()
            || self.shared.inbox().has_spare()
    }
}

impl<T, Out, In> Future for Driver<T, Out, In>
where
    T: Transport<Out, In = In>,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let state = this.state;
        state.shared.driver.register(cx.waker());
        let mark = Mark::now();
        let wrote = state.write(this.transport.as_mut(), cx);
        state.pass_on_loss(mark);
        let read = state.read(this.transport.as_mut(), cx);
        if read != Turn::Ended && !state.is_pointless() {
            let is_resting = state.rest();
            if wrote == Turn::Yield || read == Turn::Yield || is_resting {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let failure = state.read_error.clone().or(state.write_error.clone().filter(|error| !error.is_closed()));
        let cause = failure.clone().unwrap_or_else(|| match this.transport.poll_ready(cx) {
            // The transport knows best why it has ended.
            Poll::Ready(Err(error)) => error.into(),
            _ => Error::closed("the peer closed the connection"),
        });
        // The peer's answer to our close may end the stream before `poll_close` is asked again.
        let is_clean = state.writing == Writing::Closing && failure.is_none();
        state.end_writing(cause, is_clean);
        state.end_reading();
        Poll::Ready(failure.map_or(Ok(()), Err))
    }
}

impl<Out, In> Drop for State<Out, In> {
    fn drop(&mut self) {
        self.end_writing(Error::closed("the driver of the transport was dropped"), false);
        self.end_reading();
    }
}

impl<T, Out, In> fmt::Debug for Driver<T, Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("writing", &self.state.writing).finish_non_exhaustive()
    }
}
