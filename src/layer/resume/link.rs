//! One connection of a session: moves what the core holds over a transport, and says what has to be said beside it.

mod read;
mod write;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::state::Core;
use crate::{CloseFrame, Error, Message, Transport, rt::Timer, transport::halves::Halves};

/// The data of the user does not pass through a queue here: the core keeps each message until it is acknowledged anyway, and
/// knows which of them this connection has not had. So what this layer says by itself may take any place in the transport
/// below; a message of the user that was promised one is accepted by the core, and follows.
#[derive(Debug)]
pub(super) struct Link<T> {
    inner: T,
    halves: Arc<Halves>,
    both: Waker,
    ack_delay: Duration,
    timer: Timer,
    /// The first message on this connection, if this end has one to say.
    greeting: Option<Message>,
    /// A control message of the user's that lost its place.
    control: Option<Message>,
    ack_waits: bool,
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
}

/// What a read gives.
pub(super) enum Event {
    Message(Message),
    End(End),
}

/// How a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The session is over.
    Over,
    /// The connection is: by a failure, or by an end without a word.
    Cut(Option<Error>),
    /// The peer breaks the protocol; the session cannot go on.
    Broken(Error),
}

impl<T> Link<T> {
    pub(super) fn new(inner: T, halves: Arc<Halves>, ack_delay: Duration, greeting: Option<Message>) -> Self {
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
            ack_waits: false,
            said_bye: false,
            heard_bye: false,
            is_promised: false,
            has_place: false,
            sink_reads: false,
            write_failed: None,
            ended: None,
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
        !self.ack_waits
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
        let error = error.into();
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

    /// Polls once more a transport that was closed by the peer, which may have an answer to write.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        let _ = self.inner().poll_next(cx);
    }
}
