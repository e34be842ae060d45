use std::{fmt, sync::Arc, time::Duration};

/// A token from a token source: a secret and its lifetime.
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
    /// Creates a token that is valid until the server refuses it.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into(), expires: None }
    }

    /// Sets how long the token is valid, counted from when the source returned it: OAuth's `expires_in` (RFC 6749,
    /// section 5.1).
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires = Some(Expires::In(time));
        self
    }

    /// Sets the time until which the token is valid: a JWT's `exp`.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn expires_at(mut self, time: std::time::SystemTime) -> Self {
        self.expires = Some(Expires::At(time));
        self
    }

    /// Returns the secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns how long the token is valid if it was returned now.
    pub(super) fn life(&self) -> Option<Duration> {
        match self.expires? {
            Expires::In(time) => Some(time),
            #[cfg(not(target_arch = "wasm32"))]
            Expires::At(time) => Some(time.duration_since(std::time::SystemTime::now()).unwrap_or_default()),
        }
    }
}

/// A request to a token source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRequest {
    /// The reason for the request.
    pub reason: Reason,
}

/// The reason for a [`TokenRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There is no token yet.
    First,
    /// The last token has expired, or will soon.
    Expired,
    /// The server refused the last token (401, close code 4401) although it had not expired. The credentials that it
    /// was made from may be revoked too.
    Refused,
    /// The server asks for a new token in the middle of a session.
    Renewal,
}

/// Text that is not shown: its `Debug` prints `Secret(..)`, and it has no `Display`.
///
/// Clones share the text. [`expose`](Self::expose) is the only way to read it, so that a search for that word finds
/// every use.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Do not put it into logs, errors or URLs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
