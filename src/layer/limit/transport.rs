use std::{
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::deadlines::{Deadlines, Over, shortened};
use crate::{
    CloseCode, CloseFrame, Error, Message, MessageStream, Transport,
    layer::own::LayerSink,
    rt::{Instant, Timer},
    transport::{contract::Polled, signal::Mark},
};

type PollItem = Poll<Option<Result<Message, Error>>>;

/// Without a timer, the clock is checked after this many messages in a row.
const LOOK: u32 = 64;

/// Bounds the size of messages, the idle time and the lifetime of a transport. See the [module](super) for the complete
/// documentation.
///
/// | limit | default | when exceeded |
/// |---|---|---|
/// | [`max_incoming`](Self::max_incoming) | 4 MiB | an error item, then closed with 1009 |
/// | [`max_outgoing`](Self::max_outgoing) | 4 MiB | an error of `start_send`; nothing is sent, the sink goes on |
/// | [`idle_timeout`](Self::idle_timeout) | none | an error item, closed with 1001 |
/// | [`lifetime`](Self::lifetime) | none | an error item, closed with 1001 |
/// | [`max_in_flight`](Self::max_in_flight) | none | `poll_ready` waits until everything is flushed |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitLayer {
    sizes: Sizes,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    jitter: Duration,
}

/// The limits that each message is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    incoming: usize,
    outgoing: usize,
    in_flight: u64,
    skips_large: bool,
}

impl LimitLayer {
    /// Creates a layer that allows messages of at most 4 MiB each way, and has no other limit.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sizes: Sizes { incoming: 4 << 20, outgoing: 4 << 20, in_flight: u64::MAX, skips_large: false },
            idle: None,
            lifetime: None,
            jitter: Duration::ZERO,
        }
    }

    /// Sets the largest incoming message, in bytes of payload. Defaults to 4 MiB.
    #[must_use]
    pub const fn max_incoming(mut self, bytes: usize) -> Self {
        self.sizes.incoming = bytes;
        self
    }

    /// Sets the largest outgoing message, in bytes of payload. Defaults to 4 MiB.
    #[must_use]
    pub const fn max_outgoing(mut self, bytes: usize) -> Self {
        self.sizes.outgoing = bytes;
        self
    }

    /// Sets [`max_incoming`](Self::max_incoming) and [`max_outgoing`](Self::max_outgoing) to the same size.
    #[must_use]
    pub const fn max_message(self, bytes: usize) -> Self {
        self.max_incoming(bytes).max_outgoing(bytes)
    }

    /// Drops an incoming message that is too large: its error is an item, and the stream goes on with the next message.
    /// By default the transport is closed with [1009](crate::CloseCode::TOO_BIG).
    #[must_use]
    pub const fn skip_large(mut self) -> Self {
        self.sizes.skips_large = true;
        self
    }

    /// Sets the time after which the transport is closed if no text or binary message passes, either way. By default
    /// it is not. It is closed between `time` and `time * 9 / 8` after the last message, and no earlier than 8 ms after
    /// it. Pings and pongs do not count: they show that the connection lives, not that anyone uses it.
    ///
    /// A message that is on its way counts while 1,024 bytes a second move, averaged over an eighth of `time`. Bytes
    /// stop counting when more of them have moved since the last whole message than
    /// [`max_incoming`](Self::max_incoming) and [`max_outgoing`](Self::max_outgoing) together. A message that never
    /// ends therefore does not keep the transport open.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// Sets how long the transport may live, from its first use. By default there is no limit.
    #[must_use]
    pub const fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = Some(time);
        self
    }

    /// Sets the largest random time by which each [`lifetime`](Self::lifetime) is shortened, so that connections that
    /// began together do not end together. Defaults to zero.
    #[must_use]
    pub const fn lifetime_jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Sets how many messages may be accepted and not yet flushed. At that number, `poll_ready` flushes the transport
    /// and waits for the flush. By default there is no limit. It bounds in messages what is lost with a connection; the
    /// transport itself bounds it in bytes.
    ///
    /// For calls in flight of a service, use tower's own `ConcurrencyLimitLayer`.
    #[must_use]
    pub const fn max_in_flight(mut self, messages: NonZeroUsize) -> Self {
        self.sizes.in_flight = messages.get() as u64;
        self
    }
}

