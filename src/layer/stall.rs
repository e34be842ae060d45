//! When to give up on messages that no connection gets through: one rule for the layers that send messages again.
//!
//! | how a connection ended | counts as | given up after |
//! |---|---|---|
//! | a message: too large, status 413, close code 1003, 1007 or 1009 | [refused](Blame::Refused) | 3 of them |
//! | close code 1011: the peer failed, maybe at a message | [failed](Blame::Failed) | 16 of them |
//! | in any other way | cut | [`Patience::connections`], or 16 within at least [`Patience::time`] |
//!
//! A cut does not count while this end's user does not read: the peer may then be unable to write, and so unable to
//! read, and a connection on which nothing can move says nothing about the line.
//!
//! Each row includes those above it. A cut alone says nothing about a message: on a bad network a long one may need
//! many connections. So time counts as well, and so does the number of connections: after an outage of hours, the first
//! connection that is cut proves nothing.
//!
//! Pure: no I/O, and the caller provides the time.

use std::{error::Error as _, fmt, time::Duration};

use crate::{CloseCode, CloseFrame, Error, rt::Instant};

/// The end of a connection for which a message may be to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The peer, or a proxy, does not take a message of this size or content. It will not the next time either.
    Refused,
    /// The peer failed, perhaps while it handled a message.
    Failed,
}

impl Blame {
    pub(super) fn of(error: &Error) -> Option<Self> {
        if is_too_large(error) || error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE) {
            return Some(Self::Refused);
        }
        error.close_frame().and_then(Self::of_close)
    }

    pub(super) fn of_close(frame: &CloseFrame) -> Option<Self> {
        match frame.code() {
            CloseCode::UNSUPPORTED | CloseCode::INVALID_PAYLOAD | CloseCode::TOO_BIG => Some(Self::Refused),
            CloseCode::INTERNAL => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Returns whether an error, or its direct cause, says that a message is too large.
pub(super) fn is_too_large(error: &Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<Error>());
    error.is_too_large()
        || cause.is_some_and(Error::is_too_large)
        || error.close_frame().is_some_and(|frame| frame.code() == CloseCode::TOO_BIG)
}

/// How long connections may end without progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) connections: u32,
    pub(super) time: Duration,
}

impl Default for Patience {
    /// Connections that end at once are bounded by their number, those that a backoff spreads out by the time.
    fn default() -> Self {
        Self { connections: 1000, time: Duration::from_secs(600) }
    }
}

/// Counts the connections that ended while the same messages waited.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Patience,
    /// The connections that ended, for any reason; those of them with any [`Blame`]; and those that were refused.
    ended: u32,
    blamed: u32,
    refused: u32,
    /// When the first of them ended.
    since: Option<Instant>,
    /// The last connection was cut, and this was counted.
    was_cut: bool,
}

impl Stall {
    const MAX_REFUSED: u32 = 3;
    const MAX_BLAMED: u32 = 16;
    /// So many connections have to end before the time counts.
    const MIN_ENDED: u32 = 16;

    pub(super) const fn new(patience: Patience) -> Self {
        Self { patience, ended: 0, blamed: 0, refused: 0, since: None, was_cut: false }
    }

