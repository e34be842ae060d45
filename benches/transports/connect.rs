//! From nothing to both ends of a connection, one after the other: the median, and the 99th percentile.

use std::time::Instant;

use crate::{contestant::Network, loopback::on_one_thread, rounds::Sample, statistics::percentile};

pub(crate) fn connect<N: Network>(connects: usize) -> Sample {
    on_one_thread(async move {
        let (address, mut ends) = N::listen().await;
        let client = N::client(&address);
        let mut times = Vec::with_capacity(connects);
        for connect in 0..=connects {
            let start = Instant::now();
            let near = N::connect(&client, &address).await;
            let far = ends.recv().await.expect("a server");
            let time = start.elapsed();
            // The first pays for what is set up once.
            if connect > 0 {
                times.push(time.as_nanos() as f64);
            }
            drop((near, far));
            // The ends of the old connection are no part of the next.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        Sample { wall: percentile(times.clone(), 0.5), cpu: percentile(times, 0.99) }
    })
}
