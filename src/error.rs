//! The one error of this crate: [`Error`].

use std::{borrow::Cow, convert::Infallible, error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::message::CloseFrame;

/// A type-erased error, as tower's middleware returns it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong on a transport, in a layer or while connecting.
///
/// The type is opaque: ask it with the `is_*` methods, which stay true whatever layers the error has passed through.
/// [`Display`](fmt::Display) prints this level alone (what failed, on which side, which limit applied, what to do);
/// [`source`](StdError::source) leads down to the cause, with its own type kept. A clone costs a reference count, so that
/// one failure of a connection reaches everyone who waits on it.
///
/// tower's layers erase errors to [`BoxError`]; `Error::from(box_error)` finds the original again, and knows tower's
/// own `Elapsed` as a timeout.
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
}

/// The HTTP answer that refused a handshake.
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
        #[doc = concat!("Makes the error of ", $what, ".")]
        pub fn $make(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(Kind::$kind, message.into())
        }

        #[doc = concat!("Whether this is ", $what, ".")]
        #[must_use]
        pub fn $ask(&self) -> bool {
            self.0.kind == Kind::$kind
        }
    )*

        /// The kind of this error in one word, for a metric's label or a log: `closed`, `timeout`, `too_large`... There is one
        /// for each of the `is_*` questions, named after it.
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
        Auth auth is_auth: "a peer that is not who it must be, or may not do what it asks (HTTP 401 and 403 among them)"
        Closed closed is_closed: "a transport that is closed, by either side or by a cut; [`close_frame`](Error::close_frame) says why, where the peer did"
        Codec codec is_codec: "a payload that is not the value which the codec expects; the transport may still be good"
        Config config is_config: "a setting or a URL that cannot work; trying again does not help"
        Dns dns is_dns: "a host name that did not resolve"
        Full full is_full: "a bounded queue without room, by a policy that does not wait"
        Io io is_io: "an I/O failure of the operating system that no other kind names"
        Other other is_other: "none of the other kinds"
        Protocol protocol is_protocol: "a peer that broke the protocol"
        RateLimited rate_limited is_rate_limited: "a rate limit that was reached; [`retry_after`](Error::retry_after) says for how long"
        Refused refused is_refused: "a peer that nobody listens at: connection refused, or unreachable"
        Status status_error is_status: "an HTTP answer that refuses the handshake; [`status`](Error::status), [`response_headers`](Error::response_headers) and [`response_body`](Error::response_body) tell which"
        Timeout timeout is_timeout: "something that did not happen in its time"
        Tls tls is_tls: "a TLS handshake that failed, by certificate, name or version"
        TooLarge too_large is_too_large: "a message, frame, header or queue entry over its limit"
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
        }))
    }

    /// Returns whether this rejects one message, while the transport that returned it goes on.
    ///
    /// A sink that rejects a message has not accepted it and takes the next one. A stream that rejects a message gives this error in its
    /// place and goes on. Errors of the kinds [`codec`](Self::codec), [`full`](Self::full) and [`rate_limited`](Self::rate_limited) are
    /// rejections; others are where whoever made them said so by [`into_rejection`](Self::into_rejection), as a limit on the size of an
    /// outgoing message does. Any other error means that the transport, or this direction of it, has ended.
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

    /// Turns this into an error that [concerns one message](Self::is_rejection): the transport goes on.
    #[must_use]
    pub fn into_rejection(self) -> Self {
        self.map(|inner| inner.is_rejection = true)
    }

    /// Turns this into an error that ends its transport, whatever its kind is by default.
    #[must_use]
    pub fn into_fatal(self) -> Self {
        self.map(|inner| inner.is_rejection = false)
    }

    /// Returns whether the peer may have acted on the request or message that failed with this error.
    ///
    /// `false` means that it was certainly not sent: sending it again cannot execute it twice. `true` means that nobody here can
    /// know, and is the answer of every error that does not say otherwise. [`service::Client`](crate::service::Client) and
    /// [`Pool`](crate::stack::pool::Pool) say it of each call that fails.
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

    /// Turns this into the error of something that was certainly not sent.
    #[must_use]
    pub fn into_unsent(self) -> Self {
        self.map(|inner| inner.is_unsent = true)
    }

    /// Turns this into the error of something that may have been sent.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the client uses it, which is a feature"))]
    pub(crate) fn into_uncertain(self) -> Self {
        self.map(|inner| inner.is_unsent = false)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.map(|inner| inner.source = Some(source.into()))
    }

    /// The same error with the close frame that ended the connection.
    #[must_use]
    pub fn with_close_frame(self, frame: Option<CloseFrame>) -> Self {
        self.map(|inner| inner.close = frame)
    }

    /// The error of an HTTP answer that refused the handshake: [`is_auth`](Self::is_auth) for 401, 403 and 407, else
    /// [`is_status`](Self::is_status).
    #[must_use]
    pub fn from_refusal(status: StatusCode, body: Bytes) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Kind::Auth,
            _ => Kind::Status,
        };
        Self::new(kind, format!("the server answered the handshake with {status}").into())
            .map(|inner| inner.refusal = Some(Arc::new(Refusal { status, headers: HeaderMap::new(), body })))
    }

    /// The same error with the headers of the HTTP answer that refused the handshake. Does nothing for an error that was not made by
    /// [`from_refusal`](Self::from_refusal).
    #[must_use]
    pub fn with_response_headers(self, headers: HeaderMap) -> Self {
        self.map(|inner| {
            if let Some(refusal) = &mut inner.refusal {
                Arc::make_mut(refusal).headers = headers;
            }
        })
    }

    /// The same error with the HTTP answer that `refusal` holds, whatever this one's kind.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(crate) fn with_answer_of(self, refusal: &Self) -> Self {
        self.map(|inner| inner.refusal.clone_from(&refusal.0.refusal))
    }

    /// The same refusal, as one of messages of an open session: [`is_too_large`](Self::is_too_large) for 413.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(crate) fn into_refused_post(self, what: String) -> Self {
        let kind = if self.status() == Some(StatusCode::PAYLOAD_TOO_LARGE) { Kind::TooLarge } else { self.0.kind };
        self.map(|inner| (inner.kind, inner.message) = (kind, what.into()))
    }

    /// The same kind of error one level up: `what` failed, and this is why.
    #[must_use]
    pub fn context(self, what: impl Into<Cow<'static, str>>) -> Self {
        let mut outer = Self::new(self.0.kind, what.into());
        if let Some(inner) = Arc::get_mut(&mut outer.0) {
            inner.close.clone_from(&self.0.close);
            inner.refusal.clone_from(&self.0.refusal);
            inner.retry_after = self.0.retry_after;
            inner.is_rejection = self.0.is_rejection;
            inner.is_unsent = self.0.is_unsent;
            inner.source = Some(Box::new(self));
        }
        outer
    }

    /// The peer's close code and reason, where the connection ended with one.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.0.close.as_ref()
    }

    /// The same error with the time after which trying again may help.
    #[must_use]
    pub fn with_retry_after(self, time: Duration) -> Self {
        self.map(|inner| inner.retry_after = Some(time))
    }

    /// How long to wait before trying again, where that is known: of a rate limit, the time until there is room.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status that refused the handshake.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.refusal.as_ref().map(|refusal| refusal.status)
    }

    /// The headers that came with [`status`](Self::status): `Location`, `WWW-Authenticate` and the others, as the server sent them. Empty
    /// where the transport does not give them (WebTransport). [`Debug`](fmt::Debug) does not print them, as they may hold a secret.
    #[must_use]
    pub fn response_headers(&self) -> Option<&HeaderMap> {
        self.0.refusal.as_ref().map(|refusal| &refusal.headers)
    }

    /// The body that came with [`status`](Self::status), at most its first 64 KiB.
    #[must_use]
    pub fn response_body(&self) -> Option<&Bytes> {
        self.0.refusal.as_ref().map(|refusal| &refusal.body)
    }

    fn map(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        // An error is built up before anyone else holds it; of one that is shared, the original becomes the source.
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
            return self;
        }
        let mut inner = Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            source: None,
            close: self.0.close.clone(),
            refusal: self.0.refusal.clone(),
            retry_after: self.0.retry_after,
            is_rejection: self.0.is_rejection,
            is_unsent: self.0.is_unsent,
        };
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

        // An error of ours that went through an `io::Error` (a TLS stream, say) comes back as it was.
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
