use std::time::Duration;

use super::source::Lease;
use crate::{layer::auth::Reason, rt::Instant};

/// The last token, and until when. Pure: it is told the time.
#[derive(Debug)]
pub(super) struct Cache {
    last: Option<Kept>,
    /// How many tokens there were.
    generation: u64,
    /// The last token was refused.
    is_refused: bool,
}

#[derive(Debug)]
struct Kept {
    lease: Lease,
    /// To be replaced from here on.
    stale: Option<Instant>,
    /// Of no use from here on.
    expired: Option<Instant>,
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self { last: None, generation: 0, is_refused: false }
    }

    /// The number of the newest token; 0 if there was none.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// A token that is good for a while.
    pub(super) fn fresh(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.stale.is_none_or(|stale| now < stale).then(|| kept.lease.clone())
    }

    /// A token that is still good, if only for a moment.
    pub(super) fn usable(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.expired.is_none_or(|expired| now < expired).then(|| kept.lease.clone())
    }

    /// Why the next token is wanted.
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
        // Of a token that lives no longer than the margin, half its life is of use.
        let margin = |life: Duration| margin.min(life / 2);
        let lease = Lease { token, generation: self.generation };
        self.last = Some(Kept {
            lease: lease.clone(),
            stale: life.and_then(|life| now.checked_add(life - margin(life))),
            expired: life.and_then(|life| now.checked_add(life)),
        });
        lease
    }

    /// A token is of no use any more: of several that say so of the same token, one is enough.
    pub(super) fn refuse(&mut self, generation: u64) {
        if self.last.as_ref().is_some_and(|kept| kept.lease.generation == generation) {
            self.last = None;
            self.is_refused = true;
        }
    }
}
