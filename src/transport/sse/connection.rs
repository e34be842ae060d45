use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Error,
    transport::{
        dial::{self, Dialer, Socket, Target, http_error, read_body},
        signal,
    },
};

/// An HTTP/1.1 connection to the server. The task that waits for its results drives it; there is no task behind it.
pub(super) struct HttpConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The connection, or `None` when it is over.
    connection: Option<http1::Connection<TokioIo<Metered>, Full<Bytes>>>,
}

impl HttpConnection {
    pub(super) async fn open(dialer: &Dialer, target: &Target) -> Result<Self, Error> {
        let socket = dialer.dial(target).await?;
        let (sender, connection) = dial::client().handshake(TokioIo::new(Metered(socket))).await.map_err(http_error)?;
        Ok(Self { sender, connection: Some(connection) })
    }

    /// Makes progress on the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // Tasks that wait for a response get the error.
            self.connection = None;
        }
    }

    /// Waits for a future while driving the connection.
    pub(super) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            // What the connection reads now may be what the future waits for, so it is polled on both sides.
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    pub(super) async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        let response = self.sender.send_request(request);
        self.drive(response).await
    }

    /// Creates the error for a response that rejects the request, with its body and retry delay.
    pub(super) async fn refusal(&mut self, answer: Response<Incoming>) -> Error {
        let (head, body) = answer.into_parts();
        let body = self.drive(read_body(body)).await;
        dial::refusal(head.status, head.headers, body)
    }

    /// Returns whether another request may use the connection. Also detects whether the server has closed it meanwhile.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, connection } = self;
        poll_fn(|cx| {
            let Some(moved) = connection else { return Poll::Ready(false) };
            if Pin::new(moved).poll(cx).is_ready() {
                *connection = None;
                return Poll::Ready(false);
            }
            // Not ready means that the last exchange is not over, though it was answered. A new connection is better
            // than waiting.
            Poll::Ready(matches!(sender.poll_ready(cx), Poll::Ready(Ok(()))))
        })
        .await
    }
}

/// A socket that reports outgoing bytes. Incoming bytes are reported once they turn out to be more than comments.
struct Metered(Socket);

impl Metered {
    fn socket(&mut self) -> Pin<&mut Socket> {
        Pin::new(&mut self.0)
    }
}

fn report(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = written {
        signal::moved(bytes);
    }
    written
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, into)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        report(self.socket().poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        report(self.socket().poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
