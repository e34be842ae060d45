//! A server's session: what its three users share. The handler's transport takes from the inbox and writes into the outbox, the
//! POSTs fill the one, the response's body empties the other. None holds the lock while it waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

use super::{
    event,
    inbox::{Inbox, Taken},
    sessions::Sessions,
    token::Token,
};
use crate::{Error, Limits, Message, transport::framing::Decoder};

/// The most that the body takes at once.
const FRAME: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Session {
    token: Token,
    pub(super) limits: Limits,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    inbox: Inbox,
    /// Which POST is the newest: an older one takes nothing any more.
    post: u64,
    outbox: BytesMut,
    /// The answer to the newest ping, which waits for its turn in the outbox.
    pong: Option<Bytes>,
    /// The client broke the protocol, or a limit.
    fault: Option<Error>,
    /// The body is gone, and with it the client.
    is_cut: bool,
    /// It went before it had taken all.
    is_lost: bool,
    /// The handler's end is gone, or done.
    is_left: bool,
    reader: Option<Waker>,
    /// The reader, which waits until the client has been told.
    teller: Option<Waker>,
    writer: Option<Waker>,
    body: Option<Waker>,
    poster: Option<Waker>,
}

/// A POST that takes its turn.
#[derive(Debug)]
pub(super) struct Turn {
    post: u64,
    /// The number of its next message.
    number: u64,
    decoder: Decoder,
    /// What is read and not decoded.
    pub(super) input: Bytes,
    /// `input` is memory of its own.
    is_copied: bool,
}

/// How far a POST came.
#[derive(Debug)]
pub(super) enum Step {
    /// All that was read is in the inbox, and there is room for more.
    Read,
    /// There is no room; the task is woken when there is.
    Full,
    /// Another POST came after it.
    Superseded,
    /// The session has ended.
    Over,
    /// What the client sent is no message, or too large.
    Bad(Error),
}

