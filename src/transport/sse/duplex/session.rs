//! A server's session: the state that its three users share. The handler's transport takes from the inbox and writes
//! into the outbox, the POSTs fill the inbox, and the response's body empties the outbox. No user holds the lock while
//! it waits, and no waker is cloned, woken or dropped under it.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    event,
    incoming_post::{Step, Turn},
    locked::{Locked, SessionState, Waiter},
    token::Token,
};
use crate::{
    Error, Limits, Message, rt,
    sync::Mutex,
    transport::{closing::linger, permit::ConnectionPermit, signal},
};

/// The maximum number of bytes that the body takes at once.
const FRAME: usize = 16 * 1024;

pub(super) struct Session {
    token: Token,
    pub(super) limits: Limits,
    sessions: Arc<Sessions>,
    state: Mutex<SessionState>,
    /// The bytes that the HTTP server's tasks have moved since the handler's end last reported them.
    moved: AtomicUsize,
    /// The runtime in which the session was opened, or `None` outside of one.
    runtime: Option<rt::Handle>,
    /// The value that guards want back when both ends are gone.
    _permit: Option<ConnectionPermit>,
}

impl Session {
    pub(super) fn new(token: Token, limits: Limits, sessions: Arc<Sessions>, permit: Option<ConnectionPermit>) -> Self {
        let state = Mutex::new(SessionState::new(token, limits));
        let runtime = rt::Handle::try_current().ok();
        Self { token, limits, sessions, state, moved: AtomicUsize::new(0), runtime, _permit: permit }
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> Token {
        self.token
    }

    fn lock(&self) -> Locked<'_> {
        Locked::new(self.state.lock())
    }

    /// Inspects the state. If it `waits`, the next change that concerns `who` wakes it. `look` may run twice: the waker
    /// is cloned between two looks, because no user code may run under the lock.
    fn look<T>(
        &self,
        who: Waiter,
        cx: &Context<'_>,
        waits: impl Fn(&T) -> bool,
        mut look: impl FnMut(&mut Locked<'_>) -> T,
    ) -> T {
        let mut waker = None;
        loop {
            let mut state = self.lock();
            let seen = look(&mut state);
            // The common case: the same task waits again, and no waker is cloned.
            if !waits(&seen) || state.is_registered(who, cx.waker()) {
                return seen;
            }
            match waker.take() {
                Some(waker) => {
                    state.register(who, waker);
                    return seen;
                }
                None => {
                    drop(state);
                    waker = Some(cx.waker().clone());
                }
            }
        }
    }

    /// Like [`look`](Self::look), for a `Poll`.
    fn poll<T>(&self, who: Waiter, cx: &Context<'_>, look: impl FnMut(&mut Locked<'_>) -> Poll<T>) -> Poll<T> {
        self.look(who, cx, Poll::is_pending, look)
    }

    /// Counts bytes that a task of the HTTP server has moved.
    fn count_moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes, Relaxed);
    }

    /// Reports to the layers above the handler's end, within one of its polls, the bytes that the HTTP server has moved
    /// meanwhile.
    fn report_moved(&self) {
        if self.moved.load(Relaxed) > 0 {
            signal::moved(self.moved.swap(0, Relaxed));
        }
    }
}

impl fmt::Debug for Session {
    /// Omits waiting data: it begins with the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.close(self.token);
        self.lock().wake(Waiter::Expiry);
    }
}

/// An item for the handler's end.
#[derive(Debug)]
pub(super) enum FromClient {
    Message(Message),
    Fault(Error),
    Cut,
}

