//! Many connections, 32 B round trips on all of them at once.

use std::{sync::Arc, time::Instant};

use cpu_time::ProcessTime;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::Scenario,
};

/// A number of round trips on each of a number of connections.
#[derive(Clone, Copy)]
pub struct Many {
    pub connections: usize,
    pub trips: usize,
}

impl Scenario for Many {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        let Self { connections, trips } = self;
        on_one_thread(async move {
            let loopback = Loopback::bind().await;
            let warm = Arc::new(Barrier::new(connections + 1));
            let start = Arc::new(Barrier::new(connections + 1));
            let mut clients = JoinSet::new();
            for _ in 0..connections {
                let (client, server) = loopback.connect().await;
                tokio::spawn(async move {
                    let mut server = C::server(server);
                    while server.echo().await {}
                });
                let (warm, start) = (warm.clone(), start.clone());
                clients.spawn(async move {
                    let mut client = C::client(client);
                    let payload = payload(32);
                    client.send(&payload).await;
                    assert_eq!(client.receive().await, Some(32));
                    warm.wait().await;
                    start.wait().await;
                    for _ in 0..trips {
                        client.send(&payload).await;
                        assert_eq!(client.receive().await, Some(32));
                    }
                    client
                });
            }
            warm.wait().await;
            let (wall, cpu) = (Instant::now(), ProcessTime::now());
            start.wait().await;
            // The sockets are handed back, so that closing them is not part of the time.
            let done = clients.join_all().await;
            let sample = Sample::of(wall.elapsed(), cpu.elapsed(), connections * trips);
            drop(done);
            sample
        })
    }
}
