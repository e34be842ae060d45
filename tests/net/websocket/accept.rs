//! The accept loop: what does not end a server.

use std::{cell::RefCell, collections::VecDeque, future::ready, io, net::SocketAddr, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};
use tower_transport::{
    TransportExt,
    transport::{accept, websocket::WebSocketService},
};

const EMFILE: i32 = 24;

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A listener that plays a script, and then waits.
struct Listener(RefCell<VecDeque<io::Result<DuplexStream>>>);

impl Listener {
    fn new(script: impl IntoIterator<Item = io::Result<DuplexStream>>) -> Self {
        Self(RefCell::new(script.into_iter().collect()))
    }

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        let next = self.0.borrow_mut().pop_front();
        match next {
            Some(next) => next.map(|stream| (stream, ([192, 0, 2, 1], 443).into())),
            None => std::future::pending().await,
        }
    }
}

fn exhausted() -> io::Error {
    io::Error::from_raw_os_error(EMFILE)
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_file_descriptors_is_tried_again_every_second() {
    let (_near, far) = tokio::io::duplex(1);
    let listener = Listener::new([Err(exhausted()), Err(exhausted()), Err(exhausted()), Ok(far)]);
    let start = Instant::now();
    let (_, address) = accept(|| listener.accept()).await;
    assert_eq!(address.port(), 443);
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_before_it_is_accepted_delays_nobody() {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut};
    let errors = [ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut];
    let (_near, far) = tokio::io::duplex(1);
    let listener = Listener::new(errors.map(|kind| Err(kind.into())).into_iter().chain([Ok(far)]));
    let start = Instant::now();
    accept(|| listener.accept()).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_goes_on_after_its_listener_has_failed() {
    let (mut first, served) = tokio::io::duplex(4096);
    let (mut second, served_later) = tokio::io::duplex(4096);
    let listener = Listener::new([Ok(served), Err(exhausted()), Err(exhausted()), Ok(served_later)]);
    let upgrade =
        WebSocketService::new(
            |mut socket, _parts| async move { while let Some(Ok(_)) = socket.receive_message().await {} },
        );
    let server = async {
        loop {
            let (stream, _) = accept(|| listener.accept()).await;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(upgrade.clone()))
                .with_upgrades();
            tokio::spawn(connection);
        }
    };
    let clients = async {
        for client in [&mut first, &mut second] {
            client.write_all(HANDSHAKE).await.unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
        }
    };
    tokio::select! {
        () = clients => {}
        () = server => {}
    }
}

#[tokio::test]
async fn a_listener_that_works_is_asked_once() {
    let mut asked = 0;
    let accepted = accept(|| {
        asked += 1;
        ready(Ok(7))
    });
    assert_eq!(accepted.await, 7);
    assert_eq!(asked, 1);
}
