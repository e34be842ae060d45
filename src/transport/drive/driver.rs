use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;

use super::{Shared, outbox::Fed, wake_all};
use crate::{Error, Transport, transport::signal::Mark};

/// How many messages one lock of the queue moves.
const BATCH: usize = 64;

/// How many messages a poll moves each way before it flushes and lets other tasks run.
const BUDGET: usize = 1024;

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
    /// - **Bounds.** Everything that waits, waits in the [`Queue`](crate::Queue)'s bounds.
    /// - **An end that everyone sees.** When the last sender is gone, what was accepted is sent and the transport closed, and
    ///   the driver reads on until the peer has closed too. When the transport ends or fails, the receiver gets what was
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
    size_out: fn(&Out) -> usize,
    /// Taken from the queue, not yet given to the transport. Empty between polls.
    batch: VecDeque<(Out, bool)>,
    fed: Fed,
    wakers: Vec<Waker>,
    /// The transport holds what was not flushed.
    is_dirty: bool,
    writing: Writing,
    /// Why the sink is of no use any more.
    write_error: Option<Error>,
    /// The last thing that was read, if that was an error.
    read_error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The last sender is gone, or the queue overflowed: the transport is being closed.
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
    pub(super) fn new(transport: T, shared: Arc<Shared<Out, In>>, size_out: fn(&Out) -> usize) -> Self {
        let state = State {
            shared,
            size_out,
            batch: VecDeque::with_capacity(BATCH),
            fed: Fed::default(),
            wakers: Vec::new(),
            is_dirty: false,
            writing: Writing::Open,
            write_error: None,
            read_error: None,
        };
        Self { transport, state }
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
            Writing::Closing => transport.poll_close(cx),
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
                    self.end_writing(Error::closed("the connection was closed by this end"));
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
        for _ in 0..BUDGET / BATCH {
            let mut outbox = self.shared.outbox();
            outbox.take(&mut self.batch, BATCH);
            let overflow = outbox.overflow();
            if self.batch.is_empty() && (overflow.is_some() || outbox.senders == 0) {
                self.writing = Writing::Closing;
            }
            drop(outbox);
            if let Some(Some(close)) = overflow {
                // A transport that takes no close message while it is full is closed in its own way.
                let _ = transport.as_mut().start_send(close);
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
            let Some((message, is_control)) = self.batch.pop_front() else { break };
            self.fed.count((self.size_out)(&message), is_control);
            self.is_dirty = true;
            if let Err(error) = transport.as_mut().start_send(message) {
                let error = error.into();
                self.fed.refused += 1;
                if error.is_closed() && !error.is_rejection() {
                    return Err(error);
                }
                self.refuse(error);
            }
        }
        Ok(None)
    }

    /// Tells the queue what became of the batch, and wakes whom that makes room for.
    fn settle(&mut self) {
        let mut outbox = self.shared.outbox();
        outbox.fed(std::mem::take(&mut self.fed));
        outbox.put_back(&mut self.batch);
        let free = outbox.free();
        self.wakers.extend(std::iter::from_fn(|| outbox.waiters.next(free)));
        drop(outbox);
        wake_all(self.wakers.drain(..));
    }

    /// One message could not be sent; the rest can. The receiver is told, if it has room.
    fn refuse(&mut self, error: Error) {
        let mut inbox = self.shared.inbox();
        let waker = if inbox.has_room() { inbox.push(Err(error)) } else { None };
        drop(inbox);
        wake_all(waker);
    }

    /// Messages that the transport had accepted are lost. The receiver is told, if it has room, and so are those who flush.
    fn lose(&mut self, error: Error) {
        self.lose_flushes(&error);
        self.refuse(error);
    }

    fn lose_flushes(&mut self, error: &Error) {
        self.wakers.extend(self.shared.outbox().lost(error.clone()));
        wake_all(self.wakers.drain(..));
    }

    /// Passes on, in its place among the messages that come in, that the connection was lost and another takes its place.
    fn pass_on_loss(&self, mark: Mark) {
        if mark.has_lost() {
            let receiver = self.shared.inbox().push_loss();
            wake_all(receiver);
        }
    }

    /// The sink has failed. The peer's last words may still be read.
    fn fail(&mut self, error: Error) {
        self.writing = Writing::Over;
        self.write_error = Some(error.clone());
        self.end_writing(error);
    }

    fn end_writing(&mut self, error: Error) {
        self.shared.end_writing(&mut self.fed, &mut self.batch, error);
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
            self.read_error = match &message {
                // A layer that sends on the reader's task tells here what was lost, and the transport goes on.
                Err(error) if error.is_rejection() && error.is_closed() => {
                    self.lose_flushes(error);
                    None
                }
                message => message.as_ref().err().cloned(),
            };
            let mut inbox = self.shared.inbox();
            let receiver = inbox.push(message);
            has_room = inbox.has_room();
            drop(inbox);
            wake_all(receiver);
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
        let receiver = inbox.receiver.take();
        drop(inbox);
        wake_all(receiver);
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
            if wrote == Turn::Yield || read == Turn::Yield {
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
        state.end_writing(cause);
        state.end_reading();
        Poll::Ready(failure.map_or(Ok(()), Err))
    }
}

impl<Out, In> Drop for State<Out, In> {
    fn drop(&mut self) {
        self.end_writing(Error::closed("the driver of the transport was dropped"));
        self.end_reading();
    }
}

impl<T, Out, In> fmt::Debug for Driver<T, Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("writing", &self.state.writing).finish_non_exhaustive()
    }
}
