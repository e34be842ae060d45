use std::{sync::Arc, time::Duration};

use super::{
    drain::{Member, Seat},
    permit::ConnectionPermit,
};
use crate::log::Peer;

/// A server's state for an admitted connection, kept for as long as the transport lives.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The value that guards want back when the connection is gone.
    _permit: Option<ConnectionPermit>,
    pub(super) drain: Option<Member>,
    pub(super) peer: Option<Peer>,
}

impl Admission {
    /// Creates the state, or returns `None` if there is nothing to keep. `patience` is the maximum time of a close.
    pub(super) fn new(
        permit: Option<ConnectionPermit>,
        seat: Option<Arc<Seat>>,
        peer: Option<Peer>,
        patience: Duration,
    ) -> Option<Box<Self>> {
        if permit.is_none() && seat.is_none() && peer.is_none() {
            return None;
        }
        let drain = seat.map(|seat| Member::new(seat, patience));
        Some(Box::new(Self { _permit: permit, drain, peer }))
    }
}
