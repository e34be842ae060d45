use std::borrow::Cow;

#[cfg(any(feature = "websocket", feature = "sse"))]
use bytes::Bytes;
use http::StatusCode;
#[cfg(any(feature = "websocket", feature = "sse"))]
use http::{HeaderValue, Response, header};

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

    /// Rejects a request whose headers are over a limit.
    pub(super) fn large_head(excess: String) -> Self {
        Self { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: excess.into() }
    }

    /// Returns the rejection as a response, whose body is the reason. `methods` are the ones that the endpoint
    /// supports.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(super) fn into_response(self, methods: &'static str) -> Response<Bytes> {
        let mut response = Response::new(match self.reason {
            Cow::Borrowed(reason) => Bytes::from_static(reason.as_bytes()),
            Cow::Owned(reason) => reason.into(),
        });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5")),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static(methods)),
            _ => None,
        };
        response
    }

    /// Logs the rejection.
    pub(super) fn logged<'a>(self, transport: &'static str, head: impl Into<Head<'a>>) -> Self {
        log::refused(transport, self.status, &self.reason, head);
        self
    }
}
