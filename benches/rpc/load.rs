//! The load: as many tasks as the depth, each of which makes one call after another.

use std::{future::Future, time::Instant};

use cpu_time::ProcessTime;
use harness::{
    loopback::on_one_thread,
    rounds::{Row, Sample},
};

pub(crate) type Payload = [u8; 32];
pub(crate) const PAYLOAD: Payload = [7; 32];

/// A handle that makes calls, of which each task has a clone.
pub(crate) trait Calls: Clone + Send + 'static {
    /// Makes one call and checks its answer.
    fn call(&mut self) -> impl Future<Output = ()> + Send;
}

/// Makes all calls of a round.
pub(crate) async fn lanes<C: Calls>(calls: &C, depth: usize, count: usize) {
    let lanes: Vec<_> = (0..depth)
        .map(|_| {
            let mut calls = calls.clone();
            tokio::spawn(async move {
                for _ in 0..count / depth {
                    calls.call().await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

/// The row of a contestant, which is started for each round and warmed up by a tenth of its calls.
pub(crate) fn row<C, F>(name: &'static str, depth: usize, count: usize, start: fn() -> F) -> Row
where
    C: Calls + Sync,
    F: Future<Output = C> + Send + 'static,
{
    Row::new(name, move || {
        on_one_thread(async move {
            let calls = start().await;
            lanes(&calls, depth, (count / 10).max(depth)).await;
            let (cpu, wall) = (ProcessTime::now(), Instant::now());
            lanes(&calls, depth, count).await;
            Sample::of(wall.elapsed(), cpu.elapsed(), count)
        })
    })
}
