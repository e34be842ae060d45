use std::{
    fmt::Display,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{
    check::Check,
    port::Arrival,
    side::Side,
    wait::{Patience, give_way},
};
use crate::Error;

/// How often a check yields to other tasks before it treats `Pending` as "full": a driver may still have to carry
/// messages on, and tokio returns `Pending` to a task that was busy for long.
const SETTLE: usize = 256;

/// A connected pair under test, with messages going from `a` to `b`; [`turn`](Self::turn) swaps the direction.
pub(super) struct Bench<'c> {
    pub(super) a: Side<'c>,
    pub(super) b: Option<Side<'c>>,
    pub(super) check: Check,
    pub(super) room: usize,
    pub(super) patience: Patience,
    pub(super) ends: [&'static str; 2],
}

impl<'c> Bench<'c> {
    /// Fails the test with the violated rule and advice.
    #[track_caller]
    pub(super) fn fail(&self, found: impl Display, advice: &str) -> ! {
        panic!(
            "contract broken: {check}\n  rule:  {rule}\n  ends:  from {from} to {to}\n  found: {found}\n  to do: {advice}",
            check = self.check,
            rule = self.check.rule(),
            from = self.ends[0],
            to = self.ends[1],
        )
    }

    /// The same pair, in the other direction.
    pub(super) fn turn(&mut self) {
        if let Some(b) = &mut self.b {
            std::mem::swap(&mut self.a, b);
            self.ends.reverse();
        }
    }

    /// Polls until `poll` is ready, each time the task is polled. Fails with `found` when the patience is over.
    pub(super) fn wait<T>(
        &mut self,
        found: &str,
        advice: &str,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = T> {
        let mut patience = None;
        poll_fn(move |cx| {
            if let Poll::Ready(output) = poll(self, cx) {
                return Poll::Ready(output);
            }
            let patience = patience.get_or_insert_with(|| self.patience.start());
            ready!(patience.poll(cx));
            let flying = self.a.in_flight.len();
            self.fail(format_args!("{found} ({flying} messages in flight)"), advice)
        })
    }

    /// One poll, with the task's own waker.
    pub(super) async fn once<T>(&mut self, mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll_fn(|cx| Poll::Ready(poll(self, cx))).await
    }

    /// `poll_ready` of `a`, which must not fail.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.a.port.poll_ready(cx)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                self.fail(format_args!("poll_ready failed: {error}"), "keep the transport open until it is closed")
            }
        }
    }

    /// `poll_flush` of `a`, which must not fail.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.a.port.poll_flush(cx)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                self.fail(format_args!("poll_flush failed: {error}"), "keep the transport open until it is closed")
            }
        }
    }

    /// Polls whether `a` is ready, and returns an error unchanged.
    pub(super) fn poll_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.a.port.poll_ready(cx)
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.a.port.poll_close(cx)
    }

    pub(super) fn poll_sink_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.a.port.poll_flush(cx)
    }

    pub(super) fn poll_peer_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.b {
            Some(b) => b.port.poll_close(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn try_send(&mut self) -> Result<(), Error> {
        let number = self.a.number();
        Pin::new(&mut self.a).start_send(number)
    }

    /// `start_send` of the next message, after `poll_ready` was ready.
    pub(super) fn send(&mut self) {
        if let Err(error) = self.try_send() {
            self.fail(
                format_args!("start_send failed right after poll_ready was Ready: {error}"),
                "poll_ready must be Pending while there is no room; a layer polls the inner poll_ready and returns its result",
            );
        }
    }

    /// Polls the next item of `a`, unchanged.
    pub(super) fn poll_own_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arrival, Error>>> {
        self.a.port.poll_next(cx, None, 0)
    }

    /// Polls the next item of `b`, unchanged; `None` at the end of its stream.
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arrival, Error>>> {
        match &mut self.b {
            Some(b) => b.port.poll_next(cx, self.a.in_flight.front().copied(), self.a.next),
            None => Poll::Ready(None),
        }
    }

    /// Polls the next item of `b`, which must be the message that is due; `Ready(false)` at the end of its stream.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let arrival = match ready!(self.poll_item(cx)) {
            None => return Poll::Ready(false),
            Some(Ok(arrival)) => arrival,
            Some(Err(error)) => self.fail(
                format_args!("the receiving stream returned an error: {error}"),
                "a healthy transport returns messages; inspect the error's source chain",
            ),
        };
        let due = self.a.in_flight.pop_front();
        match (due, arrival) {
            (Some(due), Arrival::Number(number)) if due == number => Poll::Ready(true),
            (Some(due), other) => self.fail(
                format_args!("{other} arrived where message {due} was due"),
                "a message was lost, repeated, changed, or overtook another: keep one queue, and pass on everything that is taken from it",
            ),
            (None, other) => self.fail(
                format_args!("{other} arrived, and nothing was due"),
                "a message was delivered twice, or was never accepted: pass it on once, and only after start_send accepted it",
            ),
        }
    }

    /// Receives everything that `b` can receive now.
    pub(super) fn receive_ready(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(more) = self.poll_receive(cx) {
            if !more {
                self.fail("the receiving stream ended", "the stream must not end before the peer closes");
            }
        }
    }

    /// `b` receives everything that `a` accepted, and the flush of `a` completes.
    pub(super) fn drain(&mut self) -> impl Future<Output = ()> {
        self.wait(
            "some accepted messages do not arrive",
            "pass on everything that start_send accepted, no later than the flush",
            |bench, cx| {
                let flushed = bench.push(cx);
                bench.receive_ready(cx);
                if bench.all_arrived() { flushed } else { Poll::Pending }
            },
        )
    }

    /// Polls `a` in every way that may move messages on, so that only the flush check depends on the flush alone. Ready
    /// when it is flushed.
    pub(super) fn push(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_flush(cx));
        let _ = self.poll_ready(cx);
        Poll::Ready(())
    }

    /// Checks that `b` receives nothing after every other task had its turn.
    pub(super) async fn quiet(&mut self) {
        for _ in 0..SETTLE {
            let _ = self.once(|bench, cx| bench.poll_receive(cx)).await;
            give_way().await;
        }
    }

    /// `a` becomes ready, while `b` reads.
    pub(super) fn ready_to_send(&mut self) -> impl Future<Output = ()> {
        self.wait(
            "poll_ready stays Pending although the peer reads",
            "poll_ready must make room (flush the buffer, poll the inner poll_ready) and be Ready when there is room",
            |bench, cx| {
                bench.receive_ready(cx);
                bench.poll_ready(cx)
            },
        )
    }

    /// `a` becomes ready, while `b` reads, and takes one message.
    pub(super) async fn send_one(&mut self) {
        self.ready_to_send().await;
        self.send();
    }

    /// `a` takes messages while it is ready at once, at least one and at most `most`.
    pub(super) async fn send_some(&mut self, most: usize) {
        self.send_one().await;
        for _ in 1..most {
            if self.once(|bench, cx| bench.poll_ready(cx)).await.is_pending() {
                break;
            }
            self.send();
        }
    }

    /// `a` accepts messages until there is no more room, while `b` reads nothing. Returns how many, or `None` if they
    /// were more than there may be room for.
    pub(super) async fn fill(&mut self) -> Option<usize> {
        let mut accepted = 0;
        let mut waited = 0;
        while accepted <= self.room {
            if self.once(|bench, cx| bench.poll_ready(cx)).await.is_ready() {
                self.send();
                accepted += 1;
                waited = 0;
            } else if waited < SETTLE {
                waited += 1;
                give_way().await;
            } else {
                return Some(accepted);
            }
        }
        None
    }

    /// Polls `a` alone for a while, and returns whether `poll` became ready without the peer's help.
    pub(super) async fn alone<T>(&mut self, mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        for _ in 0..SETTLE {
            if let Poll::Ready(output) = self.once(&mut poll).await {
                return Some(output);
            }
            give_way().await;
        }
        None
    }

    /// Returns whether everything that `a` accepted has arrived.
    pub(super) fn all_arrived(&self) -> bool {
        self.a.in_flight.is_empty()
    }
}