/// The handler's end.
impl Session {
    /// Returns the next message, or why there is no next one. Pings are answered here.
    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<FromClient> {
        self.report_moved();
        self.poll(Waiter::Reader, cx, |state| {
            if let Some(message) = state.inbox.pop() {
                if state.inbox.has_room() {
                    state.wake(Waiter::Post);
                }
                // Answered as it is read, so that a handler which does not read does not look alive.
                if let Message::Ping(payload) = &message {
                    state.pong = Some(payload.clone());
                    state.wake(Waiter::Body);
                }
                return Poll::Ready(FromClient::Message(message));
            }
            if let Some(error) = &state.fault {
                return Poll::Ready(FromClient::Fault(error.clone()));
            }
            if state.is_cut { Poll::Ready(FromClient::Cut) } else { Poll::Pending }
        })
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Returns `Ready(true)` when there is room for one more message, and `Ready(false)` once the client no longer
    /// reads.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        self.report_moved();
        self.poll(Waiter::Writer, cx, |state| {
            if state.is_cut {
                return Poll::Ready(false);
            }
            if state.outbox.len() < self.limits.write_buffer.max(1) {
                return Poll::Ready(true);
            }
            state.wake(Waiter::Body);
            Poll::Pending
        })
    }

    pub(super) fn send(&self, message: &Message) {
        let mut state = self.lock();
        if state.is_cut {
            // The message cannot be delivered. The client may have left between the sink's check and this one.
            state.is_lost = true;
            return;
        }
        event::encode(message, &mut state.outbox);
        // Otherwise the body is woken by the flush, and takes many messages as one frame.
        if state.outbox.len() >= FRAME || message.is_close() {
            state.wake(Waiter::Body);
        }
    }

    /// Returns `Ready(true)` when everything is with the HTTP server, and `Ready(false)` if it never will be.
    pub(super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<bool> {
        self.report_moved();
        self.poll(Waiter::Writer, cx, |state| {
            if state.is_cut || state.outbox.is_empty() {
                return Poll::Ready(!state.is_lost);
            }
            state.wake(Waiter::Body);
            Poll::Pending
        })
    }

    /// The reading half's [`poll_flush`](Self::poll_flush).
    pub(super) fn poll_told(&self, cx: &Context<'_>) -> Poll<()> {
        self.report_moved();
        self.poll(Waiter::Teller, cx, |state| {
            if state.is_cut || (state.outbox.is_empty() && state.pong.is_none()) {
                return Poll::Ready(());
            }
            state.wake(Waiter::Body);
            Poll::Pending
        })
    }

    /// Returns the number of bytes that the HTTP server has not taken.
    pub(super) fn unsent(&self) -> u64 {
        self.lock().outbox.len() as u64
    }

    pub(super) fn wake_reader(&self) {
        self.lock().wake(Waiter::Reader);
    }

    pub(super) fn wake_writer(&self) {
        self.lock().wake(Waiter::Writer);
    }
}

/// The response's body, which empties the outbox.
impl Session {
    /// Returns the next bytes to send down, or `None` at the end.
    pub(super) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let frame = self.poll(Waiter::Body, cx, |state| {
            if let Some(payload) = state.pong.take() {
                event::encode(&Message::Pong(payload), &mut state.outbox);
            }
            if !state.outbox.is_empty() {
                let length = state.outbox.len().min(FRAME);
                let frame = state.outbox.split_to(length).freeze();
                if state.outbox.is_empty() {
                    state.wake(Waiter::Teller);
                }
                state.wake(Waiter::Writer);
                return Poll::Ready(Some(frame));
            }
            if state.is_left { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Poll::Ready(Some(frame)) = &frame {
            self.count_moved(frame.len());
        }
        frame
    }

    pub(super) fn is_end(&self) -> bool {
        let state = self.lock();
        state.is_left && state.outbox.is_empty() && state.pong.is_none()
    }

    /// Records that the body was dropped: the client is gone, or has everything.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        state.is_lost = !state.outbox.is_empty();
        state.outbox = BytesMut::new();
        state.pong = None;
        // All but the body, which is being dropped.
        [Waiter::Reader, Waiter::Teller, Waiter::Writer, Waiter::Post].into_iter().for_each(|who| state.wake(who));
    }
}

/// The POSTs, which fill the inbox. The newest POST has its turn.
impl Session {
    /// Begins a POST whose first message has this number, and ends any other one. Returns `Err` with the expected
    /// number if this one is beyond it.
    pub(super) fn begin(&self, number: u64) -> Result<Turn, u64> {
        let mut state = self.lock();
        let due = state.inbox.next();
        if number > due {
            return Err(due);
        }
        state.post += 1;
        state.wake(Waiter::Post);
        Ok(Turn::new(state.post, number, self.limits.message))
    }

