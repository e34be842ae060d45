//! One message at a time, there and back: the median, and the 99th percentile.

use std::time::Instant;

use crate::{
    contestant::{Contestant, End},
    loopback::{on_one_thread, payload},
    rounds::Sample,
    statistics::percentile,
};

#[derive(Clone, Copy)]
pub(crate) struct RoundTrip {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) trips: usize,
}

impl RoundTrip {
    pub(crate) fn run<C: Contestant>(self) -> Sample {
        let Self { size, trips } = self;
        on_one_thread(async move {
            let (mut near, mut far) = C::pair().await;
            let payload = payload(size);
            let back = payload.clone();
            tokio::spawn(async move {
                while far.receive().await.is_some() {
                    far.send(&back).await;
                    far.flush().await;
                }
            });
            let mut times = Vec::with_capacity(trips);
            // A tenth more, unmeasured, for buffers and the congestion window to grow.
            let unmeasured = trips.div_ceil(10);
            for trip in 0..trips + unmeasured {
                let start = Instant::now();
                near.send(&payload).await;
                near.flush().await;
                assert_eq!(near.receive().await, Some(size));
                if trip >= unmeasured {
                    times.push(start.elapsed().as_nanos() as f64);
                }
            }
            Sample { wall: percentile(times.clone(), 0.5), cpu: percentile(times, 0.99) }
        })
    }
}
