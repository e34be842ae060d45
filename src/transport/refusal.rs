use std::borrow::Cow;

#[cfg(any(feature = "websocket", feature = "sse"))]
use bytes::Bytes;
use http::StatusCode;

use crate::log::{self, Head};

/// The reason why a server rejects a request for a transport.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) status: StatusCode,
    /// The reason for the client and for the log: what is wrong, and the setting that would allow it.
    pub(super) reason: Cow<'static, str>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason: Cow::Borrowed(reason) }
    }

    /// Returns the reason as a body.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(super) fn body(self) -> Bytes {
        match self.reason {
            Cow::Borrowed(reason) => Bytes::from_static(reason.as_bytes()),
            Cow::Owned(reason) => reason.into(),
        }
    }

    /// Logs the rejection.
    pub(super) fn logged<'a>(self, transport: &'static str, head: impl Into<Head<'a>>) -> Self {
        log::refused(transport, self.status, &self.reason, head);
        self
    }
}
