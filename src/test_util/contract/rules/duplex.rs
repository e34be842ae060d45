use std::task::Poll;

use super::super::bench::Bench;

pub(super) async fn check(mut bench: Bench<'_>) {
    bench.fill().await;
    bench.turn();
    // The end whose outgoing direction is full now receives; its sink is not polled.
    for _ in 0..16 {
        bench
            .wait(
                "the incoming direction stands still while the outgoing one is full (nobody reads it)",
                "poll_next must not wait for the sink: no shared lock across a Pending, no flush before a read",
                |bench, cx| {
                    bench.receive_ready(cx);
                    bench.poll_ready(cx)
                },
            )
            .await;
        bench.send();
        bench
            .wait(
                "a message does not come in while the outgoing direction is full (nobody reads it)",
                "poll_next must not wait for the sink: no shared lock across a Pending, no flush before a read",
                |bench, cx| {
                    let flushed = bench.push(cx);
                    bench.receive_ready(cx);
                    if bench.all_arrived() { flushed } else { Poll::Pending }
                },
            )
            .await;
    }
    bench.turn();
    bench.drain().await;
}
