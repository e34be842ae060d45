//! How a client's new connection reaches its session.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{
    cell::superseded,
    wire::{Position, Window},
};
use crate::Error;

/// A connection whose client wants to resume a session, and has its secret.
pub(super) struct Offer<T> {
    pub(super) link: T,
    pub(super) epoch: u64,
    pub(super) window: Window,
    pub(super) position: Position,
}

/// The outcome of an offer.
pub(super) enum Outcome<T> {
    /// The session goes on over the connection.
    Taken,
    /// The session is over or useless: the connection is free for a new one.
    Free(T),
    Refused(T, Error),
}

/// A place for one offer, shared by a session and those that accept connections for it.
pub(super) struct Handoff<T> {
    has_offer: AtomicBool,
    /// Wakes both halves of the session.
    session: Waker,
    state: Mutex<Offered<T>>,
}

/// Most sessions never have an offer, and there are many sessions, so the connection is boxed.
struct Offered<T> {
    offer: Option<Box<Offer<T>>>,
    /// The number of the newest offer. An older one has lost.
    ticket: u64,
    outcome: Option<Box<Outcome<T>>>,
    acceptor: Option<Waker>,
    /// The session takes no more offers.
    is_gone: bool,
    /// The session had to make room for another one.
    is_evicted: bool,
}

impl<T> Handoff<T> {
    pub(super) fn new(session: Waker) -> Self {
        let state =
            Offered { offer: None, ticket: 0, outcome: None, acceptor: None, is_gone: false, is_evicted: false };
        Self { has_offer: AtomicBool::new(false), session, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, Offered<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a connection, replacing an older one that waits. Returns its number, or the connection if the session is
    /// gone.
    pub(super) fn offer(&self, offer: Offer<T>) -> Result<u64, T> {
        let offer = Box::new(offer);
        let mut state = self.lock();
        if state.is_gone {
            return Err(offer.link);
        }
        let older = (state.offer.replace(offer), state.outcome.take());
        state.ticket += 1;
        let ticket = state.ticket;
        let acceptor = state.acceptor.take();
        self.has_offer.store(true, Ordering::Release);
        drop(state);
        drop(older);
        acceptor.into_iter().for_each(Waker::wake);
        self.session.wake_by_ref();
        Ok(ticket)
    }

    /// Returns what became of the offer with this number.
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
            let free = state.offer.take().map(|offer| Outcome::Free(offer.link));
            return Poll::Ready(free.ok_or_else(superseded));
        }
        let older = state.acceptor.replace(waker);
        drop(state);
        drop(older);
        Poll::Pending
    }

    /// Takes back an offer that the session has not taken.
    pub(super) fn withdraw(&self, ticket: u64) {
        let mut state = self.lock();
        if state.ticket == ticket {
            let offer = (state.offer.take(), state.outcome.take());
            // The flag also tells the session that it was evicted, which it must still find out.
            self.has_offer.store(state.is_evicted, Ordering::Release);
            drop(state);
            drop(offer);
        }
    }

    /// Whether a connection waits, or the session has to end. This is the cost of the handoff for a message.
    #[inline]
    pub(super) fn has_offer(&self) -> bool {
        self.has_offer.load(Ordering::Acquire)
    }

    /// Takes the offer, for the session.
    pub(super) fn take(&self) -> Option<(u64, Offer<T>)> {
        let mut state = self.lock();
        self.has_offer.store(false, Ordering::Release);
        if state.is_evicted {
            // The store does not find the session any more, so the connection is free for a new one.
            return None;
        }
        let offer = state.offer.take()?;
        Some((state.ticket, *offer))
    }

    pub(super) fn report(&self, ticket: u64, outcome: Outcome<T>) {
        let outcome = Box::new(outcome);
        let mut state = self.lock();
        if state.ticket == ticket {
            state.outcome = Some(outcome);
            let acceptor = state.acceptor.take();
            drop(state);
            acceptor.into_iter().for_each(Waker::wake);
        }
    }

    /// Ends the session, which has to make room for another one.
    pub(super) fn evict(&self) {
        let mut state = self.lock();
        state.is_evicted = true;
        self.has_offer.store(true, Ordering::Release);
        drop(state);
        self.leave();
        self.session.wake_by_ref();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.lock().is_evicted
    }

    /// Refuses all further offers.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.is_gone = true;
        let acceptor = state.acceptor.take();
        drop(state);
        acceptor.into_iter().for_each(Waker::wake);
    }
}

impl<T> fmt::Debug for Handoff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("has_offer", &self.has_offer()).finish_non_exhaustive()
    }
}
