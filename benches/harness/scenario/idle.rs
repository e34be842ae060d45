//! The memory of a connection on which nothing happens: heap bytes of the server's end, its task included.

use std::future::Future;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    allocator::live_bytes,
    contestant::Contestant,
    loopback::{Loopback, on_one_thread},
    scenario::Scenario,
};

/// Heap bytes per connection.
#[derive(Clone, Copy)]
pub struct Idle {
    /// Connected, and waiting for a first message.
    pub connected: f64,
    /// Waiting for another after one echo of 32 B.
    pub echoed: f64,
}

impl Idle {
    pub fn over(self, base: Self) -> Self {
        Self { connected: self.connected - base.connected, echoed: self.echoed - base.echoed }
    }
}

/// A task that holds a socket and waits: what every library stands on.
pub fn bare_sockets(connections: usize) -> Idle {
    measure(connections, |mut io| async move {
        let mut frame = [0; REQUEST.len()];
        // The frame stands on the stack while it is served, and nothing is kept between two.
        while io.readable().await.is_ok() && io.read_exact(&mut frame).await.is_ok() {
            io.write_all(&ANSWER).await.expect("the peer is there");
        }
    })
}

/// So many connections of a contestant.
#[derive(Clone, Copy)]
pub struct Connections(pub usize);

impl Scenario for Connections {
    type Measured = Idle;

    fn run<C: Contestant>(self) -> Idle {
        measure(self.0, |io| async move {
            let mut server = C::server(io);
            while server.echo().await {}
        })
    }
}

/// A masked binary frame of 32 bytes from a client, and its echo by a server: the peers are bare sockets, because only
/// the server's end is counted.
const REQUEST: [u8; 38] = frame(0x80);
const ANSWER: [u8; 34] = frame(0);

const fn frame<const N: usize>(mask: u8) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[0] = 0x82;
    bytes[1] = mask | 32;
    bytes
}

fn measure<F>(connections: usize, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Idle
where
    F: Future<Output = ()> + Send + 'static,
{
    on_one_thread(async move {
        let loopback = Loopback::bind().await;
        let mut peers = Vec::with_capacity(connections + 1);
        let mut servers = Vec::with_capacity(connections + 1);
        // The first connection is not counted: it pays for what a library sets up once.
        let mut before = 0;
        for index in 0..=connections {
            if index == 1 {
                before = live_bytes();
            }
            let (client, server) = loopback.connect().await;
            servers.push(tokio::spawn(serve(server)));
            peers.push(client);
            // Lets the server's task come to its wait.
            tokio::task::yield_now().await;
            echo(&mut peers[..usize::from(index == 0)]).await;
        }
        let each = |after: usize| (after as f64 - before as f64) / connections as f64;
        let connected = each(live_bytes());
        echo(&mut peers).await;
        let echoed = each(live_bytes());
        drop(peers);
        for server in servers {
            server.await.expect("a server ends with its connection");
        }
        Idle { connected, echoed }
    })
}

async fn echo(peers: &mut [TcpStream]) {
    let mut answer = [0; ANSWER.len()];
    for peer in peers {
        peer.write_all(&REQUEST).await.expect("the server is there");
        peer.read_exact(&mut answer).await.expect("the server answers");
        assert_eq!(answer, ANSWER);
        // Lets the server's task come to its next wait.
        tokio::task::yield_now().await;
    }
}