    /// Returns the number of the next expected message.
    pub(super) fn next(&self) -> u64 {
        self.lock().inbox.next()
    }

    /// Gives the turn the bytes that were read.
    pub(super) fn read(&self, turn: &mut Turn, input: Bytes) {
        self.count_moved(input.len());
        turn.read(input);
    }

    /// Puts the bytes read into the inbox, as far as there is room.
    pub(super) fn take(&self, turn: &mut Turn, cx: &Context<'_>) -> Step {
        let mut is_copied = turn.is_copied();
        let step = self.look(Waiter::Post, cx, Step::waits, |state| turn.fill(state, &mut is_copied));
        turn.release(is_copied);
        step
    }
}

/// The end: the handler is done, and the client has a limited time to read the rest.
impl Session {
    /// Ends the handler's side: the body ends after the content of the outbox, and POSTs are rejected. A client that
    /// has not read to the end, nor made progress within [`Limits::close`](crate::Limits::close), loses the rest, and
    /// its place is released.
    pub(super) fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        let was_left = std::mem::replace(&mut state.is_left, true);
        // Once, and only for a client that still reads.
        let waits = !was_left && !state.is_cut;
        state.inbox.clear();
        [Waiter::Body, Waiter::Post, Waiter::Writer].into_iter().for_each(|who| state.wake(who));
        drop(state);
        if waits && let Some(runtime) = &self.runtime {
            // A transport may be dropped outside of the runtime.
            runtime.spawn(expire(Arc::downgrade(self), self.limits.close));
        }
    }

    fn discard(&self) {
        let mut state = self.lock();
        state.is_lost = state.is_lost || !state.outbox.is_empty();
        state.outbox = BytesMut::new();
        state.pong = None;
        [Waiter::Body, Waiter::Teller, Waiter::Writer].into_iter().for_each(|who| state.wake(who));
        drop(state);
        self.sessions.close(self.token);
    }
}

/// Ends with the session, or `time` after the client's last progress.
async fn expire(session: Weak<Session>, time: Duration) {
    let gone = poll_fn(|cx| match session.upgrade() {
        Some(session) => session.poll(Waiter::Expiry, cx, |_| Poll::Pending),
        None => Poll::Ready(()),
    });
    let unsent = || session.upgrade().map_or(0, |session| session.unsent());
    if !linger(time, gone, unsent).await
        && let Some(session) = session.upgrade()
    {
        session.discard();
    }
}

/// The sessions of a server, by their tokens. A session is kept alive by its two ends, the handler's transport and the
/// response's body; this is only an index.
pub(super) struct Sessions {
    by_token: Mutex<HashMap<Token, Weak<Session>>>,
    most: usize,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self { by_token: Mutex::default(), most }
    }

    /// Opens a new session, or returns `None` if there are too many.
    pub(super) fn open(self: &Arc<Self>, limits: Limits, permit: Option<ConnectionPermit>) -> Option<Arc<Session>> {
        let mut by_token = self.by_token.lock();
        if by_token.len() >= self.most {
            return None;
        }
        let token = Token::random();
        let session = Arc::new(Session::new(token, limits, self.clone(), permit));
        by_token.insert(token, Arc::downgrade(&session));
        Some(session)
    }

    pub(super) fn find(&self, token: Token) -> Option<Arc<Session>> {
        self.by_token.lock().get(&token)?.upgrade()
    }

    /// Releases the place of a session that is dropped, or whose client has not finished reading in time.
    pub(super) fn close(&self, token: Token) {
        self.by_token.lock().remove(&token);
    }

