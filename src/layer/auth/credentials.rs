use std::{fmt, time::SystemTime};

use super::Secret;
use crate::{CloseFrame, Error};

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
