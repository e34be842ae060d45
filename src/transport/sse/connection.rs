use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Error, Limits,
    transport::{
        dial::{self, Allowance, Dial, Metered, Socket, Target, Tls, check_head, http_error, read_body},
        signal,
    },
};

/// An HTTP/1.1 connection to the server. The task that waits for its results drives it; there is no task behind it.
pub(super) struct HttpConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The connection, or `None` when it is over.
    connection: Option<http1::Connection<TokioIo<Metered<HttpSocket>>, Full<Bytes>>>,
    limits: Limits,
    allowance: Allowance,
}

impl HttpConnection {
    pub(super) async fn open(dialer: impl Dial, tls: &Tls, target: &Target, limits: Limits) -> Result<Self, Error> {
        let socket = dial::dial(dialer, tls, target).await?;
        let allowance = Allowance::none();
        allowance.renew(&limits);
        let io = TokioIo::new(Metered::new(HttpSocket::new(socket), allowance.clone()));
        let opened = dial::client(&limits).handshake(io).await;
        let (sender, connection) = opened.map_err(|error| http_error(error, &limits))?;
        Ok(Self { sender, connection: Some(connection), limits, allowance })
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
            // The connection may read now the bytes that the future waits for, so the future is polled on both sides.
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Sends a request, and returns the response within the limits of a handshake. They apply until
    /// [`accept`](Self::accept).
    pub(super) async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.allowance.renew(&self.limits);
        let response = self.sender.send_request(request);
        let response = self.drive(response).await.map_err(|error| http_error(error, &self.limits))?;
        check_head(&response, &self.limits)?;
        Ok(response)
    }

    /// Ends the handshake: from now on the server may send without end.
    pub(super) fn accept(&self) {
        self.allowance.lift();
    }

    /// Creates the error for a response that rejects the request, with its body and retry delay.
    pub(super) async fn refusal(&mut self, answer: Response<Incoming>) -> Error {
        let (head, body) = answer.into_parts();
        let body = self.drive(read_body(body)).await;
        dial::refusal(head.status, head.headers, body)
    }

    /// Returns whether another request may use the connection. Also detects whether the server has closed it meanwhile.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, connection, .. } = self;
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

/// The body of a response, with the connection that it comes from.
pub(super) struct Body {
    connection: HttpConnection,
    body: Incoming,
}

impl Body {
    pub(super) fn new(connection: HttpConnection, body: Incoming) -> Self {
        Self { connection, body }
    }

    /// Ends the handshake: see [`HttpConnection::accept`].
    pub(super) fn accept(&self) {
        self.connection.accept();
    }

    /// Returns the next bytes that the connection has read.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers say nothing here.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Makes progress on the connection, which may read bytes of the body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.poll(cx);
    }
}

/// A socket that reports outgoing bytes. Incoming bytes are reported once they turn out to be more than comments.
///
/// A server or proxy may answer a POST before it has read the body (413), and close the connection. The rest of the
/// body then cannot be written, and hyper would give up without reading the answer. So a write to a connection that the
/// peer has closed succeeds here: the answer is read, and without an answer, reading fails.
struct HttpSocket {
    socket: Socket,
    is_cut: bool,
}

impl HttpSocket {
    fn new(socket: Socket) -> Self {
        Self { socket, is_cut: false }
    }

    fn socket(&mut self) -> Pin<&mut Socket> {
        Pin::new(&mut self.socket)
    }

    fn written(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => signal::moved(bytes),
            Poll::Ready(Err(error)) if is_cut(&error) => {
                self.is_cut = true;
                return Poll::Ready(Ok(length));
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        written
    }
}

fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for HttpSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, into)
    }
}

impl AsyncWrite for HttpSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = self.socket().poll_write(cx, bytes);
        self.written(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.is_cut {
            return Poll::Ready(Ok(length));
        }
        let written = self.socket().poll_write_vectored(cx, parts);
        self.written(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().poll_flush(cx) {
            Poll::Ready(Err(error)) if is_cut(&error) => {
                self.is_cut = true;
                Poll::Ready(Ok(()))
            }
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
