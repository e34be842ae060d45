//! Where a client's session stands between two connections.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{
    SessionId, Verdict,
    budget::Budget,
    state::{Core, Mismatch, Window},
    wire::{Bytes16, Hello, Welcome},
};
use crate::Error;

/// The session of a client. A transport owns its [`Core`] while it lives, so that a message costs no lock, and brings it
/// home.
#[derive(Debug, Default)]
pub(super) struct Home {
    /// The newest connection; an older transport finds out that it is not meant any more.
    epoch: AtomicU64,
    /// What was accepted and not acknowledged, for those who look on.
    messages: AtomicUsize,
    bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    core: Option<Core>,
    /// The session's secret, and the waker of the transport that has the core.
    token: Bytes16,
    away: Option<Arc<Waker>>,
    /// There was a session, so the next one is not the first.
    is_known: bool,
    /// Messages of sessions that ended by themselves.
    lost: u64,
    id: Option<SessionId>,
    verdict: Option<Verdict>,
    verdicts: u64,
    waiting: Vec<Waker>,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn is_newest(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch
    }

    /// A new connection begins: every older one is not meant any more.
    pub(super) fn fence(&self) -> u64 {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let mut state = self.lock();
        let (wakers, away) = (std::mem::take(&mut state.waiting), state.away.clone());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        away.iter().for_each(|away| away.wake_by_ref());
        epoch
    }

    /// The opening message, once the older transport has brought the session home.
    pub(super) fn poll_hello(&self, epoch: u64, own: Window, cx: &mut Context<'_>) -> Poll<Result<Hello, Error>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if !self.is_newest(epoch) {
            return Poll::Ready(Err(superseded()));
        }
        if state.away.is_some() {
            let waker = state.wait(waker);
            drop(state);
            drop(waker);
            return Poll::Pending;
        }
        let token = state.token;
        let session = state.core.as_mut().map(|core| (core.id, token, core.position()));
        Poll::Ready(Ok(Hello { epoch, window: own, session }))
    }

    /// The transport that has the session will not bring it home: it is given up.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        let away = state.away.take();
        if away.is_some() {
            state.lost += self.messages.load(Ordering::Relaxed) as u64;
            state.id = None;
        }
        drop(state);
        drop(away);
    }

    /// The server's answer: the session that the new transport gets, and what became of the old one.
    pub(super) fn welcomed(
        &self,
        epoch: u64,
        (own, max_stalled): (Window, u32),
        welcome: &Welcome,
        waker: Waker,
    ) -> Result<(Core, Verdict), Error> {
        // A session that is over goes once the lock is free: its messages are the user's.
        let mut over = None;
        let mut state = self.lock();
        if !self.is_newest(epoch) {
            return Err(superseded());
        }
        let (core, verdict) = match (state.core.take(), welcome.is_resumed) {
            (Some(mut core), true) if core.id == welcome.id => match core.check(&welcome.position) {
                Ok(()) => {
                    let replayed = core.go_on(&welcome.position, welcome.window);
                    (core, Verdict::Resumed { replayed })
                }
                Err(Mismatch::Lie(error)) => {
                    state.core = Some(core);
                    return Err(error);
                }
                Err(Mismatch::Diverged(error)) => {
                    state.drop_session(&core);
                    drop(state);
                    return Err(error);
                }
            },
            (core, true) => {
                state.core = core;
                return Err(Error::protocol("resume: the server resumes a session that is not this client's"));
            }
            (core, false) => {
                let mut fresh = Core::new(welcome.id, own, welcome.window, Budget::default(), max_stalled);
                if welcome.position != fresh.position() {
                    state.core = core;
                    return Err(Error::protocol("resume: the server begins a session that is not at its beginning"));
                }
                if let Some(core) = core {
                    state.drop_session(&core);
                    over = Some(core);
                }
                state.token = welcome.token;
                let lost = std::mem::take(&mut state.lost);
                let is_known = std::mem::replace(&mut state.is_known, true);
                (fresh, if is_known { Verdict::Fresh { lost } } else { Verdict::New })
            }
        };
        state.away = Some(Arc::new(waker));
        state.id = Some(SessionId(core.id));
        state.verdict = Some(verdict);
        state.verdicts += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(over);
        self.show(&core);
        waiting.into_iter().for_each(Waker::wake);
        Ok((core, verdict))
    }

    /// Lets those who look on see the counts.
    #[inline]
    pub(super) fn show(&self, core: &Core) {
        let (messages, bytes) = core.out.unacknowledged();
        self.messages.store(messages, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// A transport brings its session back; `is_broken`: it cannot go on.
    fn bring(&self, mut core: Core, is_broken: bool) {
        core.forget_inbox();
        let is_broken = is_broken || core.connection_dropped().is_some();
        let mut state = self.lock();
        if state.id != Some(SessionId(core.id)) {
            // Given up meanwhile, and counted.
            return;
        }
        let away = state.away.take();
        let owes = core.out.unacknowledged().0 > 0;
        if core.closing.is_some() || (core.is_over && !owes) {
            // Ended as it should be: the next session is a first one.
            state.is_known = false;
            state.drop_session(&core);
            state.lost = 0;
        } else if core.is_over || is_broken {
            state.drop_session(&core);
        } else {
            state.core = Some(core);
        }
        if state.core.is_none() {
            self.messages.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(away);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn id(&self) -> Option<SessionId> {
        self.lock().id
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.lock().verdict
    }

    pub(super) fn unacknowledged(&self) -> (usize, usize) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// The newest verdict, once there is one that `seen` does not count.
    pub(super) fn poll_verdict(&self, seen: &mut u64, cx: &mut Context<'_>) -> Poll<Verdict> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        match state.verdict {
            Some(verdict) if state.verdicts > *seen => {
                *seen = state.verdicts;
                Poll::Ready(verdict)
            }
            _ => {
                let waker = state.wait(waker);
                drop(state);
                drop(waker);
                Poll::Pending
            }
        }
    }
}

impl State {
    /// Gives back a waker that is there already, to be dropped where the lock is free.
    fn wait(&mut self, waker: Waker) -> Option<Waker> {
        if self.waiting.iter().any(|other| other.will_wake(&waker)) {
            return Some(waker);
        }
        self.waiting.push(waker);
        None
    }

    fn drop_session(&mut self, core: &Core) {
        self.lost += core.out.unacknowledged().0 as u64;
        self.id = None;
    }
}

impl fmt::Debug for State {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("id", &self.id).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

pub(super) fn superseded() -> Error {
    Error::closed("resume: a newer connection has taken the session over")
}

/// A session that is away from home, and is brought back whatever happens to the transport.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) core: Option<Core>,
    pub(super) home: Arc<Home>,
    pub(super) epoch: u64,
}

impl Lease {
    /// The session goes home.
    pub(super) fn end(&mut self, is_broken: bool) {
        if let Some(core) = self.core.take() {
            self.home.bring(core, is_broken);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(false);
    }
}
