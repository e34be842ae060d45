//! One HTTP/1.1 request on a fresh byte stream, after which the stream is ours again: the upgrade, and a proxy's CONNECT.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::by_cause;
use crate::{Error, rt};

/// The largest head of an answer.
pub(in crate::transport) const MAX_HEAD: usize = 64 * 1024;

/// What is kept of the body of a refusal.
const MAX_BODY: usize = 64 * 1024;

/// How long the body of a refusal is waited for.
const BODY_TIME: Duration = Duration::from_secs(1);

/// Sends `request`; if `accepts` the answer, gives it with the stream and what was read too much, else the refusal as an
/// error.
pub(in crate::transport) async fn exchange<S>(
    io: S,
    request: Request<()>,
    accepts: impl FnOnce(&Response<Incoming>) -> bool,
) -> Result<(Response<()>, S, Bytes), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(http_error)?;
    let response = pin!(sender.send_request(request.map(|()| Empty::<Bytes>::new())));
    let connection = pin!(connection.without_shutdown());
    let (response, connection) = match select(response, connection).await {
        Either::Left((response, connection)) => (response.map_err(http_error)?, Either::Left(connection)),
        Either::Right((parts, response)) => {
            let parts = parts.map_err(http_error)?;
            (response.await.map_err(http_error)?, Either::Right(parts))
        }
    };
    if !accepts(&response) {
        let (head, body) = response.into_parts();
        let body = pin!(read_body(body));
        let body = match connection {
            Either::Right(_) => body.await,
            // The connection moves the body along.
            Either::Left(connection) => match select(body, connection).await {
                Either::Left((body, _)) => body,
                Either::Right((_, body)) => body.await,
            },
        };
        let refusal = Error::from_refusal(head.status, body);
        return Err(match retry_after(&head.headers) {
            Some(time) => refusal.with_retry_after(time),
            None => refusal,
        });
    }
    let parts = match connection {
        Either::Left(connection) => connection.await.map_err(http_error)?,
        Either::Right(parts) => parts,
    };
    Ok((response.map(drop), parts.io.into_inner(), parts.read_buf))
}

/// RFC 9110, section 10.2.3: the form in seconds. A date would need the wall clock, and two of them that agree.
pub(in crate::transport) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().map(Duration::from_secs).ok()
}

pub(in crate::transport) async fn read_body(mut body: Incoming) -> Bytes {
    let mut read = BytesMut::new();
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
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

pub(in crate::transport) fn http_error(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::too_large(format!("the head of the server's answer is over {MAX_HEAD} bytes"))
            .with_source(error);
    }
    if error.is_parse() {
        return Error::protocol("the server's answer is not HTTP/1.1").with_source(error);
    }
    if error.is_incomplete_message() || error.is_canceled() {
        return Error::closed("the server cut the connection during the handshake").with_source(error);
    }
    by_cause(error, "the handshake failed")
}
