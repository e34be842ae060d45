use super::super::bench::Bench;

pub(super) async fn check(mut bench: Bench<'_>) {
    match bench.fill().await {
        Some(0) => bench.fail(
            "poll_ready was Pending before the first message",
            "have room for at least one message",
        ),
        Some(_) => {}
        None => bench.fail(
            format_args!("more than {} messages were accepted with nobody reading them", bench.room),
            "bound every buffer and return Pending from poll_ready when it is full; if the room below is larger by nature \
             (a socket's buffers), tell Contract::room, or send larger messages",
        ),
    }
    bench
        .wait(
            "poll_ready stays Pending, though the peer read",
            "poll_ready must itself do what makes room: pass on what is buffered, poll the inner poll_ready",
            |bench, cx| {
                bench.receive_ready(cx);
                bench.poll_ready(cx)
            },
        )
        .await;
    bench.send();
    bench.drain().await;
}
