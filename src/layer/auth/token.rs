use std::time::Duration;

use super::Secret;

/// What a token source gives: a secret, and how long it is good.
#[derive(Clone, Debug)]
pub struct Token {
    secret: Secret,
    expires: Option<Expires>,
}

#[derive(Clone, Copy, Debug)]
enum Expires {
    In(Duration),
    #[cfg(not(target_arch = "wasm32"))]
    At(std::time::SystemTime),
}

impl Token {
    /// A token that is good until the server says otherwise.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into(), expires: None }
    }

    /// The same token, good for `time` from when the source gave it: OAuth's `expires_in` (RFC 6749, section 5.1).
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires = Some(Expires::In(time));
        self
    }

    /// The same token, good until `time`: a JWT's `exp`.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn expires_at(mut self, time: std::time::SystemTime) -> Self {
        self.expires = Some(Expires::At(time));
        self
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// How long the token is good from now, if it was given now.
    pub(super) fn life(&self) -> Option<Duration> {
        match self.expires? {
            Expires::In(time) => Some(time),
            #[cfg(not(target_arch = "wasm32"))]
            Expires::At(time) => Some(time.duration_since(std::time::SystemTime::now()).unwrap_or_default()),
        }
    }
}

/// What a token source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRequest {
    /// Why a token is wanted.
    pub reason: Reason,
}

/// Why a [token is wanted](TokenRequest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There was none yet.
    First,
    /// The last one has expired, or will soon.
    Expired,
    /// The server refused the last one (401, close code 4401), though it had not expired: what it was made from may be
    /// revoked, too.
    Refused,
    /// The server asks for a new one in the middle of a session.
    Renewal,
}
