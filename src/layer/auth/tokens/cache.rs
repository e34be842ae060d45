use std::time::Duration;

use super::source::Lease;
use crate::{layer::auth::Reason, rt::Instant};

/// The last token and its validity. Pure: times are passed in.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    last: Option<Kept>,
    /// The number of tokens so far.
    generation: u64,
    /// Whether the last token was refused.
    is_refused: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    lease: Lease,
    /// When the token should be replaced.
    stale: Option<Instant>,
    /// When the token becomes unusable.
    expired: Option<Instant>,
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self { last: None, generation: 0, is_refused: false }
    }

    /// Returns the number of the newest token, or 0 if there was no token yet.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns a token that does not need to be replaced yet.
    pub(super) fn fresh(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.stale.is_none_or(|stale| now < stale).then(|| kept.lease.clone())
    }

    /// Returns a token that is still valid, if only for a moment.
    pub(super) fn usable(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.expired.is_none_or(|expired| now < expired).then(|| kept.lease.clone())
    }

    /// Returns the reason for the next request.
    pub(super) fn reason(&self) -> Reason {
        match (self.generation, self.is_refused) {
            (0, _) => Reason::First,
            (_, true) => Reason::Refused,
            (_, false) => Reason::Expired,
        }
    }

    pub(super) fn put(&mut self, token: crate::layer::auth::Token, margin: Duration, now: Instant) -> Lease {
        self.generation += 1;
        self.is_refused = false;
        let life = token.life();
        // A token that lives no longer than the margin is used for half its life.
        let margin = |life: Duration| margin.min(life / 2);
        let lease = Lease { token, generation: self.generation };
        self.last = Some(Kept {
            lease: lease.clone(),
            stale: life.and_then(|life| now.checked_add(life - margin(life))),
            expired: life.and_then(|life| now.checked_add(life)),
        });
        lease
    }

    /// Marks a token as refused. Several reports about the same token count once.
    pub(super) fn refuse(&mut self, generation: u64) {
        if self.last.as_ref().is_some_and(|kept| kept.lease.generation == generation) {
            self.last = None;
            self.is_refused = true;
        }
    }
}
