//! The memory of a connection on which nothing happens, after one message there and back: heap bytes of each end, its
//! task included. The clients are in a process of their own, for the opening takes two ends that know each other, and
//! each is counted alone.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{allocator::live_bytes, contestant::Contestant, loopback::payload};

/// How the other process is told that it is one: this word, the contestant, the port and the number of connections.
pub(crate) const CLIENTS: &str = "--clients";

/// Heap bytes per connection.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) server: f64,
    pub(crate) client: f64,
}

impl Idle {
    pub(crate) fn over(self, base: Self) -> Self {
        Self { server: self.server - base.server, client: self.client - base.client }
    }
}

/// One end of a connection, on a task of its own.
pub(crate) trait End {
    fn serve(io: TcpStream) -> impl Future<Output = ()> + Send + 'static;

    /// Sends a message and waits for it to come back, then says so and waits on.
    fn ask(io: TcpStream, done: tokio::sync::oneshot::Sender<()>) -> impl Future<Output = ()> + Send + 'static;
}

impl<C: Contestant> End for C {
    async fn serve(io: TcpStream) {
        let mut server = C::server(io);
        while server.echo().await {}
    }

    async fn ask(io: TcpStream, done: tokio::sync::oneshot::Sender<()>) {
        let mut client = C::client(io);
        client.send(&payload(32)).await;
        assert_eq!(client.receive().await, Some(32));
        let _ = done.send(());
        while client.receive().await.is_some() {}
    }
}

/// A task that holds a socket and waits: what every library stands on.
pub(crate) struct Bare;

impl End for Bare {
    async fn serve(mut io: TcpStream) {
        let mut byte = [0];
        while io.readable().await.is_ok() && io.read_exact(&mut byte).await.is_ok() {
            io.write_all(&byte).await.expect("the peer is there");
        }
    }

    async fn ask(mut io: TcpStream, done: tokio::sync::oneshot::Sender<()>) {
        io.write_all(&[7]).await.expect("the peer is there");
        assert_eq!(io.read_u8().await.expect("the peer answers"), 7);
        let _ = done.send(());
        let _ = io.read_u8().await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Opens connections, and counts what each takes. The first pays for what a library sets up once, and is not counted.
async fn open(connections: usize, mut each: impl AsyncFnMut()) -> f64 {
    each().await;
    let before = live_bytes();
    for _ in 0..connections {
        each().await;
    }
    // Lets every task come to its wait.
    tokio::time::sleep(Duration::from_millis(200)).await;
    (live_bytes() as f64 - before as f64) / connections as f64
}

pub(crate) fn measure<E: End>(name: &str, connections: usize) -> Idle {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let mut clients = Command::new(std::env::current_exe().expect("this program"))
            .args([CLIENTS, name, &port.to_string(), &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs twice");
        let mut line = BufReader::new(clients.stdout.take().expect("a pipe"));
        let server = open(connections, async || {
            let (server, _) = listener.accept().await.expect("a client");
            server.set_nodelay(true).expect("an open socket");
            tokio::spawn(E::serve(server));
        })
        .await;
        let mut client = String::new();
        line.read_line(&mut client).expect("a figure");
        drop(clients.stdin.take());
        clients.wait().expect("the clients end");
        Idle { server, client: client.trim().parse().expect("a figure") }
    })
}

/// The other process: connects, reports the memory of each connection, and holds them until its input ends.
pub(crate) fn clients<E: End>(port: u16, connections: usize) {
    let bytes = runtime().block_on(open(connections, async || {
        let client = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        client.set_nodelay(true).expect("an open socket");
        client.set_zero_linger().expect("an open socket");
        let (done, is_done) = tokio::sync::oneshot::channel();
        tokio::spawn(E::ask(client, done));
        is_done.await.expect("an echo");
    }));
    println!("{bytes}");
    let _ = std::io::stdin().read(&mut [0]);
}
