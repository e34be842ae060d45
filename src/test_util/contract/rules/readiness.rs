use super::super::{bench::Bench, wait::give_way};

pub(super) async fn check(mut bench: Bench<'_>) {
    for _ in 0..8 {
        bench.ready_to_send().await;
        for _ in 0..3 {
            // Yields first, so that a `Pending` is not tokio's for a task that was busy for long.
            give_way().await;
            if bench.once(Bench::poll_ready).await.is_pending() {
                bench.fail(
                    "poll_ready was Ready, and then Pending, though nothing was sent in between",
                    "keep the place that was given (a permit, a token) until start_send uses it",
                );
            }
        }
        bench.send();
        // A place that is granted while messages wait to be flushed must not be used by the flush.
        if bench.once(Bench::poll_ready).await.is_ready() {
            let _ = bench.once(Bench::poll_flush).await;
            give_way().await;
            if bench.once(Bench::poll_ready).await.is_pending() {
                bench.fail(
                    "poll_ready was Ready, and Pending after a poll_flush, though nothing was sent in between",
                    "keep the place that was given until start_send uses it: what is flushed can wait for the next",
                );
            }
            bench.send();
        }
        bench.drain().await;
    }
}
