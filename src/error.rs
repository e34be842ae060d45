//! The error type of this crate: [`Error`].

use std::{borrow::Cow, convert::Infallible, error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::message::CloseFrame;

/// A type-erased error, as tower's middleware returns it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a transport, a layer or a connection attempt.
///
/// The type is opaque. Its `is_*` methods return its kind, which stays the same through every layer that the error
/// passes. [`Display`](fmt::Display) prints this level only: what failed, on which side, which limit applied and what
/// to do. [`source`](StdError::source) returns the cause with its own type. A clone costs a reference count, so one
/// connection failure can reach every task that waits on the connection.
///
/// tower's layers erase errors to [`BoxError`]. `Error::from(box_error)` recovers the original error and recognizes
/// tower's own `Elapsed` as a timeout.
///
/// ```
/// use tower_transport::{BoxError, Error};
///
/// let erased: BoxError = Error::timeout("no answer within 10 s").into();
/// assert!(Error::from(erased).is_timeout());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<BoxError>,
    close: Option<CloseFrame>,
    refusal: Option<Arc<Refusal>>,
    retry_after: Option<Duration>,
    is_rejection: bool,
    is_unsent: bool,
    /// Whether another attempt may succeed although the kind or the status says otherwise.
    is_temporary: bool,
}

impl Inner {
    /// Returns a copy of this level, without its cause.
    fn copy(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            source: None,
            close: self.close.clone(),
            refusal: self.refusal.clone(),
            retry_after: self.retry_after,
            is_rejection: self.is_rejection,
            is_unsent: self.is_unsent,
            is_temporary: self.is_temporary,
        }
    }
}

/// The HTTP response that rejected a handshake.
#[derive(Clone)]
struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Auth,
    Closed,
    Codec,
    Config,
    Dns,
    Full,
    Io,
    Other,
    Protocol,
    RateLimited,
    Refused,
    Status,
    Timeout,
    Tls,
    TooLarge,
}

macro_rules! kinds {
    ($($kind:ident $make:ident $ask:ident: $what:literal)*) => {$(
        #[doc = concat!("Creates an error for ", $what, ".")]
        pub fn $make(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(Kind::$kind, message.into())
        }

        #[doc = concat!("Returns whether this error is about ", $what, ".")]
        #[must_use]
        pub fn $ask(&self) -> bool {
            self.0.kind == Kind::$kind
        }
    )*

        /// Returns the kind of this error in one word, for metric labels and logs: `closed`, `timeout`, `too_large` and
        /// so on. Each `is_*` method has one kind, named after it.
        #[must_use]
        pub fn kind_name(&self) -> &'static str {
            match self.0.kind {
                $(Kind::$kind => stringify!($ask).trim_start_matches("is_"),)*
            }
        }
    };
}

impl Error {
    kinds! {
        Auth auth is_auth: "a peer that failed authentication or lacks permission (including HTTP 401 and 403)"
        Closed closed is_closed: "a transport that was closed by either side or lost; \
            [`close_frame`](Error::close_frame) returns the peer's reason, if it sent one"
        Codec codec is_codec: "a payload that the codec cannot encode or decode; the transport may still be usable"
        Config config is_config: "a setting or a URL that cannot work; retrying does not help"
        Dns dns is_dns: "a host name that did not resolve"
        Full full is_full: "a bounded queue that is full and whose policy does not wait"
        Io io is_io: "an operating system I/O failure that no other kind covers"
        Other other is_other: "a failure that no other kind covers"
        Protocol protocol is_protocol: "a peer that violated the protocol"
        RateLimited rate_limited is_rate_limited: "a rate limit that was reached; \
            [`retry_after`](Error::retry_after) returns how long to wait"
        Refused refused is_refused: "an address that does not accept connections: connection refused, or unreachable"
        Status status_error is_status: "an HTTP response that rejected the handshake; see \
            [`status`](Error::status), [`response_headers`](Error::response_headers) and \
            [`response_body`](Error::response_body)"
        Timeout timeout is_timeout: "an operation that did not complete in time"
        Tls tls is_tls: "a TLS handshake that failed because of a certificate, name or version"
        TooLarge too_large is_too_large: "a message, frame, header or queue entry that exceeds its limit"
    }

    fn new(kind: Kind, message: Cow<'static, str>) -> Self {
        let is_rejection = matches!(kind, Kind::Codec | Kind::Full | Kind::RateLimited);
        Self(Arc::new(Inner {
            kind,
            message,
            source: None,
            close: None,
            refusal: None,
            retry_after: None,
            is_rejection,
            is_unsent: false,
            is_temporary: false,
        }))
    }

