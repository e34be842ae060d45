//! One HTTP/1.1 request on a new byte stream, after which the caller owns the stream again: the upgrade, and a proxy's
//! CONNECT.

use std::{
    error::Error as StdError,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{BoxError, Error, Limits, rt};

/// The smallest buffer for a head that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8 * 1024;

/// The maximum number of bytes kept of a rejection's body.
const MAX_BODY: usize = 64 * 1024;

/// The maximum time to wait for a rejection's body.
const BODY_TIME: Duration = Duration::from_secs(1);

/// Returns the size of the buffer into which hyper reads a head.
pub(crate) fn head_buffer(limits: &Limits) -> usize {
    limits.header_bytes.max(MIN_BUFFER)
}

/// Returns the number of headers for which hyper takes memory, before it knows how many there are.
pub(crate) fn max_headers(limits: &Limits) -> usize {
    // A header is at least a letter, a colon and the end of a line.
    limits.headers.min(head_buffer(limits) / 4)
}

/// Returns the HTTP/1.1 configuration that every connector uses.
pub(crate) fn client(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(head_buffer(limits)).max_headers(max_headers(limits));
    builder
}

/// A byte stream on which the peer may send a limited number of bytes: those of a handshake.
pub(crate) struct Metered<S> {
    io: S,
    allowance: Allowance,
}

/// The number of bytes that the peer may still send.
#[derive(Clone)]
pub(crate) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(crate) fn none() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    /// Allows another handshake.
    pub(crate) fn renew(&self, limits: &Limits) {
        self.0.store(limits.handshake_bytes, Relaxed);
    }

    /// Ends the limit: the handshake is over.
    #[cfg(feature = "sse")]
    pub(crate) fn lift(&self) {
        self.0.store(usize::MAX, Relaxed);
    }
}

impl<S> Metered<S> {
    pub(crate) fn new(io: S, allowance: Allowance) -> Self {
        Self { io, allowance }
    }

