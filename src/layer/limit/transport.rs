use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    layer::Sizes,
    watch::{Over, Watch},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::own::LayerSink,
    rt::{Instant, Timer},
    transport::signal::Mark,
};

type PollItem = Poll<Option<Result<Message, Error>>>;

/// What the inner stream gives.
type Polled<T> = Poll<Option<Result<Message, <T as Transport>::TransportError>>>;

/// After so many messages in a row the time is looked at, though the stream never waits.
const LOOK: u32 = 64;

pin_project! {
    /// A transport within limits: what [`LimitLayer`](super::LimitLayer) makes.
    #[derive(Debug)]
    pub struct Limited<T> {
        #[pin]
        inner: T,
        sizes: Sizes,
        in_flight: usize,
        clock: Clock,
        sink: LayerSink<Message>,
    }
}

#[derive(Debug)]
struct Clock {
    watch: Watch,
    timer: Timer,
    start: Option<Instant>,
    /// Messages since the time was looked at. At first it is due, so that the time begins with the first poll; at the end
    /// it stays so, and the end is found there.
    run: u32,
}

impl<T> Limited<T> {
    pub(super) fn new(inner: T, sizes: Sizes, watch: Watch) -> Self {
        let clock = Clock { watch, timer: Timer::new(), start: None, run: LOOK };
        Self { inner, sizes, in_flight: 0, clock, sink: LayerSink::new() }
    }

    /// With what this layer closed the transport, where it did: 1009 for a message that was too large, 1001 for one of the
    /// times.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.sink.close_frame()
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent or received there is neither limited nor counted.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport. No message is held here.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Clock {
    /// A message came in: whether it passes, being control or no larger than `most`.
    #[inline]
    fn passes(&mut self, message: &Message, most: usize) -> bool {
        self.run += 1;
        self.watch.passed(message.is_data());
        message.len() <= most || message.is_control()
    }

    /// Ready when the transport's time is over.
    #[inline(never)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        self.run = 0;
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
                if let Some(start) = self.start
                    && let Some(over) = self.watch.tick(start.elapsed())
                {
                    return Poll::Ready(over);
                }
            }
            let age = self.start.map_or_else(Default::default, |start| start.elapsed());
            let Some(time) = self.watch.next(age) else { return Poll::Pending };
            self.start.get_or_insert_with(Instant::now);
            self.timer.set(time);
        }
    }
}

impl<T: Transport<Message, In = Message>> Limited<T> {
    /// Closes the transport, as far as it goes at once, and gives the error.
    #[cold]
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
        this.clock.run = LOOK;
        this.sink.poll_end(this.inner, cx)
    }

    /// Between messages: `None` where the transport goes on.
    #[cold]
    #[inline(never)]
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

    /// All that the inner stream gives but a message within its limit.
    #[cold]
    #[inline(never)]
    fn rare(mut self: Pin<&mut Self>, cx: &mut Context<'_>, polled: Polled<T>) -> PollItem {
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
        let error = Error::too_large(format!("an incoming message of {size} bytes is over this end's limit of {most}"));
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
            && let Some(end) = self.as_mut().look(cx)
        {
            return end;
        }
        let this = self.as_mut().project();
        let mark = Mark::now();
        match this.inner.poll_next(cx) {
            // Looked at where it stands, and not after it was moved: then it is moved as a whole, which is cheaper by far.
            Poll::Ready(Some(Ok(message))) if this.clock.passes(&message, this.sizes.incoming) => {
                Poll::Ready(Some(Ok(message)))
            }
            polled => {
                this.clock.watch.moved(mark.moved());
                self.rare(cx, polled)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Each message gives one item; the time may end it before, with one more.
        let most = if self.sink.is_open() { self.inner.size_hint().1 } else { Some(0) };
        (0, most.and_then(|most| most.checked_add(usize::from(self.sink.is_open()))))
    }
}

#[cold]
#[inline(never)]
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
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        if *this.in_flight >= this.sizes.in_flight {
            let mark = Mark::now();
            let flushed = this.sink.poll_flush(this.inner.as_mut(), cx);
            this.clock.watch.moved(mark.moved());
            ready!(flushed)?;
            *this.in_flight = 0;
        }
        let mark = Mark::now();
        let room = this.sink.poll_ready(this.inner, cx);
        if room.is_pending() {
            this.clock.watch.moved(mark.moved());
        }
        room
    }

    // The message is given on, or to what refuses it, and never dropped here: so it is not copied on its way.
    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        if (message.len() > this.sizes.outgoing && message.is_data()) || !this.sink.is_open() {
            return Err(refuse(message, this.sizes.outgoing, this.sink));
        }
        this.clock.watch.passed(message.is_data());
        *this.in_flight = this.in_flight.saturating_add(1);
        this.inner.start_send(message).map_err(Into::into)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let mark = Mark::now();
        let flushed = this.sink.poll_flush(this.inner, cx);
        this.clock.watch.moved(mark.moved());
        ready!(flushed)?;
        *this.in_flight = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}