impl Default for LimitLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: MessageStream> Layer<T> for LimitLayer {
    type Service = Limited<T>;

    fn layer(&self, inner: T) -> Limited<T> {
        let lifetime = self.lifetime.map(|time| shortened(time, self.jitter));
        // A message each way may be on its way at once.
        let most = self.sizes.incoming.saturating_add(self.sizes.outgoing);
        let deadlines = Deadlines::new(self.idle, lifetime, most);
        let clock = Clock { deadlines, timer: Timer::new(), start: None, run: LOOK };
        Limited { inner, sizes: self.sizes, in_flight: 0, clock, sink: LayerSink::new() }
    }
}

pin_project! {
    /// A transport within limits, created by [`LimitLayer`].
    #[derive(Debug)]
    pub struct Limited<T> {
        #[pin]
        inner: T,
        sizes: Sizes,
        in_flight: u64,
        clock: Clock,
        sink: LayerSink<Message>,
    }
}

#[derive(Debug)]
struct Clock {
    deadlines: Deadlines,
    timer: Timer,
    start: Option<Instant>,
    /// The number of messages since the clock was checked. A check is due at first, so that the time begins with the
    /// first poll. It stays due while the timer is set, and after the end, so that without times a message costs one
    /// branch for all of this.
    run: u32,
}

impl<T> Limited<T> {
    /// Returns the close frame with which this layer closed the transport, if it has: 1009 for a message that was too
    /// large, 1001 for the idle timeout or the lifetime.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.sink.close_frame()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "Messages that are sent or received there are neither limited nor counted.",
        into_inner: ". No message is held here.",
    }
}

impl Clock {
    /// Notes an incoming message. Returns whether it may pass: it is a control message, or no larger than `most`.
    #[inline]
    fn passes(&mut self, message: &Message, most: usize) -> bool {
        self.run = self.run.wrapping_add(1);
        self.deadlines.passed(message.is_data());
        message.len() <= most || message.is_control()
    }

    /// Ready when the transport's time is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        let over = self.poll_over(cx);
        // A reader that takes its time with each message is not to postpone the end, so the timer is asked each time.
        self.run = if self.timer.is_set() { LOOK } else { 0 };
        over
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
                if let Some(start) = self.start
                    && let Some(over) = self.deadlines.tick(start.elapsed())
                {
                    return Poll::Ready(over);
                }
            }
            let age = self.start.map_or_else(Default::default, |start| start.elapsed());
            let Some(time) = self.deadlines.next(age) else { return Poll::Pending };
            // The time begins with the first poll: a stack may be built long before it is used, and outside a runtime.
            self.start.get_or_insert_with(Instant::now);
            self.timer.set(time);
        }
    }
}

impl<T: Transport<Message, In = Message>> Limited<T> {
    /// Closes the transport, and returns the error.
    fn end(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        code: CloseCode,
        reason: &'static str,
        error: Error,
    ) -> PollItem {
        let this = self.project();
        let frame = CloseFrame::new(code, reason);
        this.sink.close(frame.clone(), error.with_close_frame(Some(frame)));
        // The next poll checks first, and finds the end.
        this.clock.timer.clear();
        this.clock.run = LOOK;
        this.sink.poll_end(this.inner, cx)
    }

    /// Checks the clock and the end between messages. Returns `None` if the transport goes on.
    #[cold]
    fn look(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<PollItem> {
        let this = self.as_mut().project();
        if this.sink.has_ended() {
            return Some(this.sink.poll_end(this.inner, cx));
        }
        match this.clock.poll(cx) {
            Poll::Ready(over) => Some(self.time_over(cx, over)),
            Poll::Pending => None,
        }
    }

    /// Handles everything except a message within its limit. `moved` bytes moved during the poll.
    #[inline(never)]
    fn rare(mut self: Pin<&mut Self>, cx: &mut Context<'_>, moved: u64, polled: Polled<T>) -> PollItem {
        self.as_mut().project().clock.deadlines.moved(moved);
        match polled {
            Poll::Ready(Some(Ok(message))) => self.too_large(cx, message.len()),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let over = ready!(self.as_mut().project().clock.poll(cx));
                self.time_over(cx, over)
            }
        }
    }

