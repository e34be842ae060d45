use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::super::{bench::Bench, wait::Bell};

const ADVICE: &str = "before Pending is returned, the waker of the current context must be registered, replacing any older one; \
                      a layer that returns Pending without polling the inner transport must register it itself";

pub(super) async fn check(mut bench: Bench<'_>) {
    for _ in 0..2 {
        reader(&mut bench).await;
        bench.turn();
    }
    writer(&mut bench).await;
    flush(&mut bench).await;
    bench.drain().await;
}

/// Two tasks, of which the second took over from the first.
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
        .wait(found, ADVICE, |bench, cx| {
            let flushed = bench.push(cx);
            if !bench.all_arrived() && tasks.bell.rang(cx) {
                let _ = bench.poll_receive(&mut Context::from_waker(&tasks.new));
            }
            if bench.all_arrived() { flushed } else { Poll::Pending }
        })
        .await;
}

/// Both halves of `a` wait, each with its own task. When the peer reads, the writer is woken. When the peer sends, the
/// reader is woken.
async fn writer(bench: &mut Bench<'_>) {
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
        .wait("poll_ready was Pending, the peer read, and the newest waker was not woken", ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            if writer.bell.rang(cx) { bench.poll_ready(&mut Context::from_waker(&writer.new)) } else { Poll::Pending }
        })
        .await;
    bench.send();
    bench.turn();
    let found =
        "poll_ready and poll_next were Pending with a waker each, a message came in, and the reader was not woken";
    message_rings(bench, &reader, found).await;
    bench.turn();
}

async fn flush(bench: &mut Bench<'_>) {
    let tasks = Tasks::new();
    if tasks.both(|cx| bench.poll_flush(cx)).is_ready() {
        return;
    }
    bench
        .wait("poll_flush was Pending, the peer read, and the newest waker was not woken", ADVICE, |bench, cx| {
            bench.receive_ready(cx);
            if tasks.bell.rang(cx) { bench.poll_flush(&mut Context::from_waker(&tasks.new)) } else { Poll::Pending }
        })
        .await;
}
