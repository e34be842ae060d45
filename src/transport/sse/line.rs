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

/// An HTTP/1.1 connection to the server, moved by whoever waits for what comes of it: there is no task behind it.
pub(super) struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` when it is over.
    connection: Option<http1::Connection<TokioIo<Metered>, Full<Bytes>>>,
}

impl Line {
    pub(super) async fn open(dialer: &Dialer, target: &Target) -> Result<Self, Error> {
        let socket = dialer.dial(target).await?;
        let (sender, connection) = dial::client().handshake(TokioIo::new(Metered(socket))).await.map_err(http_error)?;
        Ok(Self { sender, connection: Some(connection) })
    }

    /// Moves what can be moved.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // What went wrong, those are told who wait for an answer.
            self.connection = None;
        }
    }

    /// Waits for what comes of the connection.
    pub(super) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    pub(super) async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        let response = self.sender.send_request(request);
        self.drive(response).await
    }

    /// The error of an answer that refuses, with its body and when to come back.
    pub(super) async fn refusal(&mut self, answer: Response<Incoming>) -> Error {
        let (head, body) = answer.into_parts();
        let body = self.drive(read_body(body)).await;
        dial::refusal(head.status, head.headers, body)
    }

    /// Whether another request may go over it; a look at whether the server has closed it meanwhile.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, connection } = self;
        poll_fn(|cx| {
            let Some(moved) = connection else { return Poll::Ready(false) };
            if Pin::new(moved).poll(cx).is_ready() {
                *connection = None;
                return Poll::Ready(false);
            }
            // Not ready: the last exchange is not over, though it was answered. Rather a new connection than to wait for that.
            Poll::Ready(matches!(sender.poll_ready(cx), Poll::Ready(Ok(()))))
        })
        .await
    }
}

/// A socket that reports the bytes which go out. Those which come in are reported where they turn out to be more than comments.
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
