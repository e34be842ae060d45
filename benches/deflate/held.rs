//! The memory that a connection holds after it has compressed and inflated messages.

use harness::{
    allocator::live_bytes,
    contestant::Contestant,
    loopback::{Loopback, on_one_thread},
    scenario::Scenario,
};

use crate::feed::texts;

#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) connections: usize,
}

impl Scenario for Held {
    /// Heap bytes of one end, the mean of a client and a server.
    type Measured = f64;

    fn run<C: Contestant>(self) -> f64 {
        let connections = self.connections;
        on_one_thread(async move {
            let (loopback, texts) = (Loopback::bind().await, texts(1 << 10));
            let mut held = Vec::with_capacity(connections + 1);
            // The first connection is not counted: it pays for what a library sets up once.
            let mut before = 0;
            for index in 0..=connections {
                if index == 1 {
                    before = live_bytes();
                }
                let (client, server) = loopback.connect().await;
                let (mut client, mut server) = (C::client(client), C::server(server));
                for text in &texts[..4] {
                    let (received, ()) = tokio::join!(server.receive(), client.send(text));
                    assert_eq!(received, Some(text.len()));
                    let (received, ()) = tokio::join!(client.receive(), server.send(text));
                    assert_eq!(received, Some(text.len()));
                }
                held.push((client, server));
            }
            (live_bytes() as f64 - before as f64) / (2 * connections) as f64
        })
    }
}
