use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::lifetime::{Due, Lifetime, expiry};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::{
        auth::{
            Credentials, MAX_TOKEN, Oneshot, Principal, Verdict, Verify,
            renew::{ASK, TOKEN},
            verify::close_frame,
        },
        own::LayerSink,
    },
    message::trailer::{self, Opened},
    rt::{Instant, Timer},
    transport::wakers::{Half, WakerPair},
};

/// How long a close may take with a peer that does not read.
const GOODBYE: Duration = Duration::from_secs(10);

pin_project! {
    /// A transport that ends when its peer's token expires, created by [`ExpiryLayer`](super::ExpiryLayer).
    pub struct Expiring<T, V: Verify> {
        #[pin]
        inner: T,
        lifetime: Lifetime,
        alarm: Alarm,
        // Whether there is no renewal and no end yet. This layer then has nothing to send, and the transport below is
        // called directly.
        is_plain: bool,
        sink: LayerSink<Message>,
        verifier: Option<V>,
        #[pin]
        verifying: Option<Oneshot<V, Credentials>>,
    }
}

impl<T, V: Verify> Expiring<T, V> {
    pub(super) fn new(inner: T, lifetime: Lifetime, verifier: Option<V>) -> Self {
        let mut alarm = Alarm::new();
        alarm.set_at(lifetime.alarm(Instant::now()));
        let is_plain = verifier.is_none();
        Self { inner, lifetime, alarm, is_plain, sink: LayerSink::new(), verifier, verifying: None }
    }

    /// Returns the close frame with which this layer closed the session, if it has.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.sink.close_frame()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "The layer does not see what is sent or received there.",
        into_inner: ", which no longer expires.",
    }

    /// Returns whether a message can pass without further checks: two loads for a regular session.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.is_plain && self.alarm.is_silent()
    }

    /// Ends the session: messages that were accepted are sent, then the close message.
    fn refuse(self: Pin<&mut Self>, error: Error, frame: CloseFrame) {
        let this = self.project();
        if !this.sink.is_open() {
            return;
        }
        let error = error.with_close_frame(Some(frame.clone()));
        let closed = Error::closed("the session was closed because its credentials are no longer valid");
        this.sink.close_as(frame, error, closed);
        this.alarm.set_at(Some(Instant::now() + GOODBYE));
        // From here on messages go through the sink, behind whose close message nothing may leave.
        *this.is_plain = false;
    }

    /// Costs one load while the alarm has not fired.
    #[inline]
    fn look_at_alarm(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        if this.sink.is_open() && this.alarm.has_rung() {
            self.ring();
        }
    }

    fn ring(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        match this.lifetime.ring() {
            // Set again at once: the peer has until the expiry to answer, whether it reads the request or not.
            Due::Ask => {
                this.sink.push(Message::Binary(trailer::append(&[], trailer::Layer::Auth, ASK)));
                this.alarm.set_at(this.lifetime.alarm(Instant::now()));
            }
            Due::Close => {
                self.refuse(Error::auth("the session's token has expired"), close_frame(4401, "token expired"))
            }
        }
    }
}

