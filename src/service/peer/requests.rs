use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::window::Window;
use crate::{
    Error,
    sync::{AtomicWaker, Mutex, MutexGuard},
    transport::wakers::poll_prepared,
};

/// The further requests of a call, for its handler.
///
/// It ends when the caller has no more requests, and gives an error when the call is cancelled or its connection is
/// lost. A call of a single request has none.
///
/// # Backpressure
///
/// The caller sends as many requests ahead as the [window](super::PeerBuilder::window) allows, and waits until they are
/// read. Dropping it leaves the caller without more credit.
pub struct Requests<Req> {
    queue: Option<Arc<Queue<Req>>>,
}

impl<Req> Requests<Req> {
    /// Creates a stream without requests.
    pub(super) const fn none() -> Self {
        Self { queue: None }
    }

    pub(super) fn new(id: u64, window: u32, grants: Arc<Grants>) -> (Self, Arc<Queue<Req>>) {
        let state =
            State { queue: VecDeque::new(), window: Window::new(window), end: None, is_granting: false, reader: None };
        let queue = Arc::new(Queue { id, state: Mutex::new(state), grants });
        (Self { queue: Some(queue.clone()) }, queue)
    }
}

/// The requests between the peer's future and a handler.
pub(super) struct Queue<Req> {
    id: u64,
    state: Mutex<State<Req>>,
    grants: Arc<Grants>,
}

struct State<Req> {
    queue: VecDeque<Req>,
    window: Window,
    /// The end, and the error that it comes with. An error is given once.
    end: Option<Option<Error>>,
    /// Whether the peer's future has been told that credit is due.
    is_granting: bool,
    reader: Option<Waker>,
}

/// The calls whose handlers have read enough for new credit, and the task that sends it.
#[derive(Debug, Default)]
pub(super) struct Grants {
    due: Mutex<Vec<u64>>,
    pub(super) peer: AtomicWaker,
}

impl Grants {
    /// Takes the calls that credit is due for, in exchange for an empty vector.
    pub(super) fn take(&self, empty: &mut Vec<u64>) {
        std::mem::swap(&mut *self.due.lock(), empty);
    }
}

impl<Req> Queue<Req> {
    fn lock(&self) -> MutexGuard<'_, State<Req>> {
        self.state.lock()
    }

    /// Adds a request of the peer. Returns `false` if the peer had no credit for it.
    pub(super) fn push(&self, request: Req) -> bool {
        let mut state = self.lock();
        // A caller that goes on after the end breaks the protocol just the same.
        if state.end.is_some() || !state.window.receive() {
            drop(state);
            return false;
        }
        state.queue.push_back(request);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// Ends the requests. Returns whether they had not ended.
    pub(super) fn end(&self, error: Option<Error>) -> bool {
        let mut state = self.lock();
        if state.end.is_some() {
            return false;
        }
        state.end = Some(error);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// Returns the credit to grant.
    pub(super) fn grant(&self) -> u32 {
        let mut state = self.lock();
        state.is_granting = false;
        if state.end.is_some() { 0 } else { state.window.grant() }
    }
}

impl<Req> Stream for Requests<Req> {
    type Item = Result<Req, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(queue) = &self.queue else { return Poll::Ready(None) };
        let mut is_due = false;
        let polled = poll_prepared(cx, |prepared| {
            let mut state = queue.lock();
            if let Some(request) = state.queue.pop_front() {
                // Told once: a caller that does not read the credit makes nothing pile up.
                is_due = state.window.take() && state.end.is_none() && !std::mem::replace(&mut state.is_granting, true);
                return Some(Some(Ok(request)));
            }
            if let Some(end) = &mut state.end {
                return Some(end.take().map(Err));
            }
            prepared.keep_in(&mut state.reader);
            None
        });
        if is_due {
            queue.grants.due.lock().push(queue.id);
            queue.grants.peer.wake();
        }
        polled
    }
}

impl<Req> fmt::Debug for Requests<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("has_more", &self.queue.is_some()).finish()
    }
}
