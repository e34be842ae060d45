//! One connection, one message at a time, there and back: the median in the place of the time, the 99th percentile in
//! that of the CPU time.

use std::time::Instant;

use crate::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::Scenario,
    statistics::percentile,
};

#[derive(Clone, Copy)]
pub(crate) struct Latency {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) trips: usize,
}

impl Scenario for Latency {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        let Self { size, trips } = self;
        on_one_thread(async move {
            let (client, server) = Loopback::bind().await.connect().await;
            tokio::spawn(async move {
                let mut server = C::server(server);
                while server.echo().await {}
            });
            let mut client = C::client(client);
            let payload = payload(size);
            let mut times = Vec::with_capacity(trips);
            // A tenth more, unmeasured, for the opening and for buffers to grow.
            for trip in 0..trips + trips.div_ceil(10) {
                let start = Instant::now();
                client.send(&payload).await;
                assert_eq!(client.receive().await, Some(size));
                if trip >= trips.div_ceil(10) {
                    times.push(start.elapsed().as_nanos() as f64);
                }
            }
            Sample { wall: percentile(times.clone(), 0.5), cpu: percentile(times, 0.99) }
        })
    }
}
