use std::task::Poll;

use super::super::bench::Bench;

/// More than any small window, so that a fault which requires many messages is detected.
const MESSAGES: usize = 256;

pub(super) async fn check(mut bench: Bench<'_>) {
    let mut sent = 0;
    bench
        .wait(
            "the sending stopped, though the peer reads",
            "poll_ready and poll_flush must pass messages on whenever the inner transport has room",
            |bench, cx| {
                while sent < MESSAGES && bench.poll_ready(cx).is_ready() {
                    bench.send();
                    sent += 1;
                    bench.receive_ready(cx);
                }
                bench.receive_ready(cx);
                if sent == MESSAGES { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    bench.drain().await;
    bench.quiet().await;
}
