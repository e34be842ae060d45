use std::{
    any::Any,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "websocket")]
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
#[cfg(feature = "websocket")]
use hyper_util::server::conn::auto;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The number of bytes that the operating system takes of a TCP stream beyond what is on its way.
///
/// Without a bound Linux takes megabytes at once. To the layers above, a long message then is not moving while the line
/// carries it, and neither the heartbeat nor a close can tell a slow line from a dead peer. Below the bound, bytes
/// leave this process as the line takes them. 128 KiB cost no throughput on a loopback device, and are a second of
/// 1 Mbit/s.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// The byte stream below a WebSocket that this crate has connected or accepted: TCP, TLS, a Unix socket, the stream of
/// a [dialer](super::Dial), or any stream below a server's HTTP. The common ones are called without indirection.
///
/// The TCP stream of a WebSocket is set to send small messages at once (`TCP_NODELAY`): otherwise one that follows
/// another waits for the peer's delayed acknowledgement, 40 ms and more. On Linux and Android, it also takes at
/// most 128 KiB that it cannot send yet (`TCP_NOTSENT_LOWAT`), so that the
/// [bytes that move](crate::transport::signal::moved) are those that the line takes.
/// A stream that this crate does not know keeps its options: set these yourself, or a slow reader may look like a dead
/// peer.
///
/// A stream of an HTTP/2 connection is such a stream, too. hyper takes what is written to it in pieces of 16 KiB and
/// holds at most four of them beyond its own `max_send_buf_size`, once the peer's window is full.
pub struct Socket(Kind);

enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Box<Socket>>>),
    #[cfg(feature = "tls")]
    #[cfg_attr(not(feature = "websocket"), allow(dead_code, reason = "only a server's WebSocket is one"))]
    AcceptedTls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    #[cfg_attr(not(feature = "websocket"), allow(dead_code, reason = "only a server's WebSocket is one"))]
    Upgraded(TokioIo<Upgraded>),
    #[cfg(feature = "websocket")]
    Http2(Http2Stream),
    /// The stream of a dialer that is not ours.
    Other(Box<dyn ByteStream>),
}

trait ByteStream: AsyncRead + AsyncWrite + Any + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Any + Send + Unpin> ByteStream for T {}

impl Socket {
    /// Returns the TCP stream, if the socket is one, for its addresses and options.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(tcp) => Some(tcp),
            #[cfg(feature = "tls")]
            Kind::Tls(tls) => tls.get_ref().0.tcp(),
            #[cfg(feature = "tls")]
            Kind::AcceptedTls(tls) => Some(tls.get_ref().0),
            _ => None,
        }
    }

    /// Returns the byte stream as the type that your [dialer](super::Dial) returned, if it is one. Below TLS, it
    /// returns the stream that carries the TLS connection.
    #[must_use]
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        let stream: &dyn Any = match &self.0 {
            Kind::Tcp(tcp) => tcp,
            #[cfg(unix)]
            Kind::Unix(unix) => unix,
            #[cfg(feature = "tls")]
            Kind::Tls(tls) => return tls.get_ref().0.downcast_ref(),
            #[cfg(feature = "tls")]
            Kind::AcceptedTls(tls) => tls.get_ref().0,
            Kind::Upgraded(_) => return None,
            #[cfg(feature = "websocket")]
            Kind::Http2(_) => return None,
            Kind::Other(other) => &**other,
        };
        stream.downcast_ref()
    }

    /// Wraps the stream of a dialer. The known ones are not boxed. Always returns `Some`.
    pub(super) fn from_stream<T: AsyncRead + AsyncWrite + Any + Send + Unpin>(stream: T) -> Option<Self> {
        fn take<T: Any>(stream: &mut dyn Any) -> Option<T> {
            stream.downcast_mut::<Option<T>>()?.take()
        }

        let mut stream = Some(stream);
        // A socket of this crate that a dialer passes on is not boxed again.
        if let Some(socket) = take(&mut stream) {
            return Some(socket);
        }
        if let Some(tcp) = take(&mut stream) {
            return Some(Self::dialled(tcp));
        }
        #[cfg(unix)]
        if let Some(unix) = take(&mut stream) {
            return Some(Self(Kind::Unix(unix)));
        }
        stream.map(|stream| Self(Kind::Other(Box::new(stream))))
    }

    /// Creates the socket of a connection that begins with HTTP. Its options stay as they are: a server that refuses a
    /// long request may close while the request is still being written, and the answer is lost with what is unwritten.
    pub(super) fn dialled(tcp: TcpStream) -> Self {
        Self(Kind::Tcp(tcp))
    }

    /// Sets the options of a stream of messages. Call it once they follow.
    #[cfg(feature = "websocket")]
    pub(crate) fn set_options(&self) {
        if let Some(tcp) = self.tcp() {
            set_options(tcp);
        }
    }

    /// Takes the stream out of hyper's box if it is a known one, together with the bytes that hyper has read past the
    /// request.
    #[cfg(feature = "websocket")]
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> (Self, Bytes) {
        let upgraded = match downcast::<TcpStream>(upgraded) {
            Ok((tcp, early)) => return (tcp.into(), early),
            Err(upgraded) => upgraded,
        };
        #[cfg(unix)]
        let upgraded = match downcast::<tokio::net::UnixStream>(upgraded) {
            Ok((unix, early)) => return (unix.into(), early),
            Err(upgraded) => upgraded,
        };
        #[cfg(feature = "tls")]
        let upgraded = match downcast::<tokio_rustls::server::TlsStream<TcpStream>>(upgraded) {
            Ok((tls, early)) => {
                set_options(tls.get_ref().0);
                return (Self(Kind::AcceptedTls(Box::new(tls))), early);
            }
            Err(upgraded) => upgraded,
        };
        (Self(Kind::Upgraded(TokioIo::new(upgraded))), Bytes::new())
    }

    /// Wraps a stream of an HTTP/2 connection. `lease` is dropped with it.
    #[cfg(feature = "websocket")]
    pub(crate) fn over_http2(upgraded: Upgraded, lease: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self(Kind::Http2(Http2Stream { io: TokioIo::new(upgraded), _lease: lease }))
    }

    /// Returns whether the server has chosen HTTP/2 in TLS.
    #[cfg(feature = "http2")]
    pub(crate) fn speaks_http2(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "tls")]
            Kind::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(super::dialer::HTTP_2),
            _ => false,
        }
    }
}

