use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message};

/// An in-memory transport: two ends, each with room for `capacity` messages on the way to it (at least one).
///
/// It is the reference for the [`Transport`](crate::Transport) contract, and what docs, tests and benchmarks run on. It has
/// no operating system below it: a message is flushed as soon as it is accepted. Nothing is allocated per message. Control
/// messages pass like any other; nobody answers a ping.
///
/// An end that is closed or dropped ends the other's stream once that has read what was sent. Sending to an end that was
/// dropped gives an error that [`is_closed`](Error::is_closed).
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use tower_transport::{TransportExt, channel};
///
/// let (mut here, mut there) = channel::<&str, u32>(1);
/// here.send_message("how many?").await?;
/// assert_eq!(there.receive_message().await.unwrap()?, "how many?");
/// there.send_message(3).await?;
/// drop(there);
/// assert_eq!(here.receive_message().await.unwrap()?, 3);
/// assert!(here.receive_message().await.is_none());
/// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
/// ```
#[must_use]
pub fn channel<A, B>(capacity: usize) -> (Channel<A, B>, Channel<B, A>) {
    let there = Pipe::new(capacity.max(1));
    let back = Pipe::new(capacity.max(1));
    let first = Channel { outgoing: there.clone(), incoming: back.clone() };
    (first, Channel { outgoing: back, incoming: there })
}

/// One end of a [`channel`]: what goes out is `Out`, what comes in is `In`.
pub struct Channel<Out = Message, In = Out> {
    outgoing: Arc<Pipe<Out>>,
    incoming: Arc<Pipe<In>>,
}

/// One direction.
struct Pipe<T>(Mutex<State<T>>);

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    /// No more will be sent.
    finished: bool,
    /// No more will be read.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<T> Pipe<T> {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            queue: VecDeque::with_capacity(capacity.min(1024)),
            capacity,
            finished: false,
            abandoned: false,
            reader: None,
            writer: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of a user runs under the lock, but a waker's drop might panic; the state is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn check_open(&self) -> Result<(), Error> {
        if self.finished {
            Err(Error::closed("this end of the channel was closed"))
        } else if self.abandoned {
            Err(Error::closed("the other end of the channel was dropped"))
        } else {
            Ok(())
        }
    }
}

/// Keeps the newest waker, without a clone where it is the same task again.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<Out, In> Stream for Channel<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.incoming.lock();
        if let Some(message) = state.queue.pop_front() {
            let writer = state.writer.take();
            drop(state);
            wake(writer);
            return Poll::Ready(Some(Ok(message)));
        }
        if state.finished {
            return Poll::Ready(None);
        }
        register(&mut state.reader, cx);
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.incoming.lock().queue.len(), None)
    }
}

impl<Out, In> Sink<Out> for Channel<Out, In> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.outgoing.lock();
        state.check_open()?;
        if state.queue.len() < state.capacity {
            return Poll::Ready(Ok(()));
        }
        register(&mut state.writer, cx);
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let mut state = self.outgoing.lock();
        state.check_open()?;
        if state.queue.len() >= state.capacity {
            return Err(Error::full("start_send on a full channel; wait for poll_ready first"));
        }
        state.queue.push_back(message);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl<Out, In> Channel<Out, In> {
    fn finish(&self) {
        let mut state = self.outgoing.lock();
        state.finished = true;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

impl<Out, In> Drop for Channel<Out, In> {
    fn drop(&mut self) {
        self.finish();
        let mut state = self.incoming.lock();
        state.abandoned = true;
        // What nobody will read is dropped outside the lock: its own drop may send on a channel.
        let unread = std::mem::take(&mut state.queue);
        let writer = state.writer.take();
        drop(state);
        drop(unread);
        wake(writer);
    }
}

impl<Out, In> fmt::Debug for Channel<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("outgoing", &self.outgoing.lock().queue.len())
            .field("incoming", &self.incoming.lock().queue.len())
            .finish_non_exhaustive()
    }
}
