use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The byte stream below a WebSocket that this crate has connected or accepted: TCP, TLS, a Unix socket, or any stream
/// below a server's HTTP. The common ones are called without indirection.
pub struct Socket(Kind);

enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Box<Socket>>>),
    Upgraded(TokioIo<Upgraded>),
}

impl Socket {
    /// Returns the TCP stream, if the socket is one, for its addresses and options.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(tcp) => Some(tcp),
            #[cfg(feature = "tls")]
            Kind::Tls(tls) => tls.get_ref().0.tcp(),
            _ => None,
        }
    }

    /// Takes the stream out of hyper's box if it is a TCP stream, together with the bytes that hyper has read past the
    /// request.
    #[cfg(feature = "websocket")]
    pub(in crate::transport) fn from_upgraded(upgraded: Upgraded) -> (Self, bytes::Bytes) {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => (Self(Kind::Tcp(parts.io.into_inner())), parts.read_buf),
            Err(upgraded) => (Self(Kind::Upgraded(TokioIo::new(upgraded))), bytes::Bytes::new()),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self(Kind::Tcp(tcp))
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixStream> for Socket {
    fn from(unix: tokio::net::UnixStream) -> Self {
        Self(Kind::Unix(unix))
    }
}

#[cfg(feature = "tls")]
impl From<tokio_rustls::client::TlsStream<Box<Self>>> for Socket {
    fn from(tls: tokio_rustls::client::TlsStream<Box<Self>>) -> Self {
        Self(Kind::Tls(Box::new(tls)))
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().0 {
            Kind::Tcp(io) => {
                let $io = Pin::new(io);
                $call
            }
            #[cfg(unix)]
            Kind::Unix(io) => {
                let $io = Pin::new(io);
                $call
            }
            #[cfg(feature = "tls")]
            Kind::Tls(io) => {
                let $io = Pin::new(io);
                $call
            }
            Kind::Upgraded(io) => {
                let $io = Pin::new(io);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Tcp(io) => io.is_write_vectored(),
            #[cfg(unix)]
            Kind::Unix(io) => io.is_write_vectored(),
            #[cfg(feature = "tls")]
            Kind::Tls(io) => io.is_write_vectored(),
            Kind::Upgraded(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Tcp(_) => "Socket(tcp)",
            #[cfg(unix)]
            Kind::Unix(_) => "Socket(unix)",
            #[cfg(feature = "tls")]
            Kind::Tls(_) => "Socket(tls)",
            Kind::Upgraded(_) => "Socket(upgraded)",
        })
    }
}
