//! How a client's new connection reaches its session.

use std::task::{Context, Poll, Waker};

use super::{
    cell::superseded,
    wire::{Position, Window},
};
use crate::{
    Error,
    sync::{
        atomic::{AtomicBool, Ordering},
        checked::Mutex,
    },
};

/// A connection whose client wants to resume a session, and has its secret.
pub(super) struct Offer<T> {
    pub(super) link: T,
    pub(super) epoch: u64,
    pub(super) window: Window,
    pub(super) position: Position,
    /// The client's user did not read on the last connection.
    pub(super) is_unread: bool,
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
///
/// ```text
///   acceptor                        here                         session's handler
///   offer ----------> the offer, has_offer = true -- wakes --> take
///   poll_outcome <-- wakes -- the outcome <------------------- report
///   withdraw: the acceptor stopped waiting      evict, leave: the session takes no more offers
/// ```
///
/// No wake-up is lost, because each side first registers and then looks, and the other first changes and then wakes.
/// A newer offer replaces an older one with all that belongs to it; the ticket tells whose outcome it is. The models
/// below try every order of these steps.
pub(super) struct Handoff<T> {
    /// Also set when the session was evicted: one load per poll tells that something is to be done. It only changes
    /// under the lock, so a withdrawal cannot hide an eviction.
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

    /// Offers a connection, replacing an older one that waits. Returns its number, or the connection if the session is
    /// gone.
    pub(super) fn offer(&self, offer: Offer<T>) -> Result<u64, T> {
        let offer = Box::new(offer);
        let mut state = self.state.lock();
        if state.is_gone {
            return Err(offer.link);
        }
        // The outcome of the older offer goes with it, or this acceptor would take it for its own.
        let older = (state.offer.replace(offer), state.outcome.take());
        state.ticket += 1;
        let ticket = state.ticket;
        let acceptor = state.acceptor.take();
        // Set under the lock, as everywhere: otherwise an older `withdraw` or `take` could clear it afterwards.
        self.has_offer.store(true, Ordering::Release);
        drop(state);
        drop(older);
        acceptor.into_iter().for_each(Waker::wake);
        self.session.wake_by_ref();
        Ok(ticket)
    }

    /// Returns what became of the offer with this number.
    pub(super) fn poll_outcome(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<Outcome<T>, Error>> {
        // Cloned outside of the lock, for a clone is code of the executor.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        if state.ticket != ticket {
            return Poll::Ready(Err(superseded()));
        }
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(Ok(*outcome));
        }
        if state.is_gone {
            // The session ended before it took the offer. A missing offer was replaced, and its connection is gone.
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
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
        // A newer offer has replaced this one: its acceptor was told so, and the connection is dropped with the
        // outcome.
        if state.ticket == ticket {
            state.outcome = Some(outcome);
            let acceptor = state.acceptor.take();
            drop(state);
            acceptor.into_iter().for_each(Waker::wake);
        }
    }

    /// Ends the session, which has to make room for another one.
    pub(super) fn evict(&self) {
        let mut state = self.state.lock();
        state.is_evicted = true;
        self.has_offer.store(true, Ordering::Release);
        // The acceptor first: its connection is free for a new session, and need not wait until this one is polled.
        drop(state);
        self.leave();
        self.session.wake_by_ref();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.state.lock().is_evicted
    }

    /// Refuses all further offers.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.is_gone = true;
        let acceptor = state.acceptor.take();
        drop(state);
        acceptor.into_iter().for_each(Waker::wake);
    }
}

debug_fields!([T] Handoff<T>, |this| { has_offer: this.has_offer() });

#[cfg(test)]
mod models {
    #![cfg(model)]

    use std::{cell::Cell, sync::Arc};

    use loom::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use super::*;
    use crate::transport::wakers::{Half, WakerPair};

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// The task of a session's handler, which reads.
    struct Handler {
        wakers: Arc<WakerPair>,
        handoff: Arc<Handoff<u8>>,
        task: Arc<Task>,
        has_found_eviction: Cell<bool>,
    }

    impl Handler {
        fn new() -> Self {
            let (wakers, both) = WakerPair::new();
            let handoff = Arc::new(Handoff::new(both));
            Self { wakers, handoff, task: Arc::default(), has_found_eviction: Cell::new(false) }
        }

        /// One poll, as `Session::poll_next` does it without a connection: registers, then looks. Returns the link that
        /// it took.
        fn poll(&self) -> Option<u8> {
            self.wakers.register(Half::Reader, &Context::from_waker(&Waker::from(self.task.clone())));
            if !self.handoff.has_offer() {
                return None;
            }
            let Some((ticket, offer)) = self.handoff.take() else {
                self.has_found_eviction.set(self.handoff.is_evicted());
                return None;
            };
            self.handoff.report(ticket, Outcome::Taken);
            Some(offer.link)
        }

