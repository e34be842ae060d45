use std::{fmt, time::SystemTime};

use super::Secret;
use crate::{CloseFrame, Error};

/// What a peer shows to say who it is: what a verifier, any `Service<Credentials>`, is asked about.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A token: of an `Authorization: Bearer` header, a cookie, a subprotocol, a query, or a first message.
    Bearer(Secret),
    /// A name and a password, of an `Authorization: Basic` header (RFC 7617).
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl Credentials {
    /// The token, if it is one.
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
        // Some put a token where the name stands.
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic { .. } => "Basic(..)",
        })
    }
}

/// Who a peer is, as far as this crate must know it: what a verifier gives, if its sessions are to expire or be renewed.
pub trait Principal {
    /// The name that stays the same when a session is renewed. `None`: a renewed session needs no name, either.
    fn subject(&self) -> Option<&str> {
        None
    }

    /// When what the peer showed stops being good. `None`: never.
    fn expires_at(&self) -> Option<SystemTime> {
        None
    }
}

/// The error of a peer that is known, and may not do what it asks: 403, close code 4403. A verifier's other errors that
/// [`is_auth`](Error::is_auth) mean that the credentials are not good: 401, close code 4401.
#[must_use]
pub fn forbidden(message: &'static str) -> Error {
    Error::from_refusal(http::StatusCode::FORBIDDEN, bytes::Bytes::new()).context(message)
}

/// Whether a peer closed because the token was not good.
pub(super) fn is_unauthorized(frame: &CloseFrame) -> bool {
    frame.code().get() == 4401
}
