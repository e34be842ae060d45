//! The memory of a connection on which nothing happens, after one message there and back. Both ends are of the stack, for the
//! opening takes two that know each other; what is told is the half of both.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    allocator::live_bytes,
    contestant::Contestant,
    loopback::{Loopback, payload},
};

pub(crate) fn of<C: Contestant>(connections: usize) -> f64 {
    measure(connections, async |client, server| {
        let server = tokio::spawn(async move {
            let mut server = C::server(server);
            while server.echo().await {}
        });
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let client = tokio::spawn(async move {
            let mut client = C::client(client);
            client.send(&payload(32)).await;
            assert_eq!(client.receive().await, Some(32));
            let _ = ready.send(());
            while client.receive().await.is_some() {}
        });
        is_ready.await.expect("an echo");
        [server, client]
    })
}

/// Tasks that hold a socket and wait: what every library stands on.
pub(crate) fn bare(connections: usize) -> f64 {
    measure(connections, async |mut client, mut server| {
        let wait = async |socket: &mut tokio::net::TcpStream| {
            let mut byte = [0];
            while socket.readable().await.is_ok() && socket.read_exact(&mut byte).await.is_ok() {
                socket.write_all(&byte).await.expect("the peer is there");
            }
        };
        [tokio::spawn(async move { wait(&mut server).await }), tokio::spawn(async move { wait(&mut client).await })]
    })
}

fn measure(
    connections: usize,
    open: impl AsyncFn(tokio::net::TcpStream, tokio::net::TcpStream) -> [tokio::task::JoinHandle<()>; 2] + 'static,
) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let loopback = Loopback::bind().await;
        let mut tasks = Vec::with_capacity(connections + 1);
        // The first connection is not counted: it pays for what a library sets up once.
        let mut before = 0;
        for index in 0..=connections {
            if index == 1 {
                before = live_bytes();
            }
            let (client, server) = loopback.connect().await;
            tasks.push(open(client, server).await);
        }
        // Lets every task come to its wait.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let each = (live_bytes() as f64 - before as f64) / connections as f64;
        tasks.into_iter().flatten().for_each(|task| task.abort());
        each / 2.0
    })
}
