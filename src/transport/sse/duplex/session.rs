//! A server's session: the state that its three users share. The handler's transport takes from the inbox and writes
//! into the outbox, the POSTs fill the inbox, and the response's body empties the outbox. No user holds the lock while
//! it waits, and no waker is cloned, woken or dropped under it.

mod down;
mod handler;
mod leave;
mod state;
mod up;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use self::state::{Locked, State, Who};
pub(super) use self::{
    handler::Received,
    up::{Step, Turn},
};
use super::{sessions::Sessions, token::Token};
use crate::{
    Limits, rt,
    transport::{place::Place, signal},
};

/// The maximum number of bytes that the body takes at once.
const FRAME: usize = 16 * 1024;

pub(super) struct Session {
    token: Token,
    pub(super) limits: Limits,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// The bytes that the HTTP server's tasks have moved since the handler's end last reported them.
    moved: AtomicUsize,
    /// The runtime in which the session was opened, or `None` outside of one.
    runtime: Option<rt::Handle>,
    /// The value that guards want back when both ends are gone.
    _place: Option<Place>,
}

impl Session {
    pub(super) fn new(token: Token, limits: Limits, sessions: Arc<Sessions>, place: Option<Place>) -> Self {
        let state = Mutex::new(State::new(token, limits));
        let runtime = rt::Handle::try_current().ok();
        Self { token, limits, sessions, state, moved: AtomicUsize::new(0), runtime, _place: place }
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> Token {
        self.token
    }

    fn lock(&self) -> Locked<'_> {
        Locked::new(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Inspects the state. If it `waits`, the next change that concerns `who` wakes it. `look` may run twice: the waker
    /// is cloned between two looks, because no user code may run under the lock.
    fn look<T>(
        &self,
        who: Who,
        cx: &Context<'_>,
        waits: impl Fn(&T) -> bool,
        mut look: impl FnMut(&mut Locked<'_>) -> T,
    ) -> T {
        let mut waker = None;
        loop {
            let mut state = self.lock();
            let seen = look(&mut state);
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
    fn poll<T>(&self, who: Who, cx: &Context<'_>, look: impl FnMut(&mut Locked<'_>) -> Poll<T>) -> Poll<T> {
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
        self.lock().wake(Who::Expiry);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;
    use crate::Message;

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
}