impl<T, V> Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    /// Polls the close that the layer has begun, which may take no longer than the alarm.
    fn poll_closed(self: Pin<&mut Self>, half: Half, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if !this.sink.is_closing() {
            return Poll::Ready(());
        }
        loop {
            if this.alarm.has_rung() {
                this.sink.give_up();
                break;
            }
            let closed = match half {
                Half::Reader => this.sink.poll_closed(this.inner.as_mut(), cx),
                // The stream returns why it ends, whatever the transport below returns.
                Half::Writer => this.sink.poll_close(this.inner.as_mut(), cx).map(drop),
            };
            if closed.is_ready() {
                break;
            }
            if this.alarm.waits(half, cx) {
                return Poll::Pending;
            }
        }
        // The other half may wait for the same event.
        this.alarm.waker().wake_by_ref();
        Poll::Ready(())
    }

    /// Returns the stream's item after the end.
    fn poll_rest(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        // Starts the close at once, as far as possible, for callers that do not poll again after an error.
        let closed = self.as_mut().poll_closed(Half::Reader, cx);
        match self.project().sink.take_error() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => closed.map(|()| None),
        }
    }

    /// Handles a token from the peer.
    fn take_token(mut self: Pin<&mut Self>, kind: u8, token: &Bytes) {
        let mut this = self.as_mut().project();
        let refusal = match std::str::from_utf8(token) {
            // Before the verifier gets it, which may do costly work for each byte.
            _ if token.len() > MAX_TOKEN => Error::too_large(format!("the new token is larger than {MAX_TOKEN} bytes")),
            Ok(token) if kind == TOKEN && this.lifetime.take_token() => {
                if let Some(verifier) = this.verifier {
                    let credentials = Credentials::Bearer(token.into());
                    this.verifying.set(Some(Oneshot::new(verifier.clone(), credentials)));
                }
                return;
            }
            _ => Error::protocol("the peer sent a token that was not requested"),
        };
        self.refuse(refusal, CloseFrame::new(CloseCode::POLICY, "no token was asked for"));
    }

    /// Continues the verification of a token, if there is one.
    fn poll_verify(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.as_mut().project();
        let Some(verifying) = this.verifying.as_mut().as_pin_mut() else { return };
        let Poll::Ready(verified) = verifying.poll(cx) else { return };
        this.verifying.set(None);
        match verified {
            Ok(principal) if this.lifetime.renew(principal.subject(), expiry(&principal)) => {
                this.alarm.set_at(this.lifetime.alarm(Instant::now()));
            }
            // The handler has decided on the first subject what this session may do.
            Ok(_) => self.refuse(
                Error::auth("the new token is for another subject than the session"),
                Verdict::Forbidden.close_frame(),
            ),
            Err(error) => match Verdict::of(&error) {
                // The old token is still valid, and the alarm remains set.
                Verdict::Unavailable => {}
                verdict => self.refuse(error.context("the new token was refused"), verdict.close_frame()),
            },
        }
    }
}

debug_fields!([T: fmt::Debug, V: Verify] Expiring<T, V> { inner, sink, alarm });

impl<T, V> Sink<Message> for Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            // The alarm also wakes a task that waits in the layer below.
            let ready = this.inner.poll_ready(cx);
            if ready.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return ready.map_err(Into::into);
            }
        }
        self.poll_ready_with_care(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        if *this.is_plain {
            return this.inner.start_send(message).map_err(Into::into);
        }
        Self::start_marked(this.sink, this.inner, message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            let flushed = this.inner.poll_flush(cx);
            // The alarm rings for a writer as well: without it, one that waits for a peer that does not read would wait
            // beyond the expiry.
            if flushed.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return flushed.map_err(Into::into);
            }
        }
        self.poll_flush_with_care(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.sink.has_ended() {
            return self.poll_closed(Half::Writer, cx).map(Ok);
        }
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}

