use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{signal, wakers::poll_prepared};
use crate::{CloseFrame, Error, Message, sync::Mutex};

/// Creates an in-memory transport with two ends. Each direction has room for `capacity` messages (at least one).
///
/// It is the reference for the [`Transport`](crate::Transport) contract; docs, tests and benchmarks run on it. There is
/// no operating system below it, so a message is flushed as soon as it is accepted. Nothing is allocated per message.
/// Control messages pass like any other message, and pings are not answered.
///
/// After one end is closed or dropped, the other end's stream yields the messages already sent and then ends. Sending
/// to a dropped end returns an error for which [`is_closed`](Error::is_closed) is true.
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

/// One end of a [`channel`] that sends `Out` and receives `In`.
pub struct Channel<Out = Message, In = Out> {
    outgoing: Arc<Pipe<Out>>,
    incoming: Arc<Pipe<In>>,
}

/// One direction of a channel.
// No user code runs under the lock: no message drop, no waker, no formatter.
struct Pipe<T>(Mutex<State<T>>);

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    /// Whether the sending end has closed.
    finished: bool,
    /// Whether the receiving end was dropped.
    abandoned: bool,
    /// The close frame of the end that closed.
    close: Option<CloseFrame>,
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
            close: None,
            reader: None,
            writer: None,
        })))
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

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<Out, In> Stream for Channel<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_prepared(cx, |prepared| {
            let mut state = self.incoming.0.lock();
            if let Some(message) = state.queue.pop_front() {
                let writer = state.writer.take();
                drop(state);
                wake(writer);
                return Some(Some(Ok(message)));
            }
            if state.finished {
                return Some(None);
            }
            prepared.keep_in(&mut state.reader);
            None
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.incoming.0.lock().queue.len(), None)
    }
}

impl<Out, In> Sink<Out> for Channel<Out, In> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        poll_prepared(cx, |prepared| {
            let mut state = self.outgoing.0.lock();
            if let Err(error) = state.check_open() {
                return Some(Err(error));
            }
            if state.queue.len() < state.capacity {
                return Some(Ok(()));
            }
            prepared.keep_in(&mut state.writer);
            None
        })
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let mut state = self.outgoing.0.lock();
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
        self.finish(signal::close_frame());
        Poll::Ready(Ok(()))
    }
}

impl<Out, In> Channel<Out, In> {
    /// Returns the code and reason with which the other end closed, if it used
    /// [`TransportExt::close_with`](crate::TransportExt::close_with) or [`Sender::close`](crate::Sender::close). A
    /// channel carries values of any type, so a close is not one of its messages.
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.incoming.0.lock().close.clone()
    }

    fn finish(&self, close: Option<CloseFrame>) {
        let mut state = self.outgoing.0.lock();
        if !std::mem::replace(&mut state.finished, true) {
            state.close = close;
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

impl<Out, In> Drop for Channel<Out, In> {
    fn drop(&mut self) {
        self.finish(None);
        let mut state = self.incoming.0.lock();
        state.abandoned = true;
        // Unread messages are dropped outside the lock, because their own drop may send on a channel.
        let unread = std::mem::take(&mut state.queue);
        let writer = state.writer.take();
        drop(state);
        drop(unread);
        wake(writer);
    }
}

impl<Out, In> fmt::Debug for Channel<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outgoing = self.outgoing.0.lock().queue.len();
        let incoming = self.incoming.0.lock().queue.len();
        f.debug_struct("Channel").field("outgoing", &outgoing).field("incoming", &incoming).finish_non_exhaustive()
    }
}