    /// Returns whether this error rejects a single message while the transport that returned it continues.
    ///
    /// A sink that rejects a message has not accepted it and can take the next one. A stream that rejects a message
    /// yields this error in its place and continues. Errors of the kinds [`codec`](Self::codec), [`full`](Self::full)
    /// and [`rate_limited`](Self::rate_limited) are rejections by default. Errors of other kinds are rejections if
    /// their creator called [`into_rejection`](Self::into_rejection), as a limit on the size of outgoing messages does.
    /// Any other error means that the transport, or this direction of it, has ended.
    ///
    /// ```
    /// use tower_transport::Error;
    ///
    /// assert!(Error::codec("not the JSON that is expected").is_rejection());
    /// assert!(!Error::too_large("the peer sends more than it may").is_rejection());
    /// assert!(Error::too_large("5 MiB are over the limit of 4 MiB").into_rejection().is_rejection());
    /// ```
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        self.0.is_rejection
    }

    /// Turns this error into a [rejection](Self::is_rejection) of a single message: the transport continues.
    #[must_use]
    pub fn into_rejection(self) -> Self {
        self.map(|inner| inner.is_rejection = true)
    }

    /// Turns this error into one that ends its transport, whatever its kind implies by default.
    #[must_use]
    pub fn into_fatal(self) -> Self {
        self.map(|inner| inner.is_rejection = false)
    }

    /// Returns whether the peer may have acted on the request or message that failed with this error.
    ///
    /// `false` means that it was certainly not sent, so sending it again cannot execute it twice. `true` means that
    /// this end cannot know; it is the default for every error that is not marked otherwise.
    /// [`service::Client`](crate::service::Client) and [`Pool`](crate::stack::pool::Pool) set this for each call that
    /// fails.
    ///
    /// ```
    /// use tower_transport::Error;
    ///
    /// assert!(Error::closed("the connection was lost").may_have_been_executed());
    /// assert!(!Error::too_large("5 MiB").into_unsent().may_have_been_executed());
    /// ```
    #[must_use]
    pub fn may_have_been_executed(&self) -> bool {
        !self.0.is_unsent
    }

    /// Marks this error as one of a request or message that was certainly not sent.
    #[must_use]
    pub fn into_unsent(self) -> Self {
        self.map(|inner| inner.is_unsent = true)
    }

    /// Marks this error as one of a request or message that may have been sent.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the client uses it, which is a feature"))]
    pub(crate) fn into_uncertain(self) -> Self {
        self.map(|inner| inner.is_unsent = false)
    }

    /// Marks this error as one that another attempt may fix, for [`classify`](crate::layer::reconnect::classify). It
    /// stands for several failures, of which its kind and status describe another one.
    #[cfg(feature = "adaptive")]
    pub(crate) fn into_temporary(self) -> Self {
        self.map(|inner| inner.is_temporary = true)
    }

    /// Returns whether another attempt may succeed although the kind or the status says otherwise.
    #[cfg(feature = "reconnect")]
    pub(crate) fn is_temporary(&self) -> bool {
        self.0.is_temporary
    }

    /// Returns this error with a cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.map(|inner| inner.source = Some(source.into()))
    }

    /// Returns this error with the close frame that ended the connection.
    #[must_use]
    pub fn with_close_frame(self, frame: Option<CloseFrame>) -> Self {
        self.map(|inner| inner.close = frame)
    }

    /// Creates the error for an HTTP response that rejected the handshake. [`is_auth`](Self::is_auth) is true for 401,
    /// 403 and 407, and [`is_status`](Self::is_status) for every other status.
    #[must_use]
    pub fn from_refusal(status: StatusCode, body: Bytes) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Kind::Auth,
            _ => Kind::Status,
        };
        Self::new(kind, format!("the server answered the handshake with {status}").into())
            .map(|inner| inner.refusal = Some(Arc::new(Refusal { status, headers: HeaderMap::new(), body })))
    }

    /// Returns this error with the headers of the HTTP response that rejected the handshake. Has no effect on an error
    /// that was not created by [`from_refusal`](Self::from_refusal).
    #[must_use]
    pub fn with_response_headers(self, headers: HeaderMap) -> Self {
        self.map(|inner| {
            if let Some(refusal) = &mut inner.refusal {
                Arc::make_mut(refusal).headers = headers;
            }
        })
    }

    /// Returns this error with the HTTP response that `refusal` holds, whatever the kind of this error is.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(crate) fn with_answer_of(self, refusal: &Self) -> Self {
        self.map(|inner| inner.refusal.clone_from(&refusal.0.refusal))
    }

    /// Turns this handshake rejection into a rejected POST of an open session. [`is_too_large`](Self::is_too_large) is
    /// true for 413.
    #[cfg(feature = "sse")]
    pub(crate) fn into_refused_post(self, what: String) -> Self {
        let kind = if self.status() == Some(StatusCode::PAYLOAD_TOO_LARGE) { Kind::TooLarge } else { self.0.kind };
        self.map(|inner| (inner.kind, inner.message) = (kind, what.into()))
    }

    /// Wraps this error one level up: returns an error of the same kind with the message `what` and this error as its
    /// source.
    #[must_use]
    pub fn context(self, what: impl Into<Cow<'static, str>>) -> Self {
        let mut outer = Inner { message: what.into(), ..self.0.copy() };
        outer.source = Some(Box::new(self));
        Self(Arc::new(outer))
    }

    /// Returns the peer's close code and reason, if a close frame ended the connection.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.0.close.as_ref()
    }

    /// Returns this error with the time after which a retry may succeed.
    #[must_use]
    pub fn with_retry_after(self, time: Duration) -> Self {
        self.map(|inner| inner.retry_after = Some(time))
    }

    /// Returns how long to wait before a retry, if known. For a rate limit, this is the time until there is room.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the HTTP status that rejected the handshake.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.refusal.as_ref().map(|refusal| refusal.status)
    }

    /// Returns the headers that came with [`status`](Self::status), such as `Location` and `WWW-Authenticate`, as the
    /// server sent them. They are empty if the transport does not expose them (WebTransport). [`Debug`](fmt::Debug)
    /// does not print them, because they may contain secrets.
    #[must_use]
    pub fn response_headers(&self) -> Option<&HeaderMap> {
        self.0.refusal.as_ref().map(|refusal| &refusal.headers)
    }

    /// Returns the body that came with [`status`](Self::status), truncated to its first 64 KiB.
    #[must_use]
    pub fn response_body(&self) -> Option<&Bytes> {
        self.0.refusal.as_ref().map(|refusal| &refusal.body)
    }

    fn map(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        // An error is built before it is shared. If it is already shared, the original becomes the source of a new one.
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
            return self;
        }
        let mut inner = self.0.copy();
        inner.source = Some(Box::new(self));
        change(&mut inner);
        Self(Arc::new(inner))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.close {
            Some(frame) => write!(f, " (close frame: {frame})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(close) = &self.0.close {
            debug.field("close", close);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        let error = match error.downcast::<io::Error>() {
            Ok(io) => return (*io).into(),
            Err(error) => error,
        };
        if error.is::<tower::timeout::error::Elapsed>() {
            return Self::timeout("tower's timeout ran out").with_source(error);
        }
        let message = error.to_string();
        Self::other(message).with_source(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;

        // An error of this crate that passed through an `io::Error` (a TLS stream, say) is recovered unchanged.
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            if let Some(inner) = error.into_inner() {
                return inner.into();
            }
            return Self::io("an I/O operation failed");
        }
        let (kind, message) = match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                (Kind::Refused, "nobody listens at the address")
            }
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => (Kind::Closed, "the connection was cut"),
            ErrorKind::TimedOut => (Kind::Timeout, "the operating system gave up waiting"),
            _ => (Kind::Io, "an I/O operation failed"),
        };
        Self::new(kind, message.into()).with_source(error)
    }
}