    pub(crate) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.allowance.0.load(Relaxed);
        if left == 0 {
            let error = "the peer sent more bytes than a handshake may have; raise `Limits::handshake_bytes`";
            return Poll::Ready(Err(io::Error::other(Error::too_large(error))));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if left != usize::MAX {
            self.allowance.0.store(left.saturating_sub(into.filled().len() - before), Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Sends `request`. If `accepts` returns true for the response, returns it with the stream and the bytes read past it;
/// otherwise returns the rejection as an error.
pub(crate) async fn exchange<S>(
    io: S,
    request: Request<()>,
    limits: &Limits,
    accepts: impl FnOnce(&Response<Incoming>) -> bool,
) -> Result<(Response<()>, S, Bytes), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let http_error = |error| http_error(error, limits);
    let allowance = Allowance::none();
    allowance.renew(limits);
    let io = TokioIo::new(Metered::new(io, allowance));
    let (mut sender, connection) = client(limits).handshake(io).await.map_err(http_error)?;
    let mut response = pin!(sender.send_request(request.map(|()| String::new())));
    let mut connection = pin!(connection.without_shutdown());
    // The stream again, once the connection has ended. A refusal may come with that end, and says more than it does.
    let mut parts = None;
    let response = poll_fn(|cx| {
        let polled = response.as_mut().poll(cx);
        if polled.is_pending()
            && parts.is_none()
            && let Poll::Ready(ended) = connection.as_mut().poll(cx)
        {
            parts = Some(ended);
            return response.as_mut().poll(cx);
        }
        polled
    });
    let response = match response.await {
        Ok(response) => response,
        Err(error) => match parts {
            Some(Err(cause)) => return Err(http_error(cause)),
            _ => return Err(http_error(error)),
        },
    };
    check_head(&response, limits)?;
    if !accepts(&response) {
        let (head, body) = response.into_parts();
        let mut body = pin!(read_body(body));
        let body = poll_fn(|cx| {
            // Polling the connection drives the body.
            if parts.is_none()
                && let Poll::Ready(ended) = connection.as_mut().poll(cx)
            {
                parts = Some(ended);
            }
            body.as_mut().poll(cx)
        });
        return Err(refusal(head.status, head.headers, body.await));
    }
    let parts = match parts {
        Some(parts) => parts.map_err(http_error)?,
        None => connection.await.map_err(http_error)?,
    };
    Ok((response.map(drop), parts.io.into_inner().into_inner(), parts.read_buf))
}

/// Checks the headers of a response against the limits, which may be lower than those that hyper can enforce.
pub(crate) fn check_head<B>(response: &Response<B>, limits: &Limits) -> Result<(), Error> {
    limits
        .check_headers(response.headers())
        .map_err(|excess| Error::too_large(format!("the server's response is too large: {excess}; raise it")))
}

/// Creates the error for a response that rejects the request.
pub(crate) fn refusal(status: StatusCode, headers: HeaderMap, body: Bytes) -> Error {
    let retry_after = retry_after(&headers, SystemTime::now());
    let refusal = Error::from_refusal(status, body).with_response_headers(headers);
    match retry_after {
        Some(time) => refusal.with_retry_after(time),
        None => refusal,
    }
}

/// Parses `Retry-After` (RFC 9110, section 10.2.3): a number of seconds, or a date. A date is compared with the
/// response's own `Date`, so the local clock need not agree with the server's.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let now = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    // A date in the past means now.
    Some(date.duration_since(now).unwrap_or_default())
}

pub(crate) async fn read_body(mut body: Incoming) -> Bytes {
    let mut read = BytesMut::new();
    let all = async {
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Ok(data) = frame.into_data() {
                let room = MAX_BODY - read.len();
                read.extend_from_slice(&data[..data.len().min(room)]);
            }
            if read.len() == MAX_BODY {
                return;
            }
        }
    };
    let _ = rt::timeout(BODY_TIME, all).await;
    read.freeze()
}

pub(crate) fn http_error(error: hyper::Error, limits: &Limits) -> Error {
    if error.is_parse_too_large() {
        return head_too_large("server's response", limits).with_source(error);
    }
    if error.is_parse() {
        return Error::protocol("the server's response is not HTTP/1.1").with_source(error);
    }
    if error.is_incomplete_message() || error.is_canceled() {
        return Error::closed("the server closed the connection during the handshake").with_source(error);
    }
    by_cause(error, "the handshake failed")
}

/// Creates the error for a head that hyper has refused. It does not report which of the two limits was exceeded.
pub(crate) fn head_too_large(whose: &str, limits: &Limits) -> Error {
    let (bytes, headers) = (head_buffer(limits), limits.headers);
    Error::too_large(format!(
        "the head of the {whose} is over {bytes} bytes or {headers} headers; raise `Limits::header_bytes` or \
         `Limits::headers`"
    ))
}

/// Finds the most specific cause among the sources of a foreign error: an error of this crate or of the operating
/// system.
pub(super) fn by_cause(error: impl Into<BoxError>, what: &'static str) -> Error {
    let error = error.into();
    if error.is::<tower::timeout::error::Elapsed>() {
        return error.into();
    }
    if let Some(own) = own_cause(&*error) {
        return own;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            let kind = io.kind();
            return Error::from(io::Error::new(kind, error));
        }
        cause = this.source();
    }
    Error::other(what).with_source(error)
}

/// Returns the error of this crate among the causes of a foreign one.
pub(crate) fn own_cause(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(this) = cause {
        // The error that an `io::Error` holds is not its source.
        let held = this.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(own) = this.downcast_ref().or_else(|| held?.downcast_ref::<Error>()) {
            return Some(own.clone());
        }
        cause = this.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_server_says_when_to_come_back_in_seconds_or_by_a_date() {
        let wait = |headers: &[(header::HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            // Sun, 06 Nov 1994 08:49:37 GMT.
            retry_after(&headers, UNIX_EPOCH + Duration::from_secs(784_111_777))
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait(&[(header::RETRY_AFTER, "120")]), seconds(120));
        assert_eq!(wait(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:51:37 GMT")]), seconds(120));
        assert_eq!(wait(&[(header::RETRY_AFTER, "Sunday, 06-Nov-94 08:51:37 GMT")]), seconds(120));
        assert_eq!(wait(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:00:00 GMT")]), seconds(0));
        let dated = (header::DATE, "Sun, 06 Nov 1994 09:00:00 GMT");
        assert_eq!(wait(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 09:00:30 GMT"), dated]), seconds(30));
        for nothing in ["soon", "-1", "", "1.5"] {
            assert_eq!(wait(&[(header::RETRY_AFTER, nothing)]), None, "{nothing}");
        }
        assert_eq!(wait(&[]), None);
    }
}
