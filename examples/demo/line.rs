//! TCP connections that are counted, bounded in number, and can be cut without a close, as a bad network does.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use atomic_waker::AtomicWaker;
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// The most connections at a time. Further ones wait in the queue of the operating system.
const CONNECTIONS: usize = 512;

/// The listener for [`axum::serve`].
pub(crate) struct Lines {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Lines {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Lines {
    type Io = Line;
    type Addr = Peer;

    async fn accept(&mut self) -> (Line, Peer) {
        let place = self.places.clone().acquire_owned().await.ok();
        // Goes on after an error, such as too many open files.
        let (tcp, _) = tower_transport::transport::accept(|| self.listener.accept()).await;
        let _ = tcp.set_nodelay(true);
        let peer = Peer::default();
        (Line { tcp, peer: peer.clone(), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::default())
    }
}

/// A handle to a connection, which requests carry in their extensions. Clones are handles to the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    reader: AtomicWaker,
    written: AtomicU64,
}

impl Peer {
    /// Ends the connection: nothing more is read or written, and no layer says goodbye.
    pub(crate) fn cut(&self) {
        self.0.is_cut.store(true, Relaxed);
        self.0.reader.wake();
    }

    /// Returns the number of bytes sent to the page.
    pub(crate) fn written(&self) -> u64 {
        self.0.written.load(Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.0.is_cut.load(Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Connected<IncomingStream<'_, Lines>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A TCP stream of [`Lines`].
pub(crate) struct Line {
    tcp: TcpStream,
    peer: Peer,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Registered before the check, so that no cut is missed in between.
        self.peer.0.reader.register(cx.waker());
        self.peer.check()?;
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.peer.check()?;
        let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.peer.0.written.fetch_add(count as u64, Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
