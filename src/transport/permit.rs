use std::sync::Arc;

#[cfg(any(feature = "websocket", feature = "sse"))]
use super::drain::{Member, Seat};
#[cfg(any(feature = "websocket", feature = "sse"))]
use crate::log::Peer;

/// The permit of one connection of a server. The connection counts until this value and all its clones are dropped.
///
/// A guard puts it into the extensions of a request that it admits, as `ConnectionLimitLayer` does. The acceptor that
/// makes a transport of the request takes it out and holds it for the life of the connection, so handlers need not keep
/// it. A custom guard can use [`ConnectionPermit::new`] with any value that releases something when it is dropped.
#[derive(Clone)]
#[cfg_attr(not(feature = "limit"), allow(unreachable_pub, reason = "exported with the guards"))]
pub struct ConnectionPermit {
    _held: Arc<dyn Held>,
}

trait Held: Send + Sync {}

impl<T: Send + Sync> Held for T {}

impl ConnectionPermit {
    /// Creates a permit that drops `held` when the connection is gone.
    #[must_use]
    #[cfg_attr(not(feature = "limit"), allow(unreachable_pub, reason = "exported with the guards"))]
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Arc::new(held) }
    }

    /// Takes the permit that guards have put into the extensions of a request.
    #[allow(dead_code, reason = "for the transports that are accepted from requests")]
    pub(crate) fn take(extensions: &mut http::Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// Puts this permit into the extensions of a request, next to the one that an outer guard has put there.
    #[allow(dead_code, reason = "for guards")]
    pub(crate) fn put(self, extensions: &mut http::Extensions) {
        let permit = match extensions.remove::<Self>() {
            Some(outer) => Self::new((outer, self)),
            None => self,
        };
        extensions.insert(permit);
    }
}

debug_fields!(ConnectionPermit {});

#[cfg(any(feature = "websocket", feature = "sse"))]
/// A server's state for an admitted connection, kept for as long as the transport lives.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The value that guards want back when the connection is gone.
    _permit: Option<ConnectionPermit>,
    pub(super) drain: Option<Member>,
    pub(super) peer: Option<Peer>,
}

#[cfg(any(feature = "websocket", feature = "sse"))]
impl Admission {
    /// Creates the state, or returns `None` if there is nothing to keep. `patience` is the maximum time of a close.
    pub(super) fn new(
        permit: Option<ConnectionPermit>,
        seat: Option<Arc<Seat>>,
        peer: Option<Peer>,
        patience: std::time::Duration,
    ) -> Option<Box<Self>> {
        if permit.is_none() && seat.is_none() && peer.is_none() {
            return None;
        }
        let drain = seat.map(|seat| {
            seat.set_peer(peer);
            Member::new(seat, patience)
        });
        Some(Box::new(Self { _permit: permit, drain, peer }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_two_guards_are_both_held_until_the_last_clone_is_dropped() {
        let (outer, inner) = (Arc::new(()), Arc::new(()));
        let mut extensions = http::Extensions::new();
        ConnectionPermit::new(outer.clone()).put(&mut extensions);
        ConnectionPermit::new(inner.clone()).put(&mut extensions);
        let permit = ConnectionPermit::take(&mut extensions).unwrap();
        assert!(ConnectionPermit::take(&mut extensions).is_none());
        let other = permit.clone();
        drop(permit);
        assert_eq!((Arc::strong_count(&outer), Arc::strong_count(&inner)), (2, 2));
        drop(other);
        assert_eq!((Arc::strong_count(&outer), Arc::strong_count(&inner)), (1, 1));
    }
}
