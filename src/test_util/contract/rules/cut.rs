use std::task::{Context, Poll};

use super::super::bench::Bench;

pub(super) async fn check(mut bench: Bench<'_>) {
    bench.send_one().await;
    bench.drain().await;
    bench.b = None;
    stream(&mut bench).await;
    sink(&mut bench).await;
}

async fn stream(bench: &mut Bench<'_>) {
    const ADVICE: &str = "give at most one error, for which Error::is_closed is true, and then None, each time";
    for asked in 0..3 {
        let item = bench.wait("the peer is gone, but the stream is Pending", ADVICE, Bench::poll_own_item).await;
        match item {
            None => {}
            Some(Err(error)) if asked == 0 && error.is_closed() => {}
            Some(Err(error)) if asked == 0 => {
                bench.fail(format_args!("the peer is gone, and the stream gives another error: {error}"), ADVICE);
            }
            Some(Err(error)) => bench.fail(format_args!("after its end the stream gives an error: {error}"), ADVICE),
            Some(Ok(arrival)) => bench.fail(format_args!("{arrival} arrived from a peer that sent nothing"), ADVICE),
        }
    }
}

/// A sink may notice late: the operating system accepts a few bytes for a peer that is gone.
async fn sink(bench: &mut Bench<'_>) {
    const ADVICE: &str = "when the stream has ended, poll_ready fails with an error for which Error::is_closed is true; \
                          never accept messages for a peer that is gone";
    let mut sent = 0;
    let error = bench
        .wait("the peer is gone, but the sink does not fail", ADVICE, |bench, cx| {
            let before = sent;
            let polled = poll_sending(bench, cx, &mut sent);
            // It accepted one more message, so it may be called again. Otherwise it must wake the task.
            if polled.is_pending() && sent > before {
                cx.waker().wake_by_ref();
            }
            polled
        })
        .await;
    if !error.is_closed() {
        bench.fail(format_args!("the peer is gone, and the sink fails with another error: {error}"), ADVICE);
    }
}

fn poll_sending(bench: &mut Bench<'_>, cx: &mut Context<'_>, sent: &mut usize) -> Poll<crate::Error> {
    if *sent <= bench.room
        && let Poll::Ready(ready) = bench.poll_sink(cx)
    {
        *sent += 1;
        if let Err(error) = ready.and_then(|()| bench.try_send()) {
            return Poll::Ready(error);
        }
    }
    match bench.poll_sink_flush(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(error),
        _ => Poll::Pending,
    }
}
