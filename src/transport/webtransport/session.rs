use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use web_transport_quinn as wtq;

use super::{ReceiveStream, SendStream, WebTransportStream, error};
use crate::{CloseFrame, Error, Limits, rt, transport::place::Place};

/// A WebTransport session, either end: one QUIC connection, with any number of streams in it. A clone is the same
/// session.
///
/// [`WebTransportConnector::connect_session`](super::WebTransportConnector::connect_session) and
/// [`Incoming::accept`](super::Incoming::accept) create one; each [`WebTransportStream`](super::WebTransportStream) has
/// [its session](super::WebTransportStream::session).
///
/// # The end
///
/// A session ends when either end calls [`close`](Self::close) with a code and a reason, when nothing was received from
/// the peer for [`SessionLimits::idle`](super::SessionLimits::idle), or when the last handle to it is dropped: its
/// clones, and the streams in it. Every stream in it then ends with an error for which [`is_closed`](Error::is_closed)
/// is true and which carries the peer's close frame, if there is one.
///
/// # Close codes
///
/// A close code of WebTransport has 32 bits. Codes of this crate are sent unchanged (4001 is 4001), and received codes
/// that a [`CloseFrame`] can represent arrive as one. Others are named in the error's text.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    quic: wtq::Session,
    limits: Limits,
    subprotocol: Option<Box<str>>,
    /// The server's registry, and the key of this session in it.
    registry: Option<(Arc<Registry>, usize)>,
    /// Whether this end closed the session: the layer below reports the same reason for a lost peer.
    is_closed_here: AtomicBool,
    /// The value that a server's guards want back when the session is gone.
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

    /// Returns the session of the layer below.
    pub(super) fn quic(&self) -> &wtq::Session {
        &self.0.quic
    }

    /// Returns the limits of each stream.
    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Returns the subprotocol that was negotiated in the handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.subprotocol.as_deref()
    }

    /// Returns the peer's address. It changes when the peer moves to another network.
    #[must_use]
    pub fn remote_address(&self) -> std::net::SocketAddr {
        self.0.quic.remote_address()
    }

    /// Closes the session, and all streams in it, with a code and a reason. Undelivered messages of streams may be
    /// lost; close the streams first if that matters. Only the first close counts.
    ///
    /// It returns immediately. [`closed`](Self::closed) waits until the peer knows, or three round trips have passed.
    pub fn close(&self, frame: CloseFrame) {
        if self.0.quic.close_reason().is_none() {
            self.0.is_closed_here.store(true, Ordering::Relaxed);
        }
        self.0.quic.close(frame.code().get().into(), frame.reason().as_bytes());
    }

    /// Returns whether this end closed the session while it was open.
    pub(super) fn is_closed_here(&self) -> bool {
        self.0.is_closed_here.load(Ordering::Relaxed)
    }

    /// Waits for the end of the session, and returns the reason: an error for which [`is_closed`](Error::is_closed) is
    /// true, with the [close frame](Error::close_frame) of the peer if it sent one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: it only observes.
    pub async fn closed(&self) -> Error {
        error::session(self.0.quic.closed().await)
    }
}

impl Session {
    /// Opens a bidirectional stream, as a transport of its own.
    ///
    /// It waits while the peer allows no more streams ([`SessionLimits::streams`](super::SessionLimits::streams)
    /// of the peer), at most [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over. Returns one for
    /// which [`is_timeout`](Error::is_timeout) is true if the peer has not allowed the stream in that time; the session
    /// remains usable.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no stream is open. The peer may see one that was reset immediately.
    pub async fn open(&self) -> Result<WebTransportStream, Error> {
        let opening = async {
            let (send, receive) = self.quic().open_bi().await.map_err(error::session)?;
            let mut stream = WebTransportStream::new(self.clone(), send, receive, true);
            stream.opened().await?;
            Ok(stream)
        };
        self.in_time(opening, "bidirectional stream (SessionLimits::streams").await
    }

    /// Waits for the next bidirectional stream that the peer opens. Streams may arrive in another order than they were
    /// opened in.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept(&self) -> Result<WebTransportStream, Error> {
        let (send, receive) = self.quic().accept_bi().await.map_err(error::session)?;
        Ok(WebTransportStream::new(self.clone(), send, receive, false))
    }

    /// Opens `count` bidirectional streams: messages in one do not wait for those in another. For each it waits as
    /// [`open`](Self::open) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open). A `count` over the number that the peer allows is therefore a
    /// timeout; then none of the streams stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the streams that were opened.
    pub async fn create_multiplexed_streams(&self, count: usize) -> Result<Vec<WebTransportStream>, Error> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(self.open().await?);
        }
        Ok(streams)
    }

    /// Opens a unidirectional stream, to send.
    ///
    /// It waits while the peer allows no more ([`SessionLimits::uni_streams`](super::SessionLimits::uni_streams)
    /// of the peer), at most [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// This method is as cancel safe as [`open`](Self::open).
    pub async fn open_uni(&self) -> Result<SendStream, Error> {
        let opening = async {
            let send = self.quic().open_uni().await.map_err(error::session)?;
            let mut stream = SendStream::new(self.clone(), send);
            stream.opened().await?;
            Ok(stream)
        };
        self.in_time(opening, "unidirectional stream (SessionLimits::uni_streams").await
    }

    /// Limits the wait, because a peer may never allow another stream.
    async fn in_time<T>(
        &self,
        opening: impl Future<Output = Result<T, Error>>,
        what: &'static str,
    ) -> Result<T, Error> {
        let time = self.limits().handshake;
        rt::timeout(time, opening).await.unwrap_or_else(|elapsed| {
            let message =
                format!("the peer did not allow another {what} of the peer) within {time:?} (Limits::handshake)");
            Err(Error::timeout(message).with_source(elapsed))
        })
    }

    /// Waits for the next unidirectional stream that the peer opens, to receive.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_uni(&self) -> Result<ReceiveStream, Error> {
        let receive = self.quic().accept_uni().await.map_err(error::session)?;
        Ok(ReceiveStream::new(self.clone(), receive))
    }
}

impl WeakSession {
    pub(super) fn upgrade(&self) -> Option<Session> {
        self.0.upgrade().map(Session)
    }
}

impl Drop for Inner {
    /// The tasks below hold the connection as well, so it would not close automatically.
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

/// The sessions of a server, so that they can be closed with it.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<usize, WeakSession>>);

impl Registry {
    pub(super) fn add(&self, id: usize, session: WeakSession) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, session);
    }

    pub(super) fn remove(&self, id: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(super) fn close(&self, frame: &CloseFrame) {
        // Not under the lock: a session that is dropped here takes it.
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>();
        for session in sessions.iter().filter_map(WeakSession::upgrade) {
            session.close(frame.clone());
        }
    }
}
