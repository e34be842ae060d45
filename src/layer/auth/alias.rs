//! Names for the services that a user provides. Each trait is implemented for every service that fits.

use tower_service::Service;

use super::{Credentials, Token, TokenRequest};
use crate::Error;

/// A source of a client's tokens: any `Service<`[`TokenRequest`]`, Response = `[`Token`]`> + Clone`, including an async
/// function in tower's `service_fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of tokens",
    note = "a source is a `Service<TokenRequest, Response = Token> + Clone` whose error is `Into<tower_transport::Error>`"
)]
pub trait TokenSource: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

impl<S> TokenSource for S where S: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

/// Verifies credentials and determines whose they are: any `Service<`[`Credentials`]`> + Clone`. The response type is
/// yours.
///
/// Its error determines what happens to the peer. With an error for which [`is_auth`](Error::is_auth) is true, the
/// credentials are refused (401, 4401). With [`forbidden`](super::forbidden), the peer is refused (403, 4403). Any
/// other error means that the credentials could not be verified (503, 1013).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not verify credentials",
    note = "a verifier is a `Service<Credentials> + Clone` whose error is `Into<tower_transport::Error>`"
)]
pub trait Verify: Service<Credentials, Error: Into<Error>> + Clone {}

impl<S> Verify for S where S: Service<Credentials, Error: Into<Error>> + Clone {}

/// A source of a key set: any `Service<()> + Clone` whose response is the JSON of a JWKS (RFC 7517). The service and
/// its future are `Send` and `'static`, because a fetch runs on its own task.
#[cfg(not(target_arch = "wasm32"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fetch a key set",
    note = "a source of keys is a `Service<()> + Clone + Send + 'static`; its response is `AsRef<[u8]>`, its error `Into<tower_transport::Error>`, its future `Send + 'static`"
)]
pub trait KeySource:
    Service<(), Response: AsRef<[u8]>, Error: Into<Error>, Future: Send + 'static> + Clone + Send + 'static
{
}

#[cfg(not(target_arch = "wasm32"))]
impl<S> KeySource for S where
    S: Service<(), Response: AsRef<[u8]>, Error: Into<Error>, Future: Send + 'static> + Clone + Send + 'static
{
}