    fn too_large(self: Pin<&mut Self>, cx: &mut Context<'_>, size: usize) -> PollItem {
        let most = self.sizes.incoming;
        let error = Error::too_large(format!(
            "an incoming message of {size} bytes is over this end's limit of {most} (LimitLayer::max_incoming; \
             OptimizedTransport: Limits::message)"
        ));
        // The transport below already holds the whole message, so skipping it costs nothing more.
        if self.sizes.skips_large {
            return Poll::Ready(Some(Err(error.into_rejection())));
        }
        self.end(cx, CloseCode::TOO_BIG, "message too large", error)
    }

    fn time_over(self: Pin<&mut Self>, cx: &mut Context<'_>, over: Over) -> PollItem {
        let (reason, error) = match over {
            Over::Idle(time) => {
                ("idle timeout", format!("no message passed for {time:?}, the idle timeout of this end"))
            }
            Over::Lifetime(time) => {
                ("maximum lifetime", format!("the connection is {time:?} old, its maximum lifetime"))
            }
        };
        self.end(cx, CloseCode::AWAY, reason, Error::timeout(error))
    }
}

impl<T: Transport<Message, In = Message>> Stream for Limited<T> {
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.clock.run >= LOOK
            && !self.clock.timer.is_waiting()
            && let Some(end) = self.as_mut().look(cx)
        {
            return end;
        }
        let this = self.as_mut().project();
        let mark = Mark::now();
        match this.inner.poll_next(cx) {
            // Inspected in place: it is then moved as a whole, which is much cheaper.
            Poll::Ready(Some(Ok(message))) if this.clock.passes(&message, this.sizes.incoming) => {
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.rare(cx, mark.moved(), polled),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One item for each message, and one error if the time is over.
        let most = if self.sink.is_open() { self.inner.size_hint().1 } else { Some(0) };
        (0, most.and_then(|most| most.checked_add(usize::from(self.sink.is_open()))))
    }
}

impl<T: Transport<Message, In = Message>> Limited<T> {
    /// The rest of `poll_ready`, unless there is room. `asked` is the answer of the transport below, and `moved` the
    /// bytes that moved meanwhile. Out of line, so that `poll_ready` is small enough to be inlined.
    #[inline(never)]
    fn poll_ready_behind(
        mut self: Pin<&mut Self>,
        asked: Option<Poll<Result<(), Error>>>,
        mut moved: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        // Only a flush makes room: nothing else tells which of the accepted messages have left.
        if self.in_flight >= self.sizes.in_flight {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let this = self.project();
        let room = asked.unwrap_or_else(|| {
            let mark = Mark::now();
            let room = this.sink.poll_ready(this.inner, cx);
            moved = mark.moved();
            room
        });
        // A writer that waits while its bytes leave is not idle. A whole message is counted in `start_send`.
        if room.is_pending() {
            this.clock.deadlines.moved(moved);
        }
        room
    }
}

#[cold]
fn refuse(message: Message, most: usize, sink: &LayerSink<Message>) -> Error {
    let size = message.len();
    match sink.check_open() {
        Err(closed) => closed,
        Ok(()) => Error::too_large(format!(
            "an outgoing message of {size} bytes is over this end's limit of {most}, and was not sent"
        ))
        .into_rejection(),
    }
}

impl<T: Transport<Message, In = Message>> Sink<Message> for Limited<T> {
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        let mark = Mark::now();
        let may_ask = *this.in_flight < this.sizes.in_flight;
        match may_ask.then(|| this.sink.forward_ready(this.inner, cx)).flatten() {
            Some(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            asked => self.poll_ready_behind(asked, mark.moved(), cx),
        }
    }

    // The message is passed on, or to `refuse`, and never dropped here, so it need not be copied.
    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        if (message.len() > this.sizes.outgoing && message.is_data()) || !this.sink.is_open() {
            return Err(refuse(message, this.sizes.outgoing, this.sink));
        }
        // Counted before the transport has it, which may fail: a sink that has failed is closed in any case.
        this.clock.deadlines.passed(message.is_data());
        *this.in_flight += 1;
        this.inner.start_send(message).map_err(Into::into)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let mark = Mark::now();
        let flushed = this.sink.poll_flush(this.inner, cx);
        this.clock.deadlines.moved(mark.moved());
        if let Poll::Ready(Ok(())) = flushed {
            *this.in_flight = 0;
        }
        flushed
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}
