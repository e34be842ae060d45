//! The services that are asked, by name: each is implemented for every service that fits.

use tower_service::Service;

use super::{Credentials, Token, TokenRequest};
use crate::Error;

/// Where a client's tokens come from: any `Service<`[`TokenRequest`]`, Response = `[`Token`]`> + Clone`, an async function in
/// tower's `service_fn` among them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of tokens",
    note = "a source is `Service<TokenRequest, Response = Token> + Clone`, with an error that is `Into<tower_transport::Error>`"
)]
pub trait TokenSource: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

impl<S> TokenSource for S where S: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

/// Who says whether credentials are good, and whose they are: any `Service<`[`Credentials`]`> + Clone`; its response is yours.
///
/// Its error says what becomes of the peer: one that [`is_auth`](Error::is_auth) refuses the credentials (401, 4401),
/// [`forbidden`](super::forbidden) the peer (403, 4403); any other says that they could not be verified (503, 1013).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not verify credentials",
    note = "a verifier is `Service<Credentials> + Clone`, with an error that is `Into<tower_transport::Error>`"
)]
pub trait Verify: Service<Credentials, Error: Into<Error>> + Clone {}

impl<S> Verify for S where S: Service<Credentials, Error: Into<Error>> + Clone {}

/// Where a key set comes from: any `Service<()> + Clone` whose response is the JSON of a JWKS (RFC 7517). It and its future are `Send`
/// and `'static`, as a fetch runs on a task of its own.
#[cfg(not(target_arch = "wasm32"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fetch a key set",
    note = "a source of keys is `Service<()> + Clone + Send + 'static`; its response is `AsRef<[u8]>`, its error `Into<tower_transport::Error>`, its future `Send + 'static`"
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
