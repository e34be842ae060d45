use std::fmt;

/// A place in the messages of a topic: every message has one, and a subscriber [returns](Start::After) with the one of
/// the last message that it has processed.
///
/// Offsets of a topic count its messages from 1, so the offset of the last message is their number. An *epoch* is a
/// random number of at most 53 bits (exact in JSON and in JavaScript). A topic gets a new one when it is created, so a
/// position of a topic that has been forgotten, or of a process that has been restarted, is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    epoch: u64,
    offset: u64,
}

impl Position {
    /// Creates a position from its parts, such as those that a client sent.
    #[must_use]
    pub const fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// Returns the number of the topic's life.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// Returns the number of the message, 0 before the first one.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

/// Writes `epoch:offset`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// The place at which a subscription to a topic begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// With the next message that is published.
    #[default]
    Live,
    /// With everything that the [history](super::History) has: its last messages, or the last value of each key.
    History,
    /// With the message after this position. If the history does not reach back that far, the subscription begins with
    /// a [`Gap`](super::Event::Gap) and everything that the history has.
    After(Position),
}
