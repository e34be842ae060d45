use std::task::Poll;

use super::super::bench::Bench;

pub(super) async fn check(mut bench: Bench<'_>) {
    // Once with one message and once with a few: a batching layer may treat the first as special.
    for most in [1, 3] {
        bench.send_some(most).await;
        if bench.alone(Bench::poll_flush).await.is_none() {
            bench
                .wait(
                    "poll_flush stays Pending, though the peer reads",
                    "poll_flush must pass buffered messages on and then return the result of the inner poll_flush",
                    |bench, cx| {
                        bench.receive_ready(cx);
                        bench.poll_flush(cx)
                    },
                )
                .await;
        }
        // From here on `a` is not polled.
        bench
            .wait(
                "poll_flush was Ready, but what had been accepted does not arrive",
                "return Ready from poll_flush only after all that was accepted was given on and the inner poll_flush was Ready",
                |bench, cx| {
                    bench.receive_ready(cx);
                    if bench.all_arrived() { Poll::Ready(()) } else { Poll::Pending }
                },
            )
            .await;
    }
}