/// What the handler's end is given.
#[derive(Debug)]
pub(super) enum Received {
    Message(Message),
    Fault(Error),
    Cut,
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

impl Session {
    pub(super) fn new(token: Token, limits: Limits, sessions: Arc<Sessions>) -> Self {
        let mut outbox = BytesMut::new();
        outbox.extend_from_slice(format!("event: {}\ndata: {}\n\n", event::OPEN, token.text()).as_bytes());
        let state = State {
            inbox: Inbox::new(limits.write_buffer),
            post: 0,
            outbox,
            pong: None,
            fault: None,
            is_cut: false,
            is_lost: false,
            is_left: false,
            reader: None,
            teller: None,
            writer: None,
            body: None,
            poster: None,
        };
        Self { token, limits, sessions, state: Mutex::new(state) }
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> Token {
        self.token
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handler's end.
impl Session {
    /// The next message, or why there is none. A ping is answered here.
    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Received> {
        let mut state = self.lock();
        if let Some(message) = state.inbox.pop() {
            if state.inbox.has_room() {
                wake(&mut state.poster);
            }
            if let Message::Ping(payload) = &message {
                state.pong = Some(payload.clone());
                wake(&mut state.body);
            }
            return Poll::Ready(Received::Message(message));
        }
        if let Some(error) = &state.fault {
            return Poll::Ready(Received::Fault(error.clone()));
        }
        if state.is_cut {
            return Poll::Ready(Received::Cut);
        }
        register(&mut state.reader, cx);
        Poll::Pending
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Room for one message more; `Ready(false)` once nobody reads any more.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.is_cut {
            return Poll::Ready(false);
        }
        if state.outbox.len() < self.limits.write_buffer.max(1) {
            return Poll::Ready(true);
        }
        wake(&mut state.body);
        register(&mut state.writer, cx);
        Poll::Pending
    }

    pub(super) fn send(&self, message: &Message) {
        let mut state = self.lock();
        event::encode(message, &mut state.outbox);
        if state.outbox.len() >= FRAME || message.is_close() {
            wake(&mut state.body);
        }
    }

    /// All is with the HTTP server; `Ready(false)` if it never will be.
    pub(super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.is_lost || state.outbox.is_empty() {
            return Poll::Ready(!state.is_lost);
        }
        wake(&mut state.body);
        register(&mut state.writer, cx);
        Poll::Pending
    }

    /// The reading half's [`poll_flush`](Self::poll_flush).
    pub(super) fn poll_told(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_cut || (state.outbox.is_empty() && state.pong.is_none()) {
            return Poll::Ready(());
        }
        wake(&mut state.body);
        register(&mut state.teller, cx);
        Poll::Pending
    }

    pub(super) fn wake_writer(&self) {
        wake(&mut self.lock().writer);
    }

    /// The handler's end is done: the body ends behind what is in the outbox, and a POST is refused.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.is_left = true;
        state.inbox.clear();
        wake(&mut state.body);
        wake(&mut state.poster);
        wake(&mut state.writer);
    }
}

/// The response's body.
impl Session {
    /// What goes down next; `None` at the end.
    pub(super) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if let Some(payload) = state.pong.take() {
            event::encode(&Message::Pong(payload), &mut state.outbox);
        }
        if !state.outbox.is_empty() {
            let length = state.outbox.len().min(FRAME);
            let frame = state.outbox.split_to(length).freeze();
            if state.outbox.is_empty() {
                wake(&mut state.teller);
            }
            wake(&mut state.writer);
            return Poll::Ready(Some(frame));
        }
        if state.is_left {
            return Poll::Ready(None);
        }
        register(&mut state.body, cx);
        Poll::Pending
    }

    pub(super) fn is_end(&self) -> bool {
        let state = self.lock();
        state.is_left && state.outbox.is_empty() && state.pong.is_none()
    }

    /// The body is dropped: the client is gone, or has all.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        state.is_lost = !state.outbox.is_empty();
        state.outbox = BytesMut::new();
        state.pong = None;
        wake(&mut state.reader);
        wake(&mut state.teller);
        wake(&mut state.writer);
        wake(&mut state.poster);
    }
}

/// The POSTs.
impl Session {
    /// Begins a POST whose first message has this number, and ends any other. `Err` has the number that is due, where this one is
    /// beyond it.
    pub(super) fn begin(&self, number: u64) -> Result<Turn, u64> {
        let mut state = self.lock();
        let due = state.inbox.next();
        if number > due {
            return Err(due);
        }
        state.post += 1;
        wake(&mut state.poster);
        let decoder = Decoder::new(self.limits.message);
        Ok(Turn { post: state.post, number, decoder, input: Bytes::new(), is_copied: false })
    }

    /// The number of the message that is due.
    pub(super) fn next(&self) -> u64 {
        self.lock().inbox.next()
    }

    /// Puts what was read into the inbox, as far as there is room.
    pub(super) fn take(&self, turn: &mut Turn, cx: &Context<'_>) -> Step {
        let mut state = self.lock();
        if state.post != turn.post {
            return Step::Superseded;
        }
        let is_over = state.is_left || state.is_cut;
        loop {
            let is_new = turn.number >= state.inbox.next();
            if is_new && !state.inbox.has_room() && !is_over {
                register(&mut state.poster, cx);
                return Step::Full;
            }
            if is_new && !std::mem::replace(&mut turn.is_copied, true) {
                // A small message must not hold the HTTP server's buffer for as long as it waits.
                turn.input = Bytes::copy_from_slice(&turn.input);
            }
            match turn.decoder.next(&mut turn.input) {
                Ok(None) => {
                    register(&mut state.poster, cx);
                    return Step::Read;
                }
                Ok(Some(_)) if is_new && is_over => return Step::Over,
                Ok(Some(message)) => match state.inbox.take(turn.number, message) {
                    Taken::Late => return Step::Over,
                    Taken::New => {
                        turn.number += 1;
                        wake(&mut state.reader);
                    }
                    Taken::Again => turn.number += 1,
                },
                Err(error) => {
                    state.fault.get_or_insert_with(|| error.clone());
                    wake(&mut state.reader);
                    return Step::Bad(error);
                }
            }
        }
    }
}

impl Turn {
    /// More was read.
    pub(super) fn read(&mut self, input: Bytes) {
        self.input = input;
        self.is_copied = false;
    }

    /// Whether the body may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.decoder.is_between_messages() && self.input.is_empty()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.close(self.token);
    }
}
