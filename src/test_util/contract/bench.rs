use std::{
    collections::VecDeque,
    fmt::{self, Display},
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    check::Check,
    wait::{Patience, give_way},
};
use crate::{Error, Transport, transport::payload::Payload};

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
            "contract broken: {check}\n  rule:  {rule}\n  ends:  from {from} to {to}\n  found: {found}\n  \
             to do: {advice}",
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
            // Started at the first `Pending`: a timer needs the runtime of the poll.
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
                "poll_ready must be Pending while there is no room; a layer polls the inner poll_ready and returns \
                 its result",
            );
        }
    }

    /// Polls the next item of `a`, unchanged.
    pub(super) fn poll_own_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arrival, Error>>> {
        self.a.port.poll_next(cx, None, 0)
    }

    /// Polls the next item of `b`, unchanged; `None` at the end of its stream.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arrival, Error>>> {
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
        // Transports keep the order, so the oldest message in flight is the only one that may arrive.
        let due = self.a.in_flight.pop_front();
        match (due, arrival) {
            (Some(due), Arrival::Number(number)) if due == number => Poll::Ready(true),
            (Some(due), other) => self.fail(
                format_args!("{other} arrived where message {due} was due"),
                "a message was lost, repeated, changed, or overtook another: keep one queue, and pass on everything \
                 that is taken from it",
            ),
            (None, other) => self.fail(
                format_args!("{other} arrived, and nothing was due"),
                "a message was delivered twice, or was never accepted: pass it on once, and only after start_send \
                 accepted it",
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
        // A layer may keep a message back until it has room for it, which only `poll_ready` shows.
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
                // A driver behind the sink may have moved messages on, so that there will be more room.
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

/// One end of the pair.
pub(super) struct Side<'c> {
    pub(super) port: Box<dyn Port + 'c>,
    /// The numbers that it accepted and the other end has not received.
    pub(super) in_flight: VecDeque<usize>,
    pub(super) next: usize,
}

impl<'c> Side<'c> {
    pub(super) fn new(port: Box<dyn Port + 'c>) -> Self {
        Self { port, in_flight: VecDeque::new(), next: 0 }
    }

    /// Returns the number of the next message. Each is returned once.
    pub(super) fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

/// Lets the checks use the same method as users: [`send_message`](crate::TransportExt::send_message).
impl Sink<usize> for Side<'_> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, number: usize) -> Result<(), Error> {
        self.port.start_send(number)?;
        self.in_flight.push_back(number);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_close(cx)
    }
}

impl Stream for Side<'_> {
    type Item = Result<Arrival, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Only the bench, which polls the port, knows which message is due. This only checks whether one came.
        self.port.poll_next(cx, None, 0)
    }
}

/// A transport whose messages the checks see as numbers, whatever its types are.
pub(super) trait Port {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    fn start_send(&mut self, number: usize) -> Result<(), Error>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    /// `due` is the next expected number, `sent` the total.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<usize>,
        sent: usize,
    ) -> Poll<Option<Result<Arrival, Error>>>;
}

/// An incoming item.
pub(super) enum Arrival {
    /// The message with this number.
    Number(usize),
    /// A message that was not sent, in its printed form.
    Foreign(String),
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "message {number}"),
            Self::Foreign(text) => write!(f, "a message that was never sent: {text}"),
        }
    }
}

pub(super) struct Numbered<'c, T, Out, Make, Arrives> {
    transport: Pin<Box<T>>,
    make: &'c Make,
    arrives: &'c Arrives,
    out: PhantomData<fn(Out)>,
}

impl<'c, T, Out, Make, Arrives> Numbered<'c, T, Out, Make, Arrives> {
    pub(super) fn new(transport: T, make: &'c Make, arrives: &'c Arrives) -> Self {
        Self { transport: Box::pin(transport), make, arrives, out: PhantomData }
    }
}

impl<T, Out, Make, Arrives, Due> Port for Numbered<'_, T, Out, Make, Arrives>
where
    T: Transport<Out>,
    T::In: PartialEq<Due> + fmt::Debug + 'static,
    Make: Fn(usize) -> Out,
    Arrives: Fn(usize) -> Due,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_ready(cx).map_err(Into::into)
    }

    fn start_send(&mut self, number: usize) -> Result<(), Error> {
        self.transport.as_mut().start_send((self.make)(number)).map_err(Into::into)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_close(cx).map_err(Into::into)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<usize>,
        sent: usize,
    ) -> Poll<Option<Result<Arrival, Error>>> {
        loop {
            let message = match self.transport.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            // A transport may have its own control messages: a ping, the peer's close.
            if Payload::of().is_control(&message) {
                continue;
            }
            let found = due.into_iter().chain(0..sent).find(|&number| message == (self.arrives)(number));
            return Poll::Ready(Some(Ok(match found {
                Some(number) => Arrival::Number(number),
                None => Arrival::Foreign(format!("{message:?}").chars().take(200).collect()),
            })));
        }
    }
}
