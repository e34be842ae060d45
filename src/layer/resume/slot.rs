//! Where a client's new connection waits for its session to take it.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{home::superseded, state::Window, wire::Position};
use crate::Error;

/// A connection whose client wants to go on with a session, and holds its secret.
pub(super) struct Offer<T> {
    pub(super) link: T,
    pub(super) epoch: u64,
    pub(super) window: Window,
    pub(super) position: Position,
}

/// What became of an offer.
pub(super) enum Outcome<T> {
    /// The session goes on over it.
    Taken,
    /// The session is over, or of no use any more: the connection is free for a new one.
    Free(T),
    Refused(T, Error),
}

pub(super) struct Slot<T> {
    has_offer: AtomicBool,
    /// Wakes both halves of the session.
    session: Waker,
    state: Mutex<State<T>>,
}

/// An idle session has none of it, and there are many: the rare connection that waits is boxed.
struct State<T> {
    offer: Option<Box<T>>,
    facts: Option<(u64, Window, Position)>,
    /// The newest offer's number: an older one has lost.
    ticket: u64,
    outcome: Option<Box<Outcome<T>>>,
    accepting: Option<Waker>,
    /// The session takes no more offers.
    is_gone: bool,
    /// It had to make room for another one.
    is_evicted: bool,
}

impl<T> Slot<T> {
    pub(super) fn new(session: Waker) -> Self {
        let state = State {
            offer: None,
            facts: None,
            ticket: 0,
            outcome: None,
            accepting: None,
            is_gone: false,
            is_evicted: false,
        };
        Self { has_offer: AtomicBool::new(false), session, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays a connection down, in place of an older one that waits. Its number, or the connection itself when the session is
    /// gone.
    pub(super) fn offer(&self, offer: Offer<T>) -> Result<u64, T> {
        let mut state = self.lock();
        if state.is_gone {
            return Err(offer.link);
        }
        let older = (state.offer.replace(Box::new(offer.link)), state.outcome.take());
        state.facts = Some((offer.epoch, offer.window, offer.position));
        state.ticket += 1;
        let ticket = state.ticket;
        let accepting = state.accepting.take();
        self.has_offer.store(true, Ordering::Release);
        drop(state);
        drop(older);
        accepting.into_iter().for_each(Waker::wake);
        self.session.wake_by_ref();
        Ok(ticket)
    }

    /// What became of the offer of this number.
    pub(super) fn poll_outcome(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<Outcome<T>, Error>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.ticket != ticket {
            return Poll::Ready(Err(superseded()));
        }
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(Ok(*outcome));
        }
        if state.is_gone {
            let free = state.offer.take().map(|link| Outcome::Free(*link));
            return Poll::Ready(free.ok_or_else(superseded));
        }
        let older = state.accepting.replace(waker);
        drop(state);
        drop(older);
        Poll::Pending
    }

    /// Takes back an offer that nobody took.
    pub(super) fn withdraw(&self, ticket: u64) {
        let mut state = self.lock();
        if state.ticket == ticket {
            let offer = (state.offer.take(), state.outcome.take());
            self.has_offer.store(false, Ordering::Release);
            drop(state);
            drop(offer);
        }
    }

    /// Whether a connection waits, or the session is to end: all that a message costs.
    pub(super) fn has_offer(&self) -> bool {
        self.has_offer.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<(u64, Offer<T>)> {
        let mut state = self.lock();
        self.has_offer.store(false, Ordering::Release);
        if state.is_evicted {
            // Nobody would find the session again, so the connection is free for a new one.
            return None;
        }
        let (link, (epoch, window, position)) = (*state.offer.take()?, state.facts.take()?);
        Some((state.ticket, Offer { link, epoch, window, position }))
    }

    pub(super) fn report(&self, ticket: u64, outcome: Outcome<T>) {
        let mut state = self.lock();
        if state.ticket == ticket {
            state.outcome = Some(Box::new(outcome));
            let accepting = state.accepting.take();
            drop(state);
            accepting.into_iter().for_each(Waker::wake);
        }
    }

    /// The session ends: it has to make room for another one.
    pub(super) fn evict(&self) {
        self.lock().is_evicted = true;
        self.leave();
        self.has_offer.store(true, Ordering::Release);
        self.session.wake_by_ref();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.lock().is_evicted
    }

    /// The session takes no more offers.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.is_gone = true;
        let accepting = state.accepting.take();
        drop(state);
        accepting.into_iter().for_each(Waker::wake);
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("has_offer", &self.has_offer()).finish_non_exhaustive()
    }
}
