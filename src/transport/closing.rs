//! The closing handshake, the same for WebSocket, both ends of SSE with POST, and WebTransport.
//!
//! A transport implements [`Closable`], which says how *it* sends, reads and ends. The functions of this module decide
//! when:
//!
//! ```text
//!      Message::Close sent, poll_close, a drain     the peer's close frame came, or the peer ended in order:
//!                   ┌────────────────────── Open    Message::Close is yielded, the answer is queued
//!                   │ close frame queued     │ └──────────────────────────────────────────┐
//!                   ▼                        │ the peer broke the protocol, or a limit:   │
//!                Closing ──────────────────► │ close frame queued                         ▼
//!                   │   └────────────────────┼───────────────────────────────────────► Leaving
//!                   │ the time ran out:      ▼                                            │
//!                   │ Err(is_timeout)     Failing                                         │ the answer is written,
//!                   │                        │ the peer knows, or the time ran out:       │ or the time ran out:
//!                   ▼                        │ Err(what it did)                           │ None
//!                 Ended ◄────────────────────┘◄───────────────────────────────────────────┘
//! ```
//!
//! A connection that is lost goes from any state to *Ended*, with an error for which `is_closed` is true. So does one
//! that a drain cuts. *Ended* yields `None`, again and again. From the first close frame on, the sink returns an error.
//!
//! # Time
//!
//! The time is `Limits::close`. It counts from the last progress of the bytes that were queued up to the close frame: a
//! close behind megabytes on a slow line takes as long as the megabytes do. A peer that takes a byte now and then could
//! make that last forever, so the whole handshake takes at most [`PATIENCE`](rt::PATIENCE) times the limit.
//!
//! Each half has its own timer, because the halves may be polled by different tasks and one of them not at all. The
//! reading half ends the transport; the writing half only returns the error.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{burst::Burst, drain::Member, idle::Idle, signal, wakers::Half};
use crate::{
    CloseCode, CloseFrame, Error, Message, Text,
    rt::{self, Instant, Progress, Timer},
};

/// How far the closing handshake is.
#[derive(Debug)]
pub(crate) enum Phase {
    Open,
    /// Our close frame was sent or is queued.
    Closing,
    /// The peer has sent its last message; ours may still have to be written.
    Leaving,
    /// The peer is at fault, and is being told.
    Failing(Error),
    Ended,
}

/// The state of a closing handshake.
#[derive(Debug)]
pub(crate) struct Closing {
    phase: Phase,
    peer_close: Option<CloseFrame>,
    limit: Duration,
    /// Allocated when a half first waits for the end.
    timers: Option<Box<Timers>>,
    burst: Burst,
    idle: Idle,
}

#[derive(Debug)]
struct Timers {
    progress: Progress,
    reader: Timer,
    writer: Timer,
    is_over: bool,
}

impl Closing {
    /// Creates the state of an open transport. `limit` is its `Limits::close`.
    pub(crate) fn new(limit: Duration) -> Self {
        let (burst, idle) = (Burst::default(), Idle::new(Duration::MAX));
        Self { phase: Phase::Open, peer_close: None, limit, timers: None, burst, idle }
    }