    pub(super) fn len(&self) -> usize {
        self.by_token.lock().len()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.len();
        f.debug_struct("Sessions").field("len", &len).field("most", &self.most).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;
    use std::task::{Wake, Waker};

    #[test]
    fn what_is_printed_of_a_session_does_not_have_its_token() {
        let session = Arc::new(Sessions::new(1)).open(Limits::default(), None).unwrap();
        let printed = format!("{session:?}");
        assert!(printed.starts_with("Session") && !printed.contains(&session.token().text()), "{printed}");
        assert!(!printed.contains("outbox"), "{printed}");
    }

    /// A waker that inspects the session as soon as it is woken, and once more when it is dropped.
    struct Nosy {
        session: Arc<Session>,
        woken: Arc<AtomicUsize>,
    }

    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            self.session.next();
            self.woken.fetch_add(1, Relaxed);
        }
    }

    impl Drop for Nosy {
        fn drop(&mut self) {
            self.session.next();
        }
    }

    fn post(session: &Arc<Session>, text: &str, waker: &Waker) {
        let mut turn = session.begin(session.next()).unwrap();
        session.read(&mut turn, [&[0, text.len() as u8], text.as_bytes()].concat().into());
        assert!(matches!(session.take(&mut turn, &Context::from_waker(waker)), Step::Read));
    }

    #[test]
    fn no_waker_is_woken_or_dropped_under_the_lock() {
        let limits = Limits::new().write_buffer(10);
        let waits: [fn(&Session, &Context<'_>); 6] = [
            |session, cx| assert!(session.poll_receive(cx).is_pending()),
            |session, cx| assert!(session.poll_told(cx).is_pending()),
            |session, cx| assert!(session.poll_room(cx).is_pending()),
            |session, cx| assert!(session.poll_flush(cx).is_pending()),
            |session, cx| {
                while session.poll_frame(cx).is_ready() {}
            },
            |session, cx| {
                let mut turn = session.begin(session.next()).unwrap();
                assert!(matches!(session.take(&mut turn, cx), Step::Read));
            },
        ];
        let changes: [fn(&Arc<Session>); 5] = [
            |session| post(session, "hello", Waker::noop()),
            |session| while session.poll_frame(&Context::from_waker(Waker::noop())).is_ready() {},
            |session| session.send(&Message::Close(None)),
            |session| session.cut(),
            |session| session.leave(),
        ];
        let woken = Arc::new(AtomicUsize::new(0));
        for wait in waits {
            for change in changes {
                let session = Arc::new(Sessions::new(1)).open(limits, None).unwrap();
                session.send(&Message::text("more than there is room for"));
                // Twice, so that one waker replaces another.
                for _ in 0..2 {
                    let nosy = Arc::new(Nosy { session: session.clone(), woken: woken.clone() });
                    wait(&session, &Context::from_waker(&Waker::from(nosy)));
                }
                change(&session);
                session.cut();
                session.leave();
            }
        }
        assert!(woken.load(Relaxed) >= 12, "{woken:?}");
    }

    #[test]
    fn a_place_is_free_again_when_both_ends_of_the_session_are_gone() {
        let sessions = Arc::new(Sessions::new(1));
        let session = sessions.open(Limits::default(), None).unwrap();
        assert!(sessions.open(Limits::default(), None).is_none());
        let other_end = sessions.find(session.token()).unwrap();
        drop(session);
        assert_eq!(sessions.len(), 1);
        drop(other_end);
        assert_eq!(sessions.len(), 0);
        assert!(sessions.open(Limits::default(), None).is_some());
    }

    #[test]
    fn a_session_is_found_by_its_own_token_alone() {
        let sessions = Arc::new(Sessions::new(2));
        let (one, other) =
            (sessions.open(Limits::default(), None).unwrap(), sessions.open(Limits::default(), None).unwrap());
        assert!(Arc::ptr_eq(&sessions.find(one.token()).unwrap(), &one));
        assert!(Arc::ptr_eq(&sessions.find(other.token()).unwrap(), &other));
        assert!(sessions.find(Token::random()).is_none());
    }
}
