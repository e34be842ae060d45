use std::task::Waker;

/// A waker on its way into a locked queue, and the one it replaces on its way out.
///
/// Cloning and dropping a waker is the executor's code, which may do anything, look at this very queue included. So neither happens
/// under a lock: the clone is [prepared](Self::prepare) before, and what is replaced is dropped with this, after.
pub(crate) struct Parked<'a> {
    waker: &'a Waker,
    /// The clone to be kept, or what was replaced.
    spare: Option<Waker>,
    is_missing: bool,
    is_used: bool,
}

impl<'a> Parked<'a> {
    pub(crate) fn new(waker: &'a Waker) -> Self {
        Self { waker, spare: None, is_missing: false, is_used: false }
    }

    /// Makes the clone. Without a lock.
    pub(crate) fn prepare(&mut self) {
        self.spare = Some(self.waker.clone());
        (self.is_missing, self.is_used) = (false, false);
    }

    /// Whether a waker was to be kept and there was no clone: unlock, [`prepare`](Self::prepare), and look again.
    pub(crate) fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Gives the clone to be kept.
    pub(crate) fn take(&mut self) -> Option<Waker> {
        let waker = if self.is_used { None } else { self.spare.take() };
        self.is_missing = waker.is_none();
        self.is_used |= waker.is_some();
        waker
    }

    /// Keeps the clone there, unless what is there wakes the same task.
    pub(crate) fn keep_in(&mut self, slot: &mut Option<Waker>) {
        if slot.as_ref().is_some_and(|kept| kept.will_wake(self.waker)) {
            return;
        }
        if let Some(waker) = self.take() {
            self.spare = slot.replace(waker);
        }
    }
}