    /// Starts to count again, after progress.
    pub(super) const fn reset(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Handles what the peer says about the last connection. If its user did not read, a cut of that connection is
    /// taken back: it may be the reason why there was no progress. Earlier cuts still count.
    #[cfg_attr(not(feature = "resume"), allow(dead_code, reason = "only a session's peer tells that"))]
    pub(super) fn peer_read(&mut self, is_read: bool) {
        let was_cut = std::mem::take(&mut self.was_cut);
        if was_cut && !is_read {
            self.ended -= 1;
            if self.ended == 0 {
                self.since = None;
            }
        }
    }

    /// Counts a connection that ended without progress. `is_read`: this end's user was reading. Returns the reason if
    /// it is time to give up.
    pub(super) fn ended(&mut self, blame: Option<Blame>, is_read: bool, now: Instant) -> Option<GivenUp> {
        self.was_cut = blame.is_none() && is_read;
        if blame.is_none() && !is_read {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        self.ended += 1;
        self.blamed += u32::from(blame.is_some());
        self.refused += u32::from(blame == Some(Blame::Refused));
        let Patience { connections, time } = self.patience;
        let is_over = |count: u32, most: u32| count >= most.min(connections);
        match () {
            () if is_over(self.refused, Self::MAX_REFUSED) => Some(GivenUp::Refused(self.refused)),
            () if is_over(self.blamed, Self::MAX_BLAMED) => Some(GivenUp::Failed(self.blamed)),
            () if self.ended >= connections => Some(GivenUp::Cut(self.ended)),
            () if self.ended >= Self::MIN_ENDED && now.saturating_duration_since(since) >= time => {
                Some(GivenUp::Late(self.ended, time))
            }
            () => None,
        }
    }
}

/// The reason to give up, with the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    Refused(u32),
    Failed(u32),
    Cut(u32),
    Late(u32, Duration),
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(count) => write!(f, "{count} connections ended because of a message"),
            Self::Failed(count) => write!(f, "the peer failed on {count} connections (close code 1011)"),
            Self::Cut(count) => write!(f, "{count} connections in a row ended without progress"),
            Self::Late(count, time) => {
                write!(f, "{count} connections in a row ended without progress in more than {time:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> Error {
        let frame = CloseFrame::new(CloseCode::new(code).unwrap(), "");
        Error::closed("closed").with_close_frame(Some(frame))
    }

    /// Returns when the counting of connections ends of which each lasts `each`, and `blame` says how they end.
    fn given_up(patience: Patience, each: Duration, blame: impl Fn(u32) -> Option<Blame>) -> GivenUp {
        let (mut stall, start) = (Stall::new(patience), Instant::now());
        (1..).find_map(|count| stall.ended(blame(count), true, start + each * (count - 1))).unwrap()
    }

    #[test]
    fn an_error_is_blamed_on_a_message_by_its_kind_status_or_close_code() {
        let too_large = Error::closed("").with_source(Error::too_large(""));
        let proxy = Error::from_refusal(http::StatusCode::PAYLOAD_TOO_LARGE, bytes::Bytes::new());
        for error in [Error::too_large(""), too_large, proxy, closed(1003), closed(1007), closed(1009)] {
            assert_eq!(Blame::of(&error), Some(Blame::Refused), "{error:?}");
        }
        assert_eq!(Blame::of(&closed(1011)), Some(Blame::Failed));
        for error in [Error::closed(""), Error::io(""), Error::timeout(""), closed(1000), closed(1012), closed(4000)] {
            assert_eq!(Blame::of(&error), None, "{error:?}");
        }
    }

    #[test]
    fn blamed_connections_count_however_many_others_are_between() {
        let patience = Patience::default();
        for each in [Duration::ZERO, Duration::from_secs(1)] {
            let given_up = |blame: fn(u32) -> Option<Blame>| given_up(patience, each, blame);
            assert_eq!(given_up(|_| Some(Blame::Refused)), GivenUp::Refused(3));
            assert_eq!(given_up(|_| Some(Blame::Failed)), GivenUp::Failed(16));
            assert_eq!(given_up(|count| (count % 10 == 0).then_some(Blame::Refused)), GivenUp::Refused(3));
            assert_eq!(given_up(|count| (count % 30 == 0).then_some(Blame::Failed)), GivenUp::Failed(16));
        }
        let few = Patience { connections: 2, ..patience };
        assert_eq!(given_up(few, Duration::ZERO, |_| Some(Blame::Refused)), GivenUp::Refused(2));
    }

    #[test]
    fn connections_that_are_cut_count_by_number_and_by_time() {
        let patience = Patience::default();
        let time = patience.time;
        let cut = |each| given_up(patience, each, |_| None);
        assert_eq!(cut(Duration::ZERO), GivenUp::Cut(1000));
        assert_eq!(cut(Duration::from_secs(30)), GivenUp::Late(21, time));
        assert_eq!(cut(Duration::from_secs(3600)), GivenUp::Late(16, time), "a few long ones prove nothing");
        let mut stall = Stall::new(Patience { connections: 5, ..patience });
        let now = Instant::now();
        for _ in 0..50 {
            assert!((0..4).all(|_| stall.ended(None, true, now).is_none()));
            stall.reset();
        }
    }

    #[test]
    fn connections_that_are_cut_while_a_user_does_not_read_do_not_count() {
        let mut stall = Stall::new(Patience::default());
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(86_400));
        assert!((0..10_000).all(|_| stall.ended(None, false, later).is_none()));
        assert!((0..15).all(|_| stall.ended(None, true, now).is_none()));
        assert!((0..10_000).all(|_| stall.ended(None, false, later).is_none()));
        assert!((0..2).all(|_| stall.ended(Some(Blame::Refused), false, now).is_none()));
        assert_eq!(stall.ended(Some(Blame::Refused), false, now), Some(GivenUp::Refused(3)));
    }

    #[test]
    fn a_peer_whose_user_did_not_read_takes_back_the_cut_of_its_last_connection_and_no_other() {
        let patience = Patience::default();
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(86_400));
        let mut stall = Stall::new(patience);
        for _ in 0..10_000 {
            assert_eq!(stall.ended(None, true, now), None);
            stall.peer_read(false);
        }
        // The time begins with the first cut that still counts.
        assert!((0..16).all(|_| stall.ended(None, true, later).is_none()));
        for _ in 0..3 {
            stall.peer_read(false);
        }
        assert_eq!(stall.ended(None, true, later), None);
        assert_eq!(stall.ended(None, true, later + patience.time), Some(GivenUp::Late(17, patience.time)));

        // The peer's flag concerns its last connection, however that one ended.
        let mut stall = Stall::new(Patience { connections: 5, ..patience });
        assert!((0..2).all(|_| stall.ended(None, true, now).is_none()));
        stall.peer_read(true);
        stall.peer_read(false);
        assert_eq!(stall.ended(Some(Blame::Failed), true, now), None);
        stall.peer_read(false);
        assert_eq!(stall.ended(None, false, now), None);
        stall.peer_read(false);
        assert_eq!(stall.ended(None, true, now), None);
        assert_eq!(stall.ended(None, true, now), Some(GivenUp::Cut(5)));
    }
}
