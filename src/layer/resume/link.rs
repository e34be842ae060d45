//! One connection of a session: moves what the core holds over a transport, and says what has to be said beside it.

mod read;
mod write;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;

use super::state::{Acknowledgement, Core};
use crate::{CloseFrame, Error, Message, Transport, rt::Timer, transport::wakers::WakerPair};

/// The data of the user does not pass through a queue here: the core keeps each message until it is acknowledged anyway, and
/// knows which of them this connection has not had. So what this layer says by itself may take any place in the transport
/// below; a message of the user that was promised one is accepted by the core, and follows.
#[derive(Debug)]
pub(super) struct Link<T> {
    inner: T,
    halves: Arc<WakerPair>,
    both: Waker,
    ack_delay: Duration,
    timer: Timer,
    /// The first message on this connection, if this end has one to say.
    greeting: Option<Message>,
    /// A control message of the user's that lost its place.
    control: Option<Message>,
    acknowledgement: Acknowledgement,
    /// The memory of acknowledgements: used again once the transport below has let go of the last one.
    ack_memory: BytesMut,
    said_bye: bool,
    heard_bye: bool,
    /// The user was told that there is room, and has not used it.
    is_promised: bool,
    /// The transport below said that there is room, and nobody has used it.
    has_place: bool,
    /// The transport below holds what this layer has to flush by itself.
    is_dirty: bool,
    /// The user waits for acknowledgements, so the sink's methods read.
    sink_reads: bool,
    write_failed: Option<Error>,
    /// How the stream ended, where the sink's methods read that.
    ended: Option<End>,
    /// The connection ends; its last words are on their way.
    parting: Option<Parting>,
    /// What the peer's close message said.
    peer_close: Option<CloseFrame>,
    heard_close: bool,
}

/// A connection that ends, and is polled until its close is out: the peer is to learn the code, and not that this end vanished.
#[derive(Debug)]
struct Parting {
    end: End,
    farewell: Option<Message>,
}

/// How long a connection that failed may take for a close of its own (as [`Limits::close`](crate::Limits::close), which bounds it below).
const CLOSE: Duration = Duration::from_secs(10);

/// How many messages of a connection that ends one poll drops.
const LAST_MESSAGES: usize = 64;

/// How long the answer to a close message of this layer is waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// What a read gives.
pub(super) enum Event {
    Message(Message),
    /// Of one message, either way; the session goes on.
    Rejected(Error),
    End(End),
}

/// How a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The session is over.
    Over,
    /// The connection is: by a failure, or by an end without a word.
    Cut(Option<Error>),
    /// A message came in that a layer below rejected: the user is told, and the peer is not to send it again. The connection ends
    /// with it, since the layer may have rejected several messages as one (a batch): the next one begins from a number that both ends know.
    Rejected(Error),
    /// The peer breaks the protocol; the session cannot go on.
    Broken(Error),
}

/// The error of a connection that rejects messages which it took before, and which ones is not known. All are sent again on the next one.
fn refused_below(error: Error) -> Error {
    Error::closed("resume: the connection refused messages that it had accepted").with_source(error)
}

