use std::{fmt, time::SystemTime};

use tower_service::Service;

use super::Secret;
#[cfg(not(target_arch = "wasm32"))]
use crate::CloseCode;
use crate::{CloseFrame, Error};

/// The longest token that is accepted, in bytes.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const MAX_TOKEN: usize = 8 << 10;

/// The credentials that a peer presents. A verifier, which is any `Service<Credentials>`, is called with them.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A token from an `Authorization: Bearer` header, a cookie, a subprotocol, a query, or a first message.
    Bearer(Secret),
    /// A name and a password from an `Authorization: Basic` header (RFC 7617).
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl Credentials {
    /// Returns the token, if the credentials are a token.
    #[must_use]
    pub fn bearer(&self) -> Option<&Secret> {
        match self {
            Self::Bearer(token) => Some(token),
            Self::Basic { .. } => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user name is hidden too, because some clients put a token there.
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic { .. } => "Basic(..)",
        })
    }
}

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

/// The identity of a peer, as far as this crate must know it. A verifier returns one if its sessions expire or are
/// renewed.
pub trait Principal {
    /// Returns the name, which must stay the same when a session is renewed. With `None`, the renewed session must also
    /// have no name.
    fn subject(&self) -> Option<&str> {
        None
    }

    /// Returns when the credentials expire. `None` means never.
    fn expires_at(&self) -> Option<SystemTime> {
        None
    }
}

/// Creates the error for a peer that is authenticated but lacks permission: 403, close code 4403. A verifier's other
/// errors for which [`is_auth`](Error::is_auth) is true mean that the credentials are invalid: 401, close code 4401.
#[must_use]
pub fn forbidden(message: &'static str) -> Error {
    Error::from_refusal(http::StatusCode::FORBIDDEN, bytes::Bytes::new()).context(message)
}

/// Returns whether a peer closed because the token was invalid.
pub(super) fn is_unauthorized(frame: &CloseFrame) -> bool {
    frame.code().get() == 4401
}

/// The consequence of a verifier's error for the peer.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Unauthorized,
    Forbidden,
    /// The verifier could not decide.
    Unavailable,
}

#[cfg(not(target_arch = "wasm32"))]
impl Verdict {
    pub(crate) fn of(error: &Error) -> Self {
        match error.status() {
            Some(http::StatusCode::FORBIDDEN) => Self::Forbidden,
            _ if error.is_auth() => Self::Unauthorized,
            _ => Self::Unavailable,
        }
    }

    /// Returns the frame to close a session with. The peer learns no more than that.
    pub(crate) fn close_frame(self) -> CloseFrame {
        match self {
            Self::Unauthorized => close_frame(4401, "unauthorized"),
            Self::Forbidden => close_frame(4403, "forbidden"),
            Self::Unavailable => CloseFrame::new(CloseCode::TRY_AGAIN, "credentials cannot be verified now"),
        }
    }
}

/// Creates a frame with one of the codes that applications may choose: 4401 and 4403 correspond to 401 and 403 in HTTP.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn close_frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame::new(CloseCode::new(code).unwrap_or(CloseCode::POLICY), crate::Text::from_static(reason))
}
