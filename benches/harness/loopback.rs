//! Real sockets, and the runtime that both their ends run on.

use std::future::Future;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

/// Runs `scenario` as a task of a runtime with one thread: the variant whose figures repeat on a busy machine.
///
/// It is spawned, because waking the root future of such a runtime costs a system call more.
pub fn on_one_thread<F>(scenario: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(scenario).await.expect("the scenario ran to its end") })
}

/// A listener on a loopback port of its own.
pub struct Loopback(TcpListener);

impl Loopback {
    pub async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// Both ends of a new connection, without Nagle's delay: the one that connected first.
    pub async fn connect(&self) -> (TcpStream, TcpStream) {
        let address = self.0.local_addr().expect("a bound port");
        let (client, server) = tokio::join!(TcpStream::connect(address), self.0.accept());
        let both = "two file descriptors more (the run needs 1100: `ulimit -n`)";
        let (client, (server, _)) = (client.expect(both), server.expect(both));
        client.set_nodelay(true).expect("an open socket");
        server.set_nodelay(true).expect("an open socket");
        // Thousands of connections a minute must not use up the ports by waiting in TIME_WAIT.
        client.set_zero_linger().expect("an open socket");
        (client, server)
    }
}

/// A payload of `size` bytes.
pub fn payload(size: usize) -> Bytes {
    (0..size).map(|index| index as u8).collect()
}
