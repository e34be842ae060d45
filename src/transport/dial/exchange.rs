//! One HTTP/1.1 request on a new byte stream, after which the caller owns the stream again: the upgrade, and a proxy's
//! CONNECT.

use std::{
    error::Error as StdError,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{BoxError, Error, rt};

/// The maximum size of a response head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The maximum number of headers in a response.
const MAX_HEADERS: usize = 512;

/// The maximum number of bytes kept of a rejection's body.
const MAX_BODY: usize = 64 * 1024;

/// The maximum time to wait for a rejection's body.
const BODY_TIME: Duration = Duration::from_secs(1);

/// Returns the HTTP/1.1 configuration that every connector uses.
pub(crate) fn client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    builder
}

/// Sends `request`. If `accepts` returns true for the response, returns it with the stream and the bytes read past it;
/// otherwise returns the rejection as an error.
pub(crate) async fn exchange<S>(
    io: S,
    request: Request<()>,
    accepts: impl FnOnce(&Response<Incoming>) -> bool,
) -> Result<(Response<()>, S, Bytes), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = client().handshake(TokioIo::new(io)).await.map_err(http_error)?;
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
    Ok((response.map(drop), parts.io.into_inner(), parts.read_buf))
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

pub(crate) fn http_error(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        // hyper does not report which of the two limits was exceeded.
        return Error::too_large(format!(
            "the head of the server's answer is over {MAX_HEAD} bytes or {MAX_HEADERS} headers"
        ))
        .with_source(error);
    }
    if error.is_parse() {
        return Error::protocol("the server's response is not HTTP/1.1").with_source(error);
    }
    if error.is_incomplete_message() || error.is_canceled() {
        return Error::closed("the server closed the connection during the handshake").with_source(error);
    }
    by_cause(error, "the handshake failed")
}

/// Finds the most specific cause among the sources of a foreign error: an error of this crate or of the operating
/// system.
pub(super) fn by_cause(error: impl Into<BoxError>, what: &'static str) -> Error {
    let error = error.into();
    if error.is::<tower::timeout::error::Elapsed>() {
        return error.into();
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(this) = cause {
        if let Some(own) = this.downcast_ref::<Error>() {
            return own.clone();
        }
        if let Some(io) = this.downcast_ref::<io::Error>() {
            let kind = io.kind();
            return Error::from(io::Error::new(kind, error));
        }
        cause = this.source();
    }
    Error::other(what).with_source(error)
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
