//! The places among the calls in flight of one end, and the handles that wait for one. Pure.

use std::task::Waker;

use crate::{service::permits::Permits, transport::wakers::PreparedWaker};

/// The places, which are granted in the order of the handles that wait. A waiter is named by its key.
pub(super) struct Places {
    permits: Permits,
    /// The wakers of the waiters, by key.
    wakers: Vec<Option<Waker>>,
}

/// A handle's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    None,
    /// It waits, under this key.
    Waiting(usize),
    Reserved,
}

impl Places {
    pub(super) const fn new(limit: usize) -> Self {
        Self { permits: Permits::new(limit), wakers: Vec::new() }
    }

    /// Reserves a place for a handle, or keeps the waker. Returns a waker to drop without a lock.
    pub(super) fn poll(&mut self, place: &mut Place, prepared: &mut PreparedWaker<'_>) -> Option<Option<Waker>> {
        let key = match *place {
            Place::Reserved => return Some(None),
            Place::None if self.permits.take() => {
                *place = Place::Reserved;
                return Some(None);
            }
            Place::None => {
                let key = self.permits.wait();
                *place = Place::Waiting(key);
                key
            }
            Place::Waiting(key) => key,
        };
        if self.permits.claim(key) {
            *place = Place::Reserved;
            return Some(self.take_waker(key));
        }
        if self.wakers.len() <= key {
            self.wakers.resize_with(key + 1, || None);
        }
        if let Some(slot) = self.wakers.get_mut(key) {
            prepared.keep_in(slot);
        }
        None
    }

    fn take_waker(&mut self, key: usize) -> Option<Waker> {
        self.wakers.get_mut(key)?.take()
    }

    /// Releases a place. Returns the waker of the handle that got it.
    #[must_use = "wake it without a lock"]
    pub(super) fn release(&mut self) -> Option<Waker> {
        let key = self.permits.release()?;
        self.take_waker(key)
    }

    /// Gives up a handle's place, or its wait. Returns the waker of the handle that got the place, and its own.
    #[must_use = "wake one and drop the other without a lock"]
    pub(super) fn leave(&mut self, place: Place) -> (Option<Waker>, Option<Waker>) {
        match place {
            Place::None => (None, None),
            Place::Reserved => (self.release(), None),
            Place::Waiting(key) => {
                let own = self.take_waker(key);
                (if self.permits.leave(key) { self.release() } else { None }, own)
            }
        }
    }

    /// Ends the wait of all handles, because there will be no more places. Returns the waker of one after another.
    pub(super) fn dissolve(&mut self) -> Option<Waker> {
        loop {
            let key = self.permits.dissolve()?;
            if let Some(waker) = self.take_waker(key) {
                return Some(waker);
            }
        }
    }
}