/// Opens hyper's box. The connections of hyper-util's `auto` server, which axum uses, have a box of their own inside.
#[cfg(feature = "websocket")]
fn downcast<T: AsyncRead + AsyncWrite + Unpin + 'static>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded> {
    match upgraded.downcast::<TokioIo<T>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            auto::upgrade::downcast::<TokioIo<T>>(upgraded).map(|parts| (parts.io.into_inner(), parts.read_buf))
        }
    }
}

fn set_options(tcp: &TcpStream) {
    // A system without an option works as before, and a connection that is over reports that itself.
    let _ = tcp.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT);
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        set_options(&tcp);
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
impl Socket {
    pub(super) fn over_tls(tls: tokio_rustls::client::TlsStream<Box<Self>>) -> Self {
        Self(Kind::Tls(Box::new(tls)))
    }
}

/// A stream of an HTTP/2 connection that carries a WebSocket.
#[cfg(feature = "websocket")]
struct Http2Stream {
    io: TokioIo<Upgraded>,
    _lease: Option<Box<dyn Any + Send + Sync>>,
}

/// The maximum size of one write to an HTTP/2 stream. hyper takes a write of any size and bounds their number, so the
/// bound in bytes is the size of a write.
#[cfg(feature = "websocket")]
const PIECE: usize = 16 * 1024;

/// Converts the error of an HTTP/2 stream. A peer that ends the stream before this end has (RFC 8441, section 5.1, and
/// a server that drops it after the close frames) is a peer that has closed the connection. hyper gives these errors no
/// kind of their own.
#[cfg(feature = "websocket")]
fn reset(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Other => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ => error,
    }
}

#[cfg(feature = "websocket")]
impl AsyncRead for Http2Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf).map_err(reset)
    }
}

#[cfg(feature = "websocket")]
impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, &buf[..buf.len().min(PIECE)]).map_err(reset)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx).map_err(reset)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx).map_err(reset)
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
            #[cfg(feature = "tls")]
            Kind::AcceptedTls(io) => {
                let $io = Pin::new(io);
                $call
            }
            Kind::Upgraded(io) => {
                let $io = Pin::new(io);
                $call
            }
            #[cfg(feature = "websocket")]
            Kind::Http2(io) => {
                let $io = Pin::new(io);
                $call
            }
            Kind::Other(io) => {
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
            #[cfg(feature = "tls")]
            Kind::AcceptedTls(io) => io.is_write_vectored(),
            Kind::Upgraded(io) => io.is_write_vectored(),
            #[cfg(feature = "websocket")]
            Kind::Http2(io) => io.is_write_vectored(),
            Kind::Other(io) => io.is_write_vectored(),
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
            Kind::Tls(_) | Kind::AcceptedTls(_) => "Socket(tls)",
            Kind::Upgraded(_) => "Socket(upgraded)",
            #[cfg(feature = "websocket")]
            Kind::Http2(_) => "Socket(http2)",
            Kind::Other(_) => "Socket(other)",
        })
    }
}
