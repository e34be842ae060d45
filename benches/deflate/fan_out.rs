//! One message to many connections: compressed for each of them, or once. Nothing is written to a socket, so that the
//! time is that of this crate.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use cpu_time::ProcessTime;
use futures_util::SinkExt;
use harness::{loopback::on_one_thread, rounds::Sample};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tower_transport::{
    Message,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketAcceptor, WebSocketConnector},
};

use crate::{contestants::settings, feed::texts};

#[derive(Clone, Copy)]
pub(crate) struct FanOut {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) messages: usize,
    pub(crate) receivers: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Sending {
    Compressed,
    Prepared,
    Plain,
}

/// A stream that drops what is written, once the handshake is over.
struct Muted {
    io: DuplexStream,
    is_muted: Arc<AtomicBool>,
}

impl AsyncRead for Muted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl AsyncWrite for Muted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.is_muted.load(Relaxed) {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A server's end, and its client.
async fn connect(deflate: PerMessageDeflate) -> (WebSocket<Muted>, WebSocket<DuplexStream>) {
    let (client, io) = duplex(4096);
    let is_muted = Arc::new(AtomicBool::new(false));
    let acceptor = WebSocketAcceptor::new().per_message_deflate(deflate.clone());
    let request = http::Request::get("ws://localhost/").body(()).expect("a request");
    let connector = WebSocketConnector::new().per_message_deflate(deflate);
    let (accepted, connected) =
        tokio::join!(acceptor.accept(Muted { io, is_muted: is_muted.clone() }), connector.handshake(client, request));
    is_muted.store(true, Relaxed);
    (accepted.expect("a handshake").1, connected.expect("a handshake").into_body())
}

impl FanOut {
    pub(crate) fn run(self, sending: Sending) -> Sample {
        let Self { size, messages, receivers } = self;
        on_one_thread(async move {
            let deflate = match sending {
                Sending::Plain => settings(false).compress_if(|_| false),
                Sending::Compressed | Sending::Prepared => settings(false),
            };
            let mut sockets = Vec::with_capacity(receivers);
            for _ in 0..receivers {
                sockets.push(connect(deflate.clone()).await);
            }
            let texts = texts(size);
            let unmeasured = messages.div_ceil(10);
            let mut begun = (Instant::now(), ProcessTime::now());
            for turn in 0..unmeasured + messages {
                if turn == unmeasured {
                    begun = (Instant::now(), ProcessTime::now());
                }
                let message = Message::binary(texts[turn % texts.len()].clone());
                let message = match sending {
                    Sending::Prepared => message.into_prepared(),
                    Sending::Compressed | Sending::Plain => message,
                };
                for (socket, _) in &mut sockets {
                    socket.send(message.clone()).await.expect("it takes everything");
                }
            }
            Sample::of(begun.0.elapsed(), begun.1.elapsed(), messages * receivers)
        })
    }
}
