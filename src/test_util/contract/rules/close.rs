use std::task::{Poll, ready};

use super::super::bench::Bench;

const AGAIN: &str = "the stream gave None, and was Pending when it was polled again";

pub(super) async fn check(mut bench: Bench<'_>) {
    bench.send_some(3).await;
    close(&mut bench).await;
    end(&mut bench, "poll_close was Ready, but the peer's stream does not end").await;
    end(&mut bench, AGAIN).await;
    closed_sink(&mut bench).await;

    bench.turn();
    // The peer's turn: it may already have closed, as the answer to our close.
    let mut closed = false;
    bench
        .wait(
            "the stream of the end that closed first does not end, though the peer closed as well",
            "pass the peer's end on: when the inner stream gives None, give None",
            |bench, cx| {
                closed = closed || bench.poll_close(cx).is_ready();
                while ready!(bench.poll_receive(cx)) {}
                if closed { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    end(&mut bench, AGAIN).await;
    closed_sink(&mut bench).await;
}

async fn close(bench: &mut Bench<'_>) {
    let poll = |bench: &mut Bench<'_>, cx: &mut std::task::Context<'_>| match ready!(bench.poll_close(cx)) {
        Ok(()) => Poll::Ready(()),
        Err(error) => bench.fail(format_args!("poll_close failed: {error}"), "closing an open transport succeeds"),
    };
    if bench.alone(poll).await.is_some() {
        return;
    }
    // Room may be wanted, or the peer's answer.
    let mut ended = false;
    bench
        .wait(
            "poll_close stays Pending, though the peer reads and closes",
            "poll_close must pass buffered messages on and then return the result of the inner poll_close",
            |bench, cx| {
                while !ended && let Poll::Ready(more) = bench.poll_receive(cx) {
                    ended = !more;
                }
                if ended {
                    let _ = bench.poll_peer_close(cx);
                }
                poll(bench, cx)
            },
        )
        .await;
}

/// The peer gets the rest and the end, without another poll of `a`.
async fn end(bench: &mut Bench<'_>, found: &str) {
    bench
        .wait(found, "pass poll_close on to the inner transport, and remember the end of the stream", |bench, cx| {
            while ready!(bench.poll_receive(cx)) {}
            Poll::Ready(())
        })
        .await;
    if !bench.all_arrived() {
        bench.fail(
            "the peer's stream ended before all that had been accepted",
            "poll_close first passes on what start_send took, then closes",
        );
    }
}

async fn closed_sink(bench: &mut Bench<'_>) {
    const ADVICE: &str = "after poll_close, poll_ready fails with an error for which Error::is_closed is true";
    let ready = bench.wait("poll_ready of a closed sink stays Pending", ADVICE, Bench::poll_sink).await;
    match ready {
        Err(error) if error.is_closed() => {}
        Err(error) => bench.fail(format_args!("poll_ready of a closed sink fails with another error: {error}"), ADVICE),
        Ok(()) => bench.fail("poll_ready of a closed sink is Ready", ADVICE),
    }
}
