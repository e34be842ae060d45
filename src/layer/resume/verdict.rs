use std::fmt;

use super::wire::Bytes16;
use crate::transport::{OutlivesConnection, Resumed};

/// What became of the session when a connection was opened: in the extensions of the connector's response, and in
/// [`ResumeHandle`](super::ResumeHandle).
///
/// It speaks of what *this* end sent. What the peer sent is in order as well: under [`Resumed`](Self::Resumed) it goes on
/// without a gap or a duplicate; under [`Fresh`](Self::Fresh) this end cannot know what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The first connection of a session: there was nothing to resume.
    New,
    /// The session goes on: no message of either direction is lost, doubled or out of order.
    Resumed {
        /// How many messages this end had accepted before, and sends on this connection: those of which the peer says that
        /// it lacks them.
        replayed: u64,
    },
    /// The server knows the session no more (it expired, the server restarted), or it could not go on: a new one begins.
    Fresh {
        /// How many messages this end had accepted, and will not send: none of them was acknowledged, but the last ones may
        /// have reached the peer all the same.
        lost: u64,
    },
}

impl Verdict {
    /// Inserts this verdict into the extensions of a connector's response, together with what it tells the reconnect layer:
    /// [`OutlivesConnection`], and [`Resumed`] if the session goes on. [`Resume`](super::Resume) does this for each connection.
    pub fn insert_into(self, extensions: &mut http::Extensions) {
        extensions.insert(self);
        extensions.insert(OutlivesConnection);
        if matches!(self, Self::Resumed { .. }) {
            extensions.insert(Resumed);
        }
    }
}

/// The public name of a session: 128 random bits, printed in hexadecimal. It is no secret, and opens nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) Bytes16);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}
