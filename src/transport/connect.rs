use std::{fmt, sync::Arc};

use tower_service::Service;

use crate::Error;

/// A service that connects: an HTTP request goes in, and the response's body is a transport.
///
/// This is an alias: it is implemented for every `Service<http::Request<()>, Response = http::Response<T>>` whose error is
/// `Into<`[`Error`]`>`, a connector under any of tower's or tower-http's layers among them. The response carries what
/// the peer said in the handshake: status, headers (subprotocol, cookies) and extensions.
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
    /// The transport that a connection gives.
    type Transport;

    /// Why a connection was not made.
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

/// In the extensions of a connector's response: what its transport accepts outlives the connection, since a layer below
/// (resume) holds it until the peer has acknowledged it. A layer that connects again need not keep it, nor count it as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlivesConnection;

/// In the extensions of a connector's response, next to [`OutlivesConnection`]: the session of the connection before goes on, and
/// no message of either direction is lost. A layer that connects again reports a
/// [loss](crate::transport::signal::connection_lost) where this is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed;

/// In the extensions of a connector's request: why the connection before this attempt was lost, as the layer that connects again
/// (reconnect) was told, and what the connector had answered then. A connector with several ways to connect learns from it which of them
/// went dead; others pass it over.
#[derive(Clone)]
pub struct LostConnection {
    /// Why it was lost.
    pub error: Error,
    /// The head of the response that it came with, extensions included.
    pub response: Arc<http::response::Parts>,
}

impl fmt::Debug for LostConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the headers: a cookie may be among them.
        f.debug_struct("LostConnection")
            .field("error", &self.error)
            .field("status", &self.response.status)
            .finish_non_exhaustive()
    }
}
