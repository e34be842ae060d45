//! The checks. Each gets a fresh pair, and runs once per direction.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use super::{
    bench::Bench,
    check::Check,
    wait::{WakeFlag, give_way},
};
use crate::TransportExt;

pub(super) async fn run(check: Check, bench: Bench<'_>) {
    match check {
        Check::Readiness => readiness(bench).await,
        Check::BackPressure => back_pressure(bench).await,
        Check::Order => order(bench).await,
        Check::Flush => flush(bench).await,
        Check::Cancellation => cancellation(bench).await,
        Check::Close => close(bench).await,
        Check::Cut => cut(bench).await,
        Check::WakeUps => wake_ups(bench).await,
        Check::Duplex => duplex(bench).await,
    }
}

async fn readiness(mut bench: Bench<'_>) {
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

async fn back_pressure(mut bench: Bench<'_>) {
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

/// More than any small window, so that a fault which requires many messages is detected.
const ORDERED: usize = 256;

async fn order(mut bench: Bench<'_>) {
    let mut sent = 0;
    bench
        .wait(
            "the sending stopped, though the peer reads",
            "poll_ready and poll_flush must pass messages on whenever the inner transport has room",
            |bench, cx| {
                while sent < ORDERED && bench.poll_ready(cx).is_ready() {
                    bench.send();
                    sent += 1;
                    bench.receive_ready(cx);
                }
                bench.receive_ready(cx);
                if sent == ORDERED { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    bench.drain().await;
    bench.quiet().await;
}

async fn flush(mut bench: Bench<'_>) {
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
                "return Ready from poll_flush only after all that was accepted was given on and the inner poll_flush \
                 was Ready",
                |bench, cx| {
                    bench.receive_ready(cx);
                    if bench.all_arrived() { Poll::Ready(()) } else { Poll::Pending }
                },
            )
            .await;
    }
}

async fn cancellation(mut bench: Bench<'_>) {
    receives_that_are_dropped(&mut bench).await;
    sends_that_are_dropped_once_accepted(&mut bench).await;
    sends_that_are_dropped_before_they_are_ready(&mut bench).await;
}

async fn receives_that_are_dropped(bench: &mut Bench<'_>) {
    for _ in 0..4 {
        for _ in 0..3 {
            // A dropped `receive_message` leaves behind a poll whose task is gone.
            if bench.poll_receive(&mut Context::from_waker(Waker::noop())).is_ready() {
                bench.fail("the receiving stream ended", "the stream ends when the peer closed, not before");
            }
        }
        bench.send_one().await;
        bench.drain().await;
    }
}

async fn sends_that_are_dropped_once_accepted(bench: &mut Bench<'_>) {
    for _ in 0..4 {
        bench.ready_to_send().await;
        send_and_drop(bench).await;
        // The next message pushes out whatever the dropped one left behind.
        bench.send_one().await;
        bench.drain().await;
    }
    bench.quiet().await;
}

async fn sends_that_are_dropped_before_they_are_ready(bench: &mut Bench<'_>) {
    bench.fill().await;
    for _ in 0..3 {
        // Should a socket have found room meanwhile, the message is accepted, and due.
        send_and_drop(bench).await;
    }
    bench.drain().await;
    bench.send_one().await;
    bench.drain().await;
    bench.quiet().await;
}

/// A `send_message` that is polled once, and dropped whatever it said.
async fn send_and_drop(bench: &mut Bench<'_>) {
    let number = bench.a.number();
    let mut send = pin!(bench.a.send_message(number));
    let polled = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await;
    if let Poll::Ready(Err(error)) = polled {
        bench.fail(format_args!("send_message failed: {error}"), "keep the transport open until it is closed");
    }
}

const AGAIN: &str = "the stream gave None, and was Pending when it was polled again";

async fn close(mut bench: Bench<'_>) {
    bench.send_some(3).await;
    poll_until_closed(&mut bench).await;
    peer_ends(&mut bench, "poll_close was Ready, but the peer's stream does not end").await;
    peer_ends(&mut bench, AGAIN).await;
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
    peer_ends(&mut bench, AGAIN).await;
    closed_sink(&mut bench).await;
}

async fn poll_until_closed(bench: &mut Bench<'_>) {
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
async fn peer_ends(bench: &mut Bench<'_>, found: &str) {
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

async fn cut(mut bench: Bench<'_>) {
    bench.send_one().await;
    bench.drain().await;
    bench.b = None;
    cut_stream(&mut bench).await;
    cut_sink(&mut bench).await;
}

async fn cut_stream(bench: &mut Bench<'_>) {
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
async fn cut_sink(bench: &mut Bench<'_>) {
    const ADVICE: &str = "when the stream has ended, poll_ready fails with an error for which Error::is_closed is \
                          true; never accept messages for a peer that is gone";
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

const WAKE_ADVICE: &str = "before Pending is returned, the waker of the current context must be registered, in place \
                           of an older one; a layer that returns Pending without polling the inner transport must \
                           register it itself";

async fn wake_ups(mut bench: Bench<'_>) {
    for _ in 0..2 {
        waiting_reader(&mut bench).await;
        bench.turn();
    }
    waiting_writer(&mut bench).await;
    waiting_flush(&mut bench).await;
    bench.drain().await;
}

/// Two tasks, of which the second took over from the first.
struct Tasks {
    old: Waker,
    new: Waker,
    flag: Arc<WakeFlag>,
}

impl Tasks {
    fn new() -> Self {
        let (flag, new) = WakeFlag::new();
        Self { old: WakeFlag::new().1, new, flag }
    }

    /// Polls as the old task, and then as the new one.
    fn both<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        match poll(&mut Context::from_waker(&self.old)) {
            Poll::Pending => poll(&mut Context::from_waker(&self.new)),
            ready => ready,
        }
    }
}

async fn waiting_reader(bench: &mut Bench<'_>) {
    let tasks = Tasks::new();
    wait_for_message(bench, &tasks);
    message_rings(bench, &tasks, "poll_next was Pending, a message was flushed, and the newest waker was not woken")
        .await;
}

fn wait_for_message(bench: &mut Bench<'_>, tasks: &Tasks) {
    if tasks.both(|cx| bench.poll_receive(cx)).is_ready() {
        bench.fail("the receiving stream ended", "the stream ends when the peer closed, not before");
    }
}

/// `a` sends, and `b`, which is polled only when its waker is called, receives.
async fn message_rings(bench: &mut Bench<'_>, tasks: &Tasks, found: &str) {
    bench.wait("poll_ready stays Pending", "have room for one message", Bench::poll_ready).await;
    bench.send();
    bench
        .wait(found, WAKE_ADVICE, |bench, cx| {
            let flushed = bench.push(cx);
            if !bench.all_arrived() && tasks.flag.was_woken(cx) {
                let _ = bench.poll_receive(&mut Context::from_waker(&tasks.new));
            }
            if bench.all_arrived() { flushed } else { Poll::Pending }
        })
        .await;
}

/// Both halves of `a` wait, each with its own task. When the peer reads, the writer is woken. When the peer sends, the
/// reader is woken.
async fn waiting_writer(bench: &mut Bench<'_>) {
    let (reader, writer) = (Tasks::new(), Tasks::new());
    // A socket may find room between two polls: then it is filled again.
    loop {
        if bench.fill().await.is_none() {
            return;
        }
        bench.turn();
        wait_for_message(bench, &reader);
        bench.turn();
        if writer.both(|cx| bench.poll_ready(cx)).is_pending() {
            break;
        }
    }
    bench
        .wait("poll_ready was Pending, the peer read, and the newest waker was not woken", WAKE_ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            if writer.flag.was_woken(cx) {
                bench.poll_ready(&mut Context::from_waker(&writer.new))
            } else {
                Poll::Pending
            }
        })
        .await;
    bench.send();
    bench.turn();
    let found =
        "poll_ready and poll_next were Pending with a waker each, a message came in, and the reader was not woken";
    message_rings(bench, &reader, found).await;
    bench.turn();
}

async fn waiting_flush(bench: &mut Bench<'_>) {
    let tasks = Tasks::new();
    if tasks.both(|cx| bench.poll_flush(cx)).is_ready() {
        return;
    }
    bench
        .wait("poll_flush was Pending, the peer read, and the newest waker was not woken", WAKE_ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            if tasks.flag.was_woken(cx) {
                bench.poll_flush(&mut Context::from_waker(&tasks.new))
            } else {
                Poll::Pending
            }
        })
        .await;
}

async fn duplex(mut bench: Bench<'_>) {
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