impl<T> Link<T> {
    pub(super) fn new(inner: T, halves: Arc<WakerPair>, ack_delay: Duration, greeting: Option<Message>) -> Self {
        let both = halves.clone().into();
        Self {
            inner,
            halves,
            both,
            ack_delay,
            timer: Timer::new(),
            is_dirty: greeting.is_some(),
            greeting,
            control: None,
            acknowledgement: Acknowledgement::Later,
            ack_memory: BytesMut::new(),
            said_bye: false,
            heard_bye: false,
            is_promised: false,
            has_place: false,
            sink_reads: false,
            write_failed: None,
            ended: None,
            parting: None,
            peer_close: None,
            heard_close: false,
        }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.inner
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Nothing but what the user sends next has to be written.
    fn is_quiet(&self, core: &Core) -> bool {
        self.acknowledgement != Acknowledgement::Now
            && !core.out.has_next()
            && self.greeting.is_none()
            && self.control.is_none()
            && core.closing.is_none()
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    fn inner(&mut self) -> Pin<&mut T> {
        Pin::new(&mut self.inner)
    }

    fn fail<R>(&mut self, error: impl Into<Error>) -> Poll<Result<R, Error>> {
        let mut error = error.into();
        if error.is_rejection() {
            error = refused_below(error);
        }
        self.write_failed = Some(error.clone());
        Poll::Ready(Err(error))
    }

    /// Whether the sink is of no use any more.
    pub(super) fn write_failed(&self) -> Option<&Error> {
        self.write_failed.as_ref()
    }

    /// The connection's end, where it was read by the sink's methods.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.ended.take()
    }

    /// Says goodbye on a connection that is given up, as far as that goes without waiting.
    pub(super) fn leave(&mut self, frame: CloseFrame) {
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        if self.write_failed.is_none()
            && matches!(self.inner().poll_ready(&mut cx), Poll::Ready(Ok(())))
            && self.inner().start_send(Message::Close(Some(frame))).is_ok()
        {
            let _ = self.inner().poll_flush(&mut cx);
        }
    }

    /// The connection is to end so, once its close is out; with a close message of this end's own, or with that of the layers below.
    pub(super) fn part(&mut self, end: End, farewell: Option<CloseFrame>, time: Duration) {
        self.timer.clear();
        self.timer.set(time);
        let farewell = farewell.map(|frame| Message::Close(Some(frame)));
        self.parting = Some(Parting { end, farewell });
    }

    /// The peer has closed the connection, not the session.
    pub(super) fn part_from_peer(&mut self) {
        let error = self.with_peer_close(Error::closed("resume: the peer closed the connection"));
        self.part(End::Cut(Some(error)), None, CLOSE);
    }

    /// Adds the peer's close frame to an error of this connection. A write can fail because of a close that was not read yet, and
    /// its code decides whether the session goes on.
    pub(super) fn with_peer_close(&self, error: Error) -> Error {
        if error.close_frame().is_some() { error } else { error.with_close_frame(self.peer_close.clone()) }
    }

    /// Adds what is known about the end of the connection by now.
    fn explained(&self, end: End) -> End {
        match end {
            End::Cut(Some(error)) => End::Cut(Some(self.with_peer_close(error))),
            end => end,
        }
    }

    /// Whether the user got a close message of the peer.
    pub(super) const fn heard_close(&self) -> bool {
        self.heard_close
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.is_some()
    }

    /// Lets the last words out, for whichever half polls.
    pub(super) fn poll_parted(&mut self) -> Poll<End> {
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        let Some(mut parting) = self.parting.take() else { return Poll::Pending };
        if parting.farewell.is_some() {
            match self.inner().poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(farewell) = parting.farewell.take() {
                        let _ = self.inner().start_send(farewell);
                    }
                }
                Poll::Ready(Err(_)) => parting.farewell = None,
                Poll::Pending => {}
            }
        }
        let _ = self.inner().poll_flush(&mut cx);
        for _ in 0..LAST_MESSAGES {
            match self.inner().poll_next(&mut cx) {
                // What comes now comes again on the next connection.
                Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                    if self.peer_close.is_none() {
                        self.peer_close = frame;
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(self.explained(parting.end)),
                Poll::Pending if self.timer.poll(&mut cx).is_ready() => {
                    return Poll::Ready(self.explained(parting.end));
                }
                Poll::Pending => {
                    self.parting = Some(parting);
                    return Poll::Pending;
                }
            }
        }
        if self.timer.poll(&mut cx).is_ready() {
            return Poll::Ready(self.explained(parting.end));
        }
        self.parting = Some(parting);
        both.wake_by_ref();
        Poll::Pending
    }
}