    /// Ends the transport once nothing has moved for this time: its `Limits::idle`.
    pub(crate) fn with_idle(mut self, limit: Duration) -> Self {
        self.idle = Idle::new(limit);
        self
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Records that our close frame is queued.
    pub(crate) fn start(&mut self) {
        if self.is_open() {
            self.phase = Phase::Closing;
        }
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    pub(crate) fn peer_close(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    /// Records a close frame that arrived in another way than as a message.
    pub(crate) fn set_peer_close(&mut self, frame: Option<CloseFrame>) {
        if self.peer_close.is_none() {
            self.peer_close = frame;
        }
    }

    /// Creates the sink's error from the first close frame on.
    pub(crate) fn closed(&self) -> Error {
        let error = match &self.phase {
            Phase::Failing(error) => Error::closed("the connection failed").with_source(error.clone()),
            _ if self.peer_close.is_some() => Error::closed("the peer closed the connection"),
            _ => Error::closed("the connection is closed"),
        };
        error.with_close_frame(self.peer_close.clone())
    }

    /// Creates the error for a peer that was given up.
    pub(crate) fn late(&self) -> Error {
        let limit = self.limit;
        Error::timeout(format!("the peer did not finish the closing handshake within {limit:?} (Limits::close)"))
    }

    /// Returns `Ready` once the close has taken too long, from then on for both halves. The time starts at the first
    /// call.
    pub(crate) fn poll_deadline(&mut self, half: Half, unsent: u64, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let Timers { progress, reader, writer, is_over } = &mut **self.timers.get_or_insert_with(|| {
            Box::new(Timers {
                progress: Progress::new(limit, unsent, Instant::now()),
                reader: Timer::new(),
                writer: Timer::new(),
                is_over: false,
            })
        });
        let timer = match half {
            Half::Reader => reader,
            Half::Writer => writer,
        };
        while !*is_over {
            let now = Instant::now();
            progress.record(unsent, now);
            // A timer that is set is not set again for each byte: it fires early, and is set for the rest.
            if timer.is_set() {
                ready!(timer.poll(cx));
            }
            let left = progress.left(Instant::now());
            *is_over = left.is_zero();
            timer.set(left);
        }
        Poll::Ready(())
    }
}

/// The next event of the receiving direction.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// The peer ended in order, without another message.
    Finished,
    /// The peer is at fault, and is to be told so with this frame.
    Fault(Error, CloseFrame),
    /// The connection is gone.
    Lost(Error),
}

/// A transport that ends by the closing handshake of this module.
pub(crate) trait Closable {
    fn closing(&mut self) -> &mut Closing;

    /// Returns whether nothing can be sent for another reason than a close.
    fn has_failed(&mut self) -> bool;

    /// Returns the membership in a server's drain, if there is one.
    fn member(&mut self) -> Option<&mut Member> {
        None
    }

    /// Creates the sink's error once nothing can be sent.
    fn closed(&mut self) -> Error {
        self.closing().closed()
    }

    /// Creates the stream's error for a peer that was given up.
    fn late(&mut self) -> Error {
        self.closing().late()
    }

    /// Queues our close frame and [records](Closing::start) it, unless that was done before.
    fn start_close(&mut self, frame: Option<CloseFrame>);

    /// Like [`start_close`](Self::start_close), for a frame that must leave even if no task flushes.
    fn answer_close(&mut self, frame: Option<CloseFrame>) {
        self.start_close(frame);
    }

    /// Queues a message that its server sends to all connections. It must leave even if no task flushes.
    fn send_notice(&mut self, _message: Message) {}

    /// Writes pongs and close frames even if no task flushes.
    fn poll_answer(&mut self, _cx: &mut Context<'_>) {}

    /// Returns `Ready` once the peer has everything that it will get.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns the number of bytes that still have to be sent.
    fn unsent(&mut self) -> u64;

    /// Reads one message.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received>;

    /// Called before the stream returns `Pending`. Returns the error of a transport that cannot go on.
    fn poll_idle(&mut self, _cx: &mut Context<'_>) -> Option<Error> {
        None
    }

    /// Writes everything that was accepted.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    fn wake_writer(&mut self);

    /// Releases the connection, as far as possible without waiting. May be called again.
    fn shut(&mut self, cx: &mut Context<'_>);
}

/// `Stream::poll_next`.
#[inline]
pub(crate) fn poll_next<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
    loop {
        if this.member().is_some()
            && let Some(error) = poll_drain(this, cx)
        {
            return Poll::Ready(Some(Err(error)));
        }
        this.poll_answer(cx);
        let is_late = match this.closing().phase {
            Phase::Open => false,
            // Checked before reading, because a peer may keep sending. A close that arrived in time still counts if it
            // was read late.
            Phase::Closing => poll_deadline(this, Half::Reader, cx).is_ready(),
            Phase::Leaving | Phase::Failing(_) => {
                if this.poll_told(cx).is_pending() && poll_deadline(this, Half::Reader, cx).is_pending() {
                    return Poll::Pending;
                }
                return Poll::Ready(match end(this, cx) {
                    Phase::Failing(error) => Some(Err(error)),
                    _ => None,
                });
            }
            Phase::Ended => return Poll::Ready(None),
        };
        if this.closing().burst.is_over(cx) {
            return Poll::Pending;
        }
        let mark = this.closing().idle.mark();
        let received = this.poll_receive(cx);
        this.closing().idle.record(mark);
        this.closing().burst.record(received.is_ready());
        match received {
            Poll::Ready(Received::Message(message)) if !is_late || message.is_close() => {
                if let Message::Close(frame) = &message {
                    this.closing().peer_close.clone_from(frame);
                    this.answer_close(frame.clone());
                    this.closing().phase = Phase::Leaving;
                    this.wake_writer();
                }
                this.poll_answer(cx);
                return Poll::Ready(Some(Ok(message)));
            }
            Poll::Ready(Received::Finished) => {
                this.closing().phase = Phase::Leaving;
                this.wake_writer();
            }
            // The peer is told before the connection is cut: cutting now could prevent it from receiving our close
            // frame (RFC 6455, 7.1.1).
            Poll::Ready(Received::Fault(error, frame)) => fail(this, error, frame),
            Poll::Ready(Received::Lost(error)) => {
                end(this, cx);
                return Poll::Ready(Some(Err(error)));
            }
            Poll::Pending if !is_late => {
                this.poll_answer(cx);
                let mark = this.closing().idle.mark();
                if let Some(error) = this.poll_idle(cx) {
                    end(this, cx);
                    return Poll::Ready(Some(Err(error)));
                }
                this.closing().idle.record(mark);
                if this.closing().is_open()
                    && let Poll::Ready(error) = this.closing().idle.poll(cx)
                {
                    fail(this, error, CloseFrame::new(CloseCode::AWAY, Text::from_static("idle")));
                    continue;
                }
                if !this.member().is_some_and(|member| member.reader_waits(cx)) {
                    return Poll::Pending;
                }
            }
            Poll::Ready(Received::Message(_)) | Poll::Pending => {
                let error = this.late();
                end(this, cx);
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// Tells the peer why the connection fails.
fn fail<T: Closable>(this: &mut T, error: Error, frame: CloseFrame) {
    this.answer_close(Some(frame));
    this.closing().phase = Phase::Failing(error);
    this.wake_writer();
}

/// The checks with which `Sink::poll_ready` begins. Returns an error if no message is accepted any more.
#[inline]
pub(crate) fn check_open<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Result<(), Error> {
    if !this.closing().is_open() {
        return Err(this.closed());
    }
    if this.member().is_none() {
        return Ok(());
    }
    if let Some(error) = cut(this, cx) {
        return Err(error);
    }
    send_notices(this);
    match this.member().and_then(|member| member.poll_writer()) {
        None => Ok(()),
        Some(frame) => {
            this.answer_close(Some(frame));
            // If no task reads, no other task may flush.
            this.poll_answer(cx);
            Err(this.closed())
        }
    }
}

/// `Sink::poll_ready` of an open transport, for which `poll` makes room.
#[inline]
pub(crate) fn poll_room<T: Closable, R>(
    this: &mut T,
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<R>,
) -> Poll<R> {
    let mark = this.closing().idle.mark();
    let room = poll(this, cx);
    this.closing().idle.record(mark);
    writer_waits(this, &room, cx);
    room
}

/// Records the writing half's state for a drain.
#[inline]
fn writer_waits<T: Closable, R>(this: &mut T, polled: &Poll<R>, cx: &Context<'_>) {
    if let Some(member) = this.member()
        && member.writer_waits(polled, cx)
    {
        cx.waker().wake_by_ref();
    }
}

/// `Sink::poll_flush`. After our close frame it takes at most the time of a close.
#[inline]
pub(crate) fn poll_flush<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    let mark = this.closing().idle.mark();
    let written = this.poll_written(cx);
    this.closing().idle.record(mark);
    writer_waits(this, &written, cx);
    if written.is_pending() && !this.closing().is_open() {
        ready!(poll_deadline(this, Half::Writer, cx));
        return Poll::Ready(Err(this.closing().late()));
    }
    written
}

/// `Sink::poll_close`. Sends a close frame, unless it was already sent, and flushes. The frame is the one that the
/// caller [asks for](signal::close_frame), that of a drain, or has the code 1000. The stream reads the answer.
pub(crate) fn poll_close<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    if this.closing().is_open() && !this.has_failed() {
        let frame = signal::close_frame().or_else(|| this.member()?.frame());
        this.start_close(Some(frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""))));
    }
    match ready!(poll_flush(this, cx)) {
        // The caller wants the transport closed, and it is.
        Err(error) if error.is_closed() => Poll::Ready(Ok(())),
        result => Poll::Ready(result),
    }
}

/// Closes the transport and waits for its end. Returns the peer's close frame. Messages that still arrive are dropped.
pub(crate) async fn close<T: Closable>(this: &mut T, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
    if this.closing().is_open() && !this.has_failed() {
        this.start_close(frame);
    }
    poll_fn(|cx| {
        // Sending waits for the peer, and so does reading; neither waits for the other.
        let _ = poll_close(this, cx);
        loop {
            match ready!(poll_next(this, cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    })
    .await?;
    Ok(this.closing().peer_close.clone())
}

fn poll_deadline<T: Closable>(this: &mut T, half: Half, cx: &mut Context<'_>) -> Poll<()> {
    let unsent = this.unsent();
    this.closing().poll_deadline(half, unsent, cx)
}

/// Enters the final phase and returns the previous one.
fn end<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Phase {
    this.shut(cx);
    this.wake_writer();
    this.closing().timers = None;
    std::mem::replace(&mut this.closing().phase, Phase::Ended)
}

/// Checks the drain for the reading half: begins the close when it is time, and returns the cause if the connection is
/// cut.
fn poll_drain<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Option<Error> {
    if this.member().is_none_or(Member::is_quiet) {
        return None;
    }
    let cut = cut(this, cx);
    send_notices(this);
    if this.closing().is_open()
        && let Some(frame) = this.member().and_then(|member| member.poll_reader(cx))
    {
        this.answer_close(Some(frame));
        this.wake_writer();
    }
    cut
}

/// Sends the messages of a broadcast. A transport that closes drops them.
fn send_notices<T: Closable>(this: &mut T) {
    while let Some(message) = this.member().and_then(Member::take_notice) {
        if this.closing().is_open() && !this.has_failed() {
            this.send_notice(message);
        }
    }
}

/// Ends a connection that a drain cuts, and returns the cause.
fn cut<T: Closable>(this: &mut T, cx: &mut Context<'_>) -> Option<Error> {
    if this.closing().has_ended() {
        return None;
    }
    let error = this.member()?.cut()?;
    end(this, cx);
    Some(error)
}

/// Returns the close frame for a peer that exceeded a limit or violated the protocol.
pub(crate) fn fault_frame(error: &Error) -> CloseFrame {
    let code = if error.is_too_large() { CloseCode::TOO_BIG } else { CloseCode::PROTOCOL };
    coded_fault_frame(code)
}

/// Returns the close frame with which a peer at fault is told so.
pub(crate) fn coded_fault_frame(code: CloseCode) -> CloseFrame {
    let reason = match code {
        CloseCode::TOO_BIG => "message too big",
        CloseCode::INVALID_PAYLOAD => "text that is not UTF-8",
        _ => "protocol error",
    };
    CloseFrame::new(code, Text::from_static(reason))
}

/// Waits until the peer has the messages of a transport that was dropped, for `limit` from the last progress. `unsent`
/// returns the number of bytes that still have to be sent. Returns whether `done` finished.
pub(crate) async fn linger(limit: Duration, done: impl Future, mut unsent: impl FnMut() -> u64) -> bool {
    let mut done = pin!(done);
    let mut progress = Progress::new(limit, unsent(), Instant::now());
    loop {
        let left = progress.left(Instant::now());
        if rt::timeout(left, &mut done).await.is_ok() {
            return true;
        }
        if left.is_zero() {
            return false;
        }
        progress.record(unsent(), Instant::now());
    }
}
