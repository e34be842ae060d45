use super::super::bench::Bench;

pub(super) async fn check(mut bench: Bench<'_>) {
    match bench.fill().await {
        Some(0) => bench.fail("poll_ready was Pending before the first message", "have room for at least one message"),
        Some(_) => {}
        None => bench.fail(
            format_args!("more than {} messages were accepted although the peer does not read", bench.room),
            "bound every buffer and return Pending from poll_ready when it is full; if the layer below has more room \
             (a socket's buffers), set Contract::room, or send larger messages",
        ),
    }
    bench
        .wait(
            "poll_ready stays Pending, though the peer read",
            "poll_ready itself must make room: pass buffered messages on, poll the inner poll_ready",
            |bench, cx| {
                bench.receive_ready(cx);
                bench.poll_ready(cx)
            },
        )
        .await;
    bench.send();
    bench.drain().await;
}
