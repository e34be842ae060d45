//! Decides when a session is asked for a new token, and when it ends. Pure: times are passed in.

use std::time::{Duration, SystemTime};

use crate::{layer::auth::Principal, rt::Instant};

/// The life of a session's token.
///
/// ```text
///         alarm            token             valid, same subject
/// Valid ---------> Asked ---------> Verifying -------------------> Valid
///   |                |                  |
///   | alarm, without | alarm            | alarm, or the token is refused
///   | renewal        |                  |
///   +----------------+------------------+---> the session is closed
/// ```
#[derive(Debug)]
pub(super) struct Lifetime {
    subject: Option<Box<str>>,
    expires: Option<Instant>,
    /// How long before the end a new token is requested.
    before: Option<Duration>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Valid,
    /// One token may come.
    Asked,
    /// A token came. Another one is not accepted, whatever becomes of this one.
    Verifying,
}

/// The action to take when the alarm fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ask,
    Close,
}

impl Lifetime {
    pub(super) fn new(subject: Option<&str>, expires: Option<Instant>, before: Option<Duration>) -> Self {
        Self { subject: subject.map(Into::into), expires, before, phase: Phase::Valid }
    }

    /// Returns when the alarm must fire.
    pub(super) fn alarm(&self, now: Instant) -> Option<Instant> {
        let expires = self.expires?;
        match (self.phase, self.before) {
            // A token with a shorter life is replaced after half its life; replacing it at once would never stop.
            (Phase::Valid, Some(before)) => {
                let left = expires.saturating_duration_since(now);
                Some(expires - before.min(left / 2))
            }
            _ => Some(expires),
        }
    }

    /// Handles the alarm.
    pub(super) fn ring(&mut self) -> Due {
        match (self.phase, self.before) {
            (Phase::Valid, Some(_)) => {
                self.phase = Phase::Asked;
                Due::Ask
            }
            _ => Due::Close,
        }
    }

    /// Returns whether an incoming token was requested. Each request allows one token, so that a peer cannot make this
    /// end verify signatures endlessly.
    pub(super) fn take_token(&mut self) -> bool {
        let is_asked = self.phase == Phase::Asked;
        if is_asked {
            self.phase = Phase::Verifying;
        }
        is_asked
    }

    /// Handles a valid token. Returns whether it is for the same subject: a session cannot change its owner.
    pub(super) fn renew(&mut self, subject: Option<&str>, expires: Option<Instant>) -> bool {
        let is_same = self.subject.as_deref() == subject;
        if is_same {
            self.expires = expires;
            self.phase = Phase::Valid;
        }
        is_same
    }
}

/// Converts the expiry to the clock of timers. An expiry that no clock can represent is treated as never.
pub(super) fn expiry(principal: &impl Principal) -> Option<Instant> {
    let left = principal.expires_at()?.duration_since(SystemTime::now()).unwrap_or_default();
    /// About the longest time that tokio's timers support: two years. No connection lasts that long.
    const FAR: Duration = Duration::from_secs(86_400 * 730);
    (left < FAR).then(|| Instant::now() + left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_renewal_the_one_alarm_is_the_end() {
        let now = Instant::now();
        let mut session = Lifetime::new(None, Some(now + 60 * SECOND), None);
        assert_eq!(session.alarm(now), Some(now + 60 * SECOND));
        assert_eq!(session.ring(), Due::Close);
        assert_eq!(Lifetime::new(None, None, Some(SECOND)).alarm(now), None);
    }

    #[test]
    fn a_question_is_good_for_one_token() {
        let now = Instant::now();
        let mut session = Lifetime::new(Some("ada"), Some(now + 60 * SECOND), Some(10 * SECOND));
        assert!(!session.take_token());
        assert_eq!(session.alarm(now), Some(now + 50 * SECOND));
        assert_eq!(session.ring(), Due::Ask);
        assert_eq!(session.alarm(now), Some(now + 60 * SECOND));
        assert!(session.take_token() && !session.take_token());
        assert!(!session.renew(Some("eve"), None));
        assert!(session.renew(Some("ada"), Some(now + 120 * SECOND)));
        assert_eq!(session.alarm(now), Some(now + 110 * SECOND));
    }

    #[test]
    fn tokens_that_live_shorter_than_the_notice_are_not_asked_for_without_end() {
        let now = Instant::now();
        let session = Lifetime::new(None, Some(now + 4 * SECOND), Some(10 * SECOND));
        assert_eq!(session.alarm(now), Some(now + 2 * SECOND));
    }
}