impl<T, V> Stream for Expiring<T, V>
where
    T: Transport<Message, In = Message>,
    V: Verify<Response: Principal>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            match this.inner.poll_next(cx) {
                Poll::Ready(item) => return Poll::Ready(item.map(|item| item.map_err(Into::into))),
                Poll::Pending if this.alarm.waits(Half::Reader, cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        self.poll_next_with_care(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for the error at the end.
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T, V> Expiring<T, V>
where
    T: Transport<Message, In = Message>,
    V: Verify<Response: Principal>,
{
    /// Kept out of the path of messages that pass, because it makes a function large.
    #[inline(never)]
    fn poll_next_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            self.as_mut().look_at_alarm();
            if self.verifying.is_some() {
                self.as_mut().poll_verify(cx);
            }
            if self.sink.has_ended() {
                return self.poll_rest(cx);
            }
            let mut this = self.as_mut().project();
            if this.verifier.is_some() {
                // If the transport cannot be written, its stream ends too, so other errors are ignored here.
                if let Some(rejected) = this.sink.poll_send_rejected(this.inner.as_mut(), cx) {
                    return Poll::Ready(Some(Err(rejected)));
                }
            }
            let item = match this.inner.poll_next(cx) {
                Poll::Ready(item) => item,
                Poll::Pending if this.alarm.waits(Half::Reader, cx) => return Poll::Pending,
                Poll::Pending => continue,
            };
            match item {
                // Without a verifier no token was asked for, and a message that ends like a mark is the user's.
                Some(Ok(message)) if this.verifier.is_some() => match trailer::open(trailer::Layer::Auth, message) {
                    Opened::Plain(message) => return Poll::Ready(Some(Ok(message))),
                    Opened::Marked(kind, body) => self.as_mut().take_token(kind, &body),
                },
                item => return Poll::Ready(item.map(|item| item.map_err(Into::into))),
            }
        }
    }
}

impl<T, V> Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    /// Sends a message of the user that must not be taken for one of this layer.
    #[inline(never)]
    fn start_marked(sink: &mut LayerSink<Message>, inner: Pin<&mut T>, message: Message) -> Result<(), Error> {
        sink.start_send(inner, trailer::close(trailer::Layer::Auth, message))
    }

    #[inline(never)]
    fn poll_ready_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            let this = self.as_mut().project();
            let ready = this.sink.poll_ready(this.inner, cx);
            if ready.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return ready;
            }
        }
    }

    #[inline(never)]
    fn poll_flush_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            if self.sink.has_ended() {
                // Messages that were accepted before are sent ahead of the close message.
                ready!(self.as_mut().poll_closed(Half::Writer, cx));
            }
            let this = self.as_mut().project();
            let flushed = this.sink.poll_flush(this.inner, cx);
            if flushed.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return flushed;
            }
        }
    }
}

/// A timer that costs an idle message one load. The timer has its own waker, which raises a flag and wakes both halves
/// of the transport. It therefore fires for whichever half is polled, even under a flood that never lets a poll be
/// `Pending`.
struct Alarm {
    flag: Arc<WakeFlag>,
    waker: Waker,
    timer: Timer,
    /// Not yet passed to the timer: that requires a runtime, which is present in the first poll.
    deadline: Option<Instant>,
}

#[derive(Default)]
struct WakeFlag {
    is_woken: AtomicBool,
    wakers: WakerPair,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First the flag and then the wakers: `waits` registers and then looks at the flag, so one of the two sees the
        // other.
        self.is_woken.store(true, Ordering::Release);
        self.wakers.wake_both();
    }
}

impl Alarm {
    fn new() -> Self {
        let flag = Arc::new(WakeFlag::default());
        Self { waker: flag.clone().into(), flag, timer: Timer::new(), deadline: None }
    }

    /// Sets the alarm to `deadline`, replacing any earlier deadline.
    fn set_at(&mut self, deadline: Option<Instant>) {
        self.timer.clear();
        self.deadline = deadline;
        self.flag.wake_by_ref();
    }

    /// Returns whether nothing needs attention.
    #[inline]
    fn is_silent(&self) -> bool {
        !self.flag.is_woken.load(Ordering::Acquire)
    }

    /// Returns whether the alarm fired, once per alarm.
    #[inline]
    fn has_rung(&mut self) -> bool {
        self.flag.is_woken.load(Ordering::Acquire) && self.look()
    }

    fn look(&mut self) -> bool {
        // Cleared before the timer is polled, so that an alarm in between is not lost.
        self.flag.is_woken.store(false, Ordering::Release);
        if let Some(deadline) = self.deadline.take() {
            self.timer.set_at(deadline);
        }
        self.timer.poll(&mut Context::from_waker(&self.waker)).is_ready()
    }

    /// Registers the half's task to be woken when the alarm fires. Returns `false` if it has fired already; the caller
    /// must check again.
    fn waits(&self, half: Half, cx: &Context<'_>) -> bool {
        // Registered before the look; see `wake_by_ref`.
        self.flag.wakers.register(half, cx);
        !self.flag.is_woken.load(Ordering::Acquire)
    }

    /// Returns a waker that wakes both halves, for work on behalf of both.
    fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("is_set", &(self.deadline.is_some() || self.timer.is_set())).finish()
    }
}
