mod open;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use web_transport_quinn as wtq;

use super::{fault, server::Registry};
use crate::{CloseFrame, Error, Limits, transport::place::Place};

/// A WebTransport session, either end: one QUIC connection, with any number of streams in it. A clone is the same session.
///
/// [`WebTransportConnector::connect_session`](super::WebTransportConnector::connect_session) and
/// [`Incoming::accept`](super::Incoming::accept) make one; each [`WebTransportStream`](super::WebTransportStream) knows
/// [its own](super::WebTransportStream::session).
///
/// # How it ends
///
/// By [`close`](Self::close) of either end, with a code and a reason; by a peer of which nothing came for
/// [`SessionLimits::idle`](super::SessionLimits::idle); or when the last handle to it is dropped: its clones, and the streams in it.
/// Then every stream in it ends with an error that [`is_closed`](Error::is_closed), and carries the close frame of the peer, where
/// there is one.
///
/// # Close codes
///
/// A close code of WebTransport has 32 bits: ours are sent as they are (4001 is 4001), and received ones that a [`CloseFrame`] can
/// have come in one. Others are named in the error's text.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    quic: wtq::Session,
    limits: Limits,
    subprotocol: Option<Box<str>>,
    /// Where a server knows it, and by what.
    registry: Option<(Arc<Registry>, usize)>,
    /// The end is our own close: the layer below has the same reason for a peer that is lost.
    is_closed_here: AtomicBool,
    /// What guards of a server want back when the session is gone.
    _place: Option<Place>,
}

/// A session that may be over.
#[derive(Clone)]
pub(super) struct WeakSession(Weak<Inner>);

impl Session {
    pub(super) fn new(
        quic: wtq::Session,
        limits: Limits,
        subprotocol: Option<Box<str>>,
        registry: Option<Arc<Registry>>,
        place: Option<Place>,
    ) -> Self {
        let registry = registry.map(|registry| (registry, quic.stable_id()));
        let session = Self(Arc::new(Inner {
            quic,
            limits,
            subprotocol,
            registry,
            is_closed_here: AtomicBool::new(false),
            _place: place,
        }));
        if let Some((registry, id)) = &session.0.registry {
            registry.add(*id, WeakSession(Arc::downgrade(&session.0)));
        }
        session
    }

    /// The session below.
    pub(super) fn quic(&self) -> &wtq::Session {
        &self.0.quic
    }

    /// The limits of each stream.
    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The subprotocol that was agreed on in the handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.subprotocol.as_deref()
    }

    /// The peer's address. It changes when the peer moves to another network.
    #[must_use]
    pub fn remote_address(&self) -> std::net::SocketAddr {
        self.0.quic.remote_address()
    }

    /// Closes the session, and all streams in it, with a code and a reason. What streams have not yet
    /// delivered may be lost: close those first, where that matters. Only the first close counts.
    ///
    /// It returns at once; [`closed`](Self::closed) waits until the peer knows, or three round trips have passed.
    pub fn close(&self, frame: CloseFrame) {
        if self.0.quic.close_reason().is_none() {
            self.0.is_closed_here.store(true, Ordering::Relaxed);
        }
        self.0.quic.close(frame.code().get().into(), frame.reason().as_bytes());
    }

    /// Whether it was closed at this end, while it was open.
    pub(super) fn is_closed_here(&self) -> bool {
        self.0.is_closed_here.load(Ordering::Relaxed)
    }

    /// Waits for the end of the session, and says why it ended: an error that [`is_closed`](Error::is_closed), with the
    /// [close frame](Error::close_frame) of the peer where it closed with one.
    ///
    /// # Cancel safety
    ///
    /// It only watches.
    pub async fn closed(&self) -> Error {
        fault::session(self.0.quic.closed().await)
    }
}

impl WeakSession {
    pub(super) fn upgrade(&self) -> Option<Session> {
        self.0.upgrade().map(Session)
    }
}

impl Drop for Inner {
    /// The tasks below hold the connection as well, so that it would not close by itself.
    fn drop(&mut self) {
        if let Some((registry, id)) = &self.registry {
            registry.remove(*id);
        }
        self.quic.close(0, b"");
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("remote_address", &self.remote_address())
            .field("subprotocol", &self.subprotocol())
            .finish_non_exhaustive()
    }
}
