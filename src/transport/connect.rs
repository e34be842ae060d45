use std::{fmt, sync::Arc};

use tower_service::Service;

use crate::Error;

/// A service that connects: it takes an HTTP request and returns a response whose body is a transport.
///
/// This trait is an alias. It is implemented for every `Service<http::Request<()>, Response = http::Response<T>>` whose
/// error is `Into<`[`Error`]`>`, including connectors under layers of tower or tower-http. The table in
/// `layer::http` lists which of tower-http's layers fit directly, and which by `http_layer`. The response carries the
/// peer's side of the handshake: status, headers (subprotocol, cookies) and extensions.
///
/// In a bound that names the error, write `impl Connect<Transport = T, ConnectError = Error>`. The same bound with
/// `Error = Error`, the associated type of `Service`, leaves the compiler two names for one type: rustc's next trait
/// solver asks for type annotations where such a connector is used.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a connector",
    label = "not a `Service<http::Request<()>>` that answers with a transport as the body",
    note = "a connector is `Service<http::Request<()>, Response = http::Response<T>>` where `T` is a transport"
)]
pub trait Connect:
    Service<
        http::Request<()>,
        Response = http::Response<<Self as Connect>::Transport>,
        Error = <Self as Connect>::ConnectError,
    >
{
    /// The transport of a connection.
    type Transport;

    /// The error of a failed connection attempt.
    type ConnectError: Into<Error>;
}

impl<S, T, E> Connect for S
where
    S: ?Sized + Service<http::Request<()>, Response = http::Response<T>, Error = E>,
    E: Into<Error>,
{
    type Transport = T;
    type ConnectError = E;
}

/// A marker in the extensions of a connector's response. Messages accepted by the transport outlive the connection,
/// because a layer below (resume) holds them until the peer has acknowledged them. A reconnecting layer need not keep
/// them or count them as lost, unless a later response has a [`SessionLoss`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlivesConnection;

/// A marker in the extensions of a connector's response, next to [`OutlivesConnection`]. The session of the previous
/// connection continues, and no message of either direction is lost. A reconnecting layer reports a
/// [loss](crate::transport::signal::connection_lost) if this marker is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed;

/// The number of accepted messages that were lost with the previous session, in the extensions of a connector's
/// response, next to [`OutlivesConnection`]. None of them was acknowledged, and none will be sent. A reconnecting layer
/// counts them, and reports them to its user. Without this extension, none was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLoss(pub u64);

/// A view of how many messages a session has accepted that the peer has not acknowledged, in the extensions of a
/// connector's response, next to [`OutlivesConnection`]. A reconnecting layer that gives up counts them as lost.
///
/// A session that was closed in order holds none. Messages of earlier sessions count until a [`SessionLoss`] reports
/// them. If a later response has no session, or is not [`Resumed`] and has a view that is not a clone of this one, the
/// reconnecting layer counts the messages as lost. So a layer inserts clones of one view as long as it reports its own
/// losses.
#[derive(Clone)]
pub struct Unacknowledged(Arc<dyn SessionMessages>);

/// The messages that a session holds, for the reconnecting layer above it.
pub(crate) trait SessionMessages: Send + Sync {
    /// Returns how many messages were not acknowledged or were lost, and have not been reported.
    fn count(&self) -> u64;

    /// Notes that the user has been told of a connection, and of as many messages that were lost with earlier sessions.
    /// Until then a layer between may still refuse the connection, and the next one has to report them.
    fn was_reported(&self, _lost: u64) {}

    /// Notes that everything is sent that goes first on the new connection. Messages of an earlier session follow.
    fn release(&self) {}

    /// Gives the session up. Returns the number of messages that are lost with it.
    fn give_up(&self) -> u64 {
        self.count()
    }
}

impl<F: Fn() -> u64 + Send + Sync> SessionMessages for F {
    fn count(&self) -> u64 {
        self()
    }
}

impl Unacknowledged {
    /// Creates a view that counts with this function. It must not block.
    pub fn new(count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// Returns the number of messages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    #[cfg_attr(not(feature = "resume"), allow(dead_code, reason = "for the resume layer"))]
    pub(crate) fn of(session: Arc<dyn SessionMessages>) -> Self {
        Self(session)
    }

    /// Whether both are views of the same layer's sessions.
    #[cfg_attr(not(feature = "reconnect"), allow(dead_code, reason = "for the reconnect layer"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// See [`SessionMessages::was_reported`].
    #[cfg_attr(not(feature = "reconnect"), allow(dead_code, reason = "for the reconnect layer"))]
    pub(crate) fn was_reported(&self, lost: u64) {
        self.0.was_reported(lost);
    }

    /// See [`SessionMessages::release`].
    #[cfg_attr(not(feature = "reconnect"), allow(dead_code, reason = "for the reconnect layer"))]
    pub(crate) fn release(&self) {
        self.0.release();
    }

    /// See [`SessionMessages::give_up`].
    #[cfg_attr(not(feature = "reconnect"), allow(dead_code, reason = "for the reconnect layer"))]
    pub(crate) fn give_up(&self) -> u64 {
        self.0.give_up()
    }
}

impl fmt::Debug for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unacknowledged").field(&self.count()).finish()
    }
}

/// The loss that led to a connection attempt, in the extensions of a connector's request. It holds the error that the
/// reconnecting layer received and the connector's previous response. A connector with several transports learns from
/// it which of them stopped working; other connectors ignore it.
#[derive(Clone)]
#[non_exhaustive]
pub struct LostConnection {
    /// The error that ended the connection.
    pub error: Error,
    /// The head of the response that created the connection, including its extensions.
    pub response: Arc<http::response::Parts>,
}

impl LostConnection {
    /// Creates the value that a reconnecting layer puts into the request, for tests of a connector and for reconnecting
    /// layers of your own.
    #[must_use]
    pub fn new(error: Error, response: Arc<http::response::Parts>) -> Self {
        Self { error, response }
    }
}

impl fmt::Debug for LostConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers are omitted: they may include a cookie.
        f.debug_struct("LostConnection")
            .field("error", &self.error)
            .field("status", &self.response.status)
            .finish_non_exhaustive()
    }
}
