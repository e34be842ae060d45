//! The room for one message below, and who may use it. Pure: no I/O.

/// | room | `poll_ready` was `Ready`, and the user has not sent since | the transport below has room |
/// |---|---|---|
/// | `Unknown` | no | not asked |
/// | `Promised` | yes | yes |
/// | `Taken` | yes | no: an own message used it |
/// | `Held` | no: the layer has kept the message of the user | yes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Unknown,
    Promised,
    Taken,
    Held,
}

impl Room {
    /// Returns whether a message of the user must be accepted.
    #[inline]
    pub(super) const fn is_promised(self) -> bool {
        matches!(self, Self::Promised | Self::Taken)
    }

    /// Returns whether the transport below takes a message.
    #[inline]
    pub(super) const fn is_there(self) -> bool {
        matches!(self, Self::Promised | Self::Held)
    }

    /// The transport below has room.
    pub(super) const fn found(&mut self) {
        *self = if self.is_promised() { Self::Promised } else { Self::Held };
    }

    /// The layer promises its room to the user.
    #[inline]
    pub(super) const fn promise(&mut self) {
        if matches!(self, Self::Held) {
            *self = Self::Promised;
        }
    }

    /// The layer keeps a message of the user. Returns whether it was promised room.
    #[inline]
    pub(super) const fn keep(&mut self) -> bool {
        let is_promised = self.is_promised();
        *self = if self.is_there() { Self::Held } else { Self::Unknown };
        is_promised
    }

    /// An own message uses the room below. Returns whether there was any.
    #[inline]
    pub(super) const fn spend(&mut self) -> bool {
        let is_there = self.is_there();
        *self = if self.is_promised() { Self::Taken } else { Self::Unknown };
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::Room::{self, Held, Promised, Taken, Unknown};

    fn after<R>(mut room: Room, step: impl FnOnce(&mut Room) -> R) -> Room {
        step(&mut room);
        room
    }

    #[test]
    fn a_promise_outlives_the_room_and_the_room_outlives_a_message_that_is_kept() {
        let rooms = [Unknown, Promised, Taken, Held];
        assert_eq!(rooms.map(|room| after(room, Room::found)), [Held, Promised, Promised, Held]);
        assert_eq!(rooms.map(|room| after(room, Room::promise)), [Unknown, Promised, Taken, Promised]);
        assert_eq!(rooms.map(|room| after(room, Room::keep)), [Unknown, Held, Unknown, Held]);
        assert_eq!(rooms.map(|room| after(room, Room::spend)), [Unknown, Taken, Taken, Unknown]);
        assert_eq!(rooms.map(|mut room| room.keep()), rooms.map(Room::is_promised));
        assert_eq!(rooms.map(|mut room| room.spend()), rooms.map(Room::is_there));
    }
}
