use std::task::Waker;

/// A waker on its way into a locked queue, and the replaced waker on its way out.
///
/// Cloning and dropping a waker runs executor code, which may do anything, including accessing this queue. Neither
/// happens under a lock: the clone is [prepared](Self::prepare) before locking, and a replaced waker is dropped with
/// this value after unlocking.
pub(crate) struct Parked<'a> {
    waker: &'a Waker,
    /// The clone to keep, or the replaced waker.
    spare: Option<Waker>,
    is_missing: bool,
    is_used: bool,
}

impl<'a> Parked<'a> {
    pub(crate) fn new(waker: &'a Waker) -> Self {
        Self { waker, spare: None, is_missing: false, is_used: false }
    }

    /// Clones the waker. Call it without a lock.
    pub(crate) fn prepare(&mut self) {
        self.spare = Some(self.waker.clone());
        (self.is_missing, self.is_used) = (false, false);
    }

    /// Returns whether a waker was needed and no clone was prepared. If so, unlock, [`prepare`](Self::prepare) and
    /// check again.
    pub(crate) fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Takes the prepared clone.
    pub(crate) fn take(&mut self) -> Option<Waker> {
        let waker = if self.is_used { None } else { self.spare.take() };
        self.is_missing = waker.is_none();
        self.is_used |= waker.is_some();
        waker
    }

    /// Stores the clone in `slot`, unless the waker there wakes the same task.
    pub(crate) fn keep_in(&mut self, slot: &mut Option<Waker>) {
        if slot.as_ref().is_some_and(|kept| kept.will_wake(self.waker)) {
            return;
        }
        if let Some(waker) = self.take() {
            self.spare = slot.replace(waker);
        }
    }
}