        /// Polls as a runtime does, for wake-ups that have come. Returns what a poll took.
        fn run_if_woken(&self) -> Option<u8> {
            if self.task.0.load(Relaxed) > 0 { self.poll() } else { None }
        }
    }

    fn offer(link: u8) -> Offer<u8> {
        Offer { link, epoch: 2, window: Window::default(), position: Position::default(), is_unread: false }
    }

    #[test]
    fn an_offer_is_taken_and_its_acceptor_told_whatever_the_order() {
        loom::model(|| {
            let handler = Handler::new();
            let (handoff, acceptor) = (handler.handoff.clone(), Arc::new(Task::default()));
            let task = acceptor.clone();
            let accepting = thread::spawn(move || {
                let ticket = handoff.offer(offer(7)).unwrap_or_default();
                let polled = handoff.poll_outcome(ticket, &mut Context::from_waker(&Waker::from(task)));
                (ticket, polled.is_ready())
            });
            let taken = handler.poll();
            let Ok((ticket, is_told)) = accepting.join() else { return };
            assert_eq!(taken.or_else(|| handler.run_if_woken()), Some(7), "the session sleeps");
            if !is_told {
                assert!(acceptor.0.load(Relaxed) > 0, "the acceptor sleeps");
                let mut cx = Context::from_waker(Waker::noop());
                assert!(matches!(handler.handoff.poll_outcome(ticket, &mut cx), Poll::Ready(Ok(Outcome::Taken))));
            }
        });
    }

    #[test]
    fn of_two_offers_the_newest_is_taken_last_and_each_acceptor_is_told() {
        loom::model(|| {
            let handler = Handler::new();
            let accepting = [1, 2].map(|link| {
                let (handoff, task) = (handler.handoff.clone(), Arc::new(Task::default()));
                thread::spawn(move || {
                    let ticket = handoff.offer(offer(link)).unwrap_or_default();
                    let is_ready = handoff.poll_outcome(ticket, &mut Context::from_waker(&Waker::from(task.clone())));
                    (ticket, link, is_ready.is_ready(), task)
                })
            });
            let mut taken = handler.poll();
            let mut newest = (0, 0);
            for joined in accepting.map(thread::JoinHandle::join) {
                let Ok((ticket, link, is_told, task)) = joined else { return };
                newest = newest.max((ticket, link));
                if let Some(link) = handler.run_if_woken() {
                    taken = Some(link);
                }
                assert!(is_told || task.0.load(Relaxed) > 0, "the acceptor of {link} sleeps");
            }
            assert_eq!(taken, Some(newest.1), "the connection of the newest offer has the session");
        });
    }

    #[test]
    fn an_offer_that_is_withdrawn_while_it_is_taken_is_taken_or_dropped_and_leaves_nothing() {
        loom::model(|| {
            let handler = Handler::new();
            let handoff = handler.handoff.clone();
            let Ok(ticket) = handoff.offer(offer(7)) else { return };
            let withdrawing = thread::spawn(move || handoff.withdraw(ticket));
            let _ = handler.poll();
            let Ok(()) = withdrawing.join() else { return };
            assert!(!handler.handoff.has_offer() && handler.handoff.take().is_none());
            let state = handler.handoff.state.lock();
            assert!(state.offer.is_none(), "the connection lives on");
        });
    }

    #[test]
    fn a_session_that_is_evicted_finds_out_and_its_acceptor_is_told() {
        loom::model(|| {
            let handler = Handler::new();
            let (handoff, acceptor) = (handler.handoff.clone(), Arc::new(Task::default()));
            let task = acceptor.clone();
            let evicting = thread::spawn({
                let handoff = handoff.clone();
                move || handoff.evict()
            });
            let accepting = thread::spawn(move || {
                let Ok(ticket) = handoff.offer(offer(7)) else { return true };
                let is_told = handoff.poll_outcome(ticket, &mut Context::from_waker(&Waker::from(task))).is_ready();
                handoff.withdraw(ticket);
                is_told
            });
            let taken = handler.poll();
            let (Ok(()), Ok(is_told)) = (evicting.join(), accepting.join()) else { return };
            assert!(is_told || taken.is_some() || acceptor.0.load(Relaxed) > 0, "the acceptor sleeps");
            let _ = handler.run_if_woken();
            assert!(handler.has_found_eviction.get(), "the session does not find out");
        });
    }
}
