//! One connection, one message at a time, there and back.

use std::time::Instant;

use cpu_time::ProcessTime;

use crate::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::Scenario,
    statistics::median,
};

/// The median of this number of round trips.
#[derive(Clone, Copy)]
pub struct PingPong {
    /// Bytes of payload.
    pub size: usize,
    pub trips: usize,
}

impl Scenario for PingPong {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        self.between::<C, C>()
    }
}

impl PingPong {
    /// Two ends that need not be of one kind.
    pub fn between<C: Contestant, S: Contestant>(self) -> Sample {
        let Self { size, trips } = self;
        on_one_thread(async move {
            let (client, server) = Loopback::bind().await.connect().await;
            tokio::spawn(async move {
                let mut server = S::server(server);
                while server.echo().await {}
            });
            let mut client = C::client(client);
            let payload = payload(size);
            let mut times = Vec::with_capacity(trips);
            // A tenth more, unmeasured, for buffers and the congestion window to grow.
            for _ in 0..trips.div_ceil(10) {
                client.send(&payload).await;
                assert_eq!(client.receive().await, Some(size));
            }
            let cpu = ProcessTime::now();
            for _ in 0..trips {
                let start = Instant::now();
                client.send(&payload).await;
                assert_eq!(client.receive().await, Some(size));
                times.push(start.elapsed().as_nanos() as f64);
            }
            let cpu = cpu.elapsed();
            Sample { wall: median(times), cpu: cpu.as_nanos() as f64 / trips as f64 }
        })
    }
}
