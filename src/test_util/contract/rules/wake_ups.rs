use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::super::{bench::Bench, wait::Bell};

const ADVICE: &str = "before Pending is returned, the waker of this very context must be registered, in place of an older one; \
                      a layer that returns Pending without asking the inner transport registers its own";

pub(super) async fn check(mut bench: Bench<'_>) {
    reader(&mut bench).await;
    writer(&mut bench).await;
    flush(&mut bench).await;
    bench.drain().await;
}

/// Two tasks of which the second took over from the first.
struct Tasks {
    old: Waker,
    new: Waker,
    bell: Arc<Bell>,
}

impl Tasks {
    fn new() -> Self {
        let (bell, new) = Bell::new();
        Self { old: Bell::new().1, new, bell }
    }

    /// Polls as the old task, and then as the new one.
    fn both<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        match poll(&mut Context::from_waker(&self.old)) {
            Poll::Pending => poll(&mut Context::from_waker(&self.new)),
            ready => ready,
        }
    }
}

async fn reader(bench: &mut Bench<'_>) {
    let tasks = Tasks::new();
    if tasks.both(|cx| bench.poll_receive(cx)).is_ready() {
        bench.fail("the receiving stream ended", "the stream ends when the peer closed, not before");
    }
    bench.wait("poll_ready stays Pending", "have room for one message", Bench::poll_ready).await;
    bench.send();
    bench
        .wait(
            "poll_next was Pending, a message was flushed, and the newest waker was not woken",
            ADVICE,
            |bench, cx| {
                let _ = bench.poll_flush(cx);
                receive_when_rung(bench, cx, &tasks)
            },
        )
        .await;
}

/// `b` is polled only when its bell rang.
fn receive_when_rung(bench: &mut Bench<'_>, cx: &mut Context<'_>, tasks: &Tasks) -> Poll<()> {
    while tasks.bell.rang(cx) {
        if bench.poll_receive(&mut Context::from_waker(&tasks.new)).is_ready() {
            return Poll::Ready(());
        }
    }
    Poll::Pending
}

async fn writer(bench: &mut Bench<'_>) {
    let (writer, reader) = (Tasks::new(), Tasks::new());
    // A socket may find room between two polls: then it is filled again.
    loop {
        if bench.fill().await.is_none() {
            return;
        }
        if writer.both(|cx| bench.poll_ready(cx)).is_pending() {
            break;
        }
    }
    // The reading half of the same end waits as well, and has its own task.
    bench.turn();
    let _ = reader.both(|cx| bench.poll_receive(cx));
    bench.wait("poll_ready stays Pending", "have room for one message", Bench::poll_ready).await;
    bench.send();
    bench
        .wait(
            "poll_ready and poll_next were Pending with a waker each, a message came in, and the reader was not woken",
            ADVICE,
            |bench, cx| {
                let _ = bench.poll_flush(cx);
                receive_when_rung(bench, cx, &reader)
            },
        )
        .await;
    bench.turn();
    bench
        .wait("poll_ready was Pending, the peer read, and the newest waker was not woken", ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            while writer.bell.rang(cx) {
                if bench.poll_ready(&mut Context::from_waker(&writer.new)).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    bench.send();
}

async fn flush(bench: &mut Bench<'_>) {
    let tasks = Tasks::new();
    if tasks.both(|cx| bench.poll_flush(cx)).is_ready() {
        return;
    }
    bench
        .wait("poll_flush was Pending, the peer read, and the newest waker was not woken", ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            while tasks.bell.rang(cx) {
                if bench.poll_flush(&mut Context::from_waker(&tasks.new)).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
}