/// Wraps the error, for code that speaks in I/O errors. [`Error::from`] recovers it.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.0.kind {
            Kind::Closed if error.close_frame().is_some() => io::ErrorKind::ConnectionAborted,
            Kind::Closed => io::ErrorKind::ConnectionReset,
            Kind::Codec | Kind::Protocol | Kind::TooLarge => io::ErrorKind::InvalidData,
            Kind::Refused => io::ErrorKind::ConnectionRefused,
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Auth => io::ErrorKind::PermissionDenied,
            Kind::Config => io::ErrorKind::InvalidInput,
            Kind::Dns | Kind::Full | Kind::Io | Kind::Other | Kind::RateLimited | Kind::Status | Kind::Tls => {
                io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
    }
}

/// A request that could not be built, such as one with an invalid URL: [`is_config`](Error::is_config) is true.
impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        Self::config("the request is invalid").with_source(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CloseCode;

    #[test]
    fn an_error_comes_out_of_an_io_error_as_it_went_in() {
        let io = io::Error::from(Error::timeout("no answer within 10 s").into_unsent());
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        let error = Error::from(io);
        assert!(error.is_timeout() && !error.may_have_been_executed());
    }

    #[test]
    fn an_error_comes_out_of_any_box_as_it_went_in() {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "slow down");
        let error = Error::closed("the peer closed").with_close_frame(Some(frame.clone()));
        let boxed: BoxError = Box::new(error);
        let through_io = io::Error::other(Error::from(boxed));
        let error = Error::from(Box::new(through_io) as BoxError);
        assert!(error.is_closed());
        assert_eq!(error.close_frame(), Some(&frame));
    }

    #[test]
    fn a_request_that_cannot_be_built_is_a_config_error() {
        let ask = |url: &str| Ok::<_, Error>(http::Request::get(url).body(())?);
        assert!(ask("ws://localhost/").is_ok());
        let error = ask("no url").unwrap_err();
        assert!(error.is_config() && error.source().unwrap().is::<http::Error>(), "{error:?}");
    }

    #[test]
    fn a_kind_is_named_after_its_question() {
        assert_eq!(Error::too_large("").kind_name(), "too_large");
        assert_eq!(Error::rate_limited("").kind_name(), "rate_limited");
        assert_eq!(Error::closed("").kind_name(), "closed");
    }

    #[test]
    fn the_source_chain_is_kept_and_each_level_prints_itself_alone() {
        let io = io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer");
        let error = Error::protocol("a frame was cut short").with_source(Error::from(io));
        assert_eq!(error.to_string(), "a frame was cut short");
        let cause = error.source().unwrap();
        assert_eq!(cause.to_string(), "the connection was cut");
        assert!(cause.source().unwrap().is::<io::Error>());
    }

    #[test]
    fn towers_own_timeout_is_a_timeout() {
        let elapsed: BoxError = Box::new(tower::timeout::error::Elapsed::new());
        assert!(Error::from(elapsed).is_timeout());
    }

    #[test]
    fn a_shared_error_can_still_be_given_more_context() {
        let shared = Error::closed("the connection was cut");
        let more = shared.clone().with_close_frame(Some(CloseFrame::new(CloseCode::AWAY, "")));
        assert!(more.is_closed() && more.close_frame().is_some());
        assert!(shared.close_frame().is_none());
    }

    #[test]
    fn an_error_says_whether_its_transport_goes_on_and_keeps_saying_so() {
        let rejected = Error::too_large("5 MiB").into_rejection();
        assert!(rejected.is_rejection() && rejected.is_too_large());
        assert!(rejected.clone().context("one level up").is_rejection());
        assert!(rejected.clone().with_retry_after(Duration::ZERO).is_rejection());
        assert!(Error::from(Box::new(rejected) as BoxError).is_rejection());
        assert!(Error::full("").is_rejection() && Error::rate_limited("").is_rejection());
        assert!(!Error::codec("").into_fatal().is_rejection());
        assert!(!Error::closed("").is_rejection() && !Error::too_large("").is_rejection());
    }

    #[test]
    fn refusals_for_credentials_are_auth_errors_with_status_and_body() {
        let error = Error::from_refusal(StatusCode::UNAUTHORIZED, Bytes::from_static(b"who are you"));
        assert!(error.is_auth() && !error.is_status());
        assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(error.response_body().unwrap(), "who are you");
        assert!(Error::from_refusal(StatusCode::BAD_GATEWAY, Bytes::new()).is_status());
    }

    #[test]
    fn the_headers_of_a_refusal_stay_with_the_error_and_are_not_printed() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "https://example.com/?token=tainted".parse().unwrap());
        let error = Error::from_refusal(StatusCode::FOUND, Bytes::new()).with_response_headers(headers);
        let outer = error.clone().context("connecting failed").with_retry_after(Duration::ZERO);
        for error in [&error, &outer] {
            assert!(error.response_headers().unwrap().contains_key("location"));
            assert!(!format!("{error} {error:?}").contains("tainted"));
        }
        assert!(Error::closed("").with_response_headers(HeaderMap::new()).response_headers().is_none());
    }
}
