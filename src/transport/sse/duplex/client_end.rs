//! The client's end.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use super::{
    event,
    outbox::{Batch, Outbox},
    poster::{Lost, Post, Poster},
};
use crate::{
    CloseFrame, Error, Limits, MaybeSend, Message,
    sync::Mutex,
    threads::dyn_send,
    transport::{
        closing::{self, Closable, Closing, Received, fault_frame},
        framing,
        signal::{self, Mark},
        sse::downlink::Downlink,
        wakers::{Half, WakerPair, WakerSlot},
    },
};

#[derive(Debug)]
pub(super) struct ClientEnd {
    /// The receiving direction, or `None` once it has ended.
    down: Option<Downlink>,
    up: Uplink,
    pub(super) closing: Closing,
    limit: usize,
    /// The bytes that moved while the POST in flight was not acknowledged.
    moved: u64,
    halves: Arc<WakerPair>,
    /// A waker for both halves, since either half drives the sending direction.
    both: Waker,
    /// The reading half's task, woken when the sending direction fails, or is answered, under the writing half.
    reader: WakerSlot,
}

impl ClientEnd {
    pub(super) fn new(down: Downlink, up: Uplink, limits: Limits) -> Self {
        let (halves, both) = WakerPair::new();
        let closing = Closing::new(limits.close).with_idle(limits.idle);
        Self {
            down: Some(down),
            up,
            closing,
            limit: limits.message,
            moved: 0,
            halves,
            both,
            reader: WakerSlot::default(),
        }
    }

    fn poll_up(&mut self) {
        let (waiting, mark) = (self.up.outbox.lock().len(), Mark::now());
        if self.up.poll(&mut Context::from_waker(&self.both)) || self.up.outbox.lock().is_answered() {
            self.reader.wake();
        }
        let is_same = self.up.outbox.lock().len() == waiting;
        self.moved = if is_same { self.moved.saturating_add(mark.moved()) } else { 0 };
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        let Some(down) = &mut self.down else { return Poll::Ready(Ok(None)) };
        let limit = self.limit;
        down.poll_event(cx).map(|event| match event {
            Ok(event) => event.map(|event| event::decode(event, limit)).transpose(),
            Err(error) if error.is_too_large() => {
                Err(error.context(format!("an incoming message is over the limit of {limit} bytes (Limits::message)")))
            }
            Err(error) => Err(error),
        })
    }

    /// Returns why nothing can be sent any more. If the server knows the reason, its last messages and its close, which
    /// may be in flight, say more.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        let error = self.up.failed()?.clone();
        let unsent = self.unsent();
        if self.up.has_last_words() && self.closing.poll_deadline(Half::Reader, unsent, cx).is_pending() {
            return None;
        }
        Some(error)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.closing.is_open() || self.up.failed().is_some() {
            return Poll::Ready(Err(self.closed()));
        }
        if self.up.outbox.lock().has_room() {
            return Poll::Ready(Ok(()));
        }
        self.halves.writer.register(cx.waker());
        self.up.outbox.lock().push();
        closing::poll_room(self, cx, |this, _| {
            this.poll_up();
            if this.up.failed().is_some() {
                return Poll::Ready(Err(this.closed()));
            }
            if this.up.outbox.lock().has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    }

    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        if !self.closing.is_open() || self.up.failed().is_some() {
            return Err(self.closed());
        }
        framing::check_outgoing(&message, self.limit)?;
        match message {
            Message::Close(frame) => self.start_close(frame),
            message => self.up.outbox.lock().send(&message),
        }
        Ok(())
    }
}

impl Closable for ClientEnd {
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.up.failed().is_some()
    }

    fn closed(&mut self) -> Error {
        match self.up.failed() {
            // Keeps the kind and status: a permanent rejection must not be mistaken for a lost connection.
            Some(error) if self.closing.peer_close().is_none() => error.clone().context("nothing can be sent any more"),
            _ => self.closing.closed(),
        }
    }

    fn late(&mut self) -> Error {
        self.up.failed().cloned().unwrap_or_else(|| self.closing.late())
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.closing.is_open() {
            self.up.outbox.lock().close(&Message::Close(frame));
            self.closing.start();
            self.reader.wake();
        }
    }

    fn answer_close(&mut self, frame: Option<CloseFrame>) {
        self.start_close(frame);
        self.up.outbox.lock().answer();
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if self.up.outbox.lock().is_answering() {
            self.halves.reader.register(cx.waker());
            self.poll_up();
        }
    }

    fn poll_told(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.up.failed().is_some() || !self.up.outbox.lock().is_answering() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn unsent(&mut self) -> u64 {
        (self.up.outbox.lock().len() as u64).saturating_sub(self.moved)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        // The operating system takes the bytes of a dead line, too. An answer is the server's sign of life.
        signal::moved(self.up.outbox.lock().take_answered());
        Poll::Ready(match ready!(self.poll_message(cx)) {
            Ok(Some(message)) => {
                // Nothing is sent after a close.
                if let Message::Ping(payload) = &message
                    && self.closing.is_open()
                {
                    self.up.outbox.lock().pong(payload.clone());
                }
                Received::Message(message)
            }
            Ok(None) => Received::Lost(Error::closed("the server ended the event stream without a close")),
            Err(error) if error.is_closed() || error.is_timeout() => Received::Lost(error),
            // The event stream stays open, unread. Otherwise the session would end with it before the server was told.
            Err(error) => {
                let frame = fault_frame(&error);
                Received::Fault(error, frame)
            }
        })
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        let refused = self.poll_refused(cx);
        if refused.is_none() {
            self.reader.register(cx);
        }
        refused
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.up.outbox.lock().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.closing.has_ended() {
            return Poll::Ready(Err(self.closed()));
        }
        self.halves.writer.register(cx.waker());
        self.up.outbox.lock().push();
        self.poll_up();
        if self.up.outbox.lock().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.up.failed().is_some() { Poll::Ready(Err(self.closed())) } else { Poll::Pending }
    }

    fn wake_writer(&mut self) {
        self.halves.writer.wake();
    }

    fn shut(&mut self, _: &mut Context<'_>) {
        self.down = None;
        self.up.end();
    }
}

/// The sending direction of a client: accepted messages, and the future that brings them to the server, one POST at a
/// time. The half that waits for it drives it.
pub(super) struct Uplink {
    outbox: Arc<Mutex<Outbox>>,
    /// The delivery, which resolves only to a failure; `None` once it has ended.
    delivery: Option<Pin<Box<dyn_send!(Future<Output = Lost>)>>>,
    failed: Option<Lost>,
}

impl Uplink {
    pub(super) fn new(outbox: Outbox, poster: Poster<impl Post + MaybeSend + 'static>) -> Self {
        let outbox = Arc::new(Mutex::new(outbox));
        let delivery = Box::pin(deliver(outbox.clone(), poster));
        Self { outbox, delivery: Some(delivery), failed: None }
    }

    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref().map(|lost| &lost.error)
    }

    /// Returns whether the server may have more to say about the failure.
    pub(super) fn has_last_words(&self) -> bool {
        self.failed.as_ref().is_some_and(|lost| lost.has_last_words)
    }

    /// Makes progress. Returns `true` if the delivery failed just now. `cx` wakes both halves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(delivery) = &mut self.delivery else { return false };
        let Poll::Ready(lost) = delivery.as_mut().poll(cx) else { return false };
        self.delivery = None;
        self.failed = Some(lost);
        true
    }

    /// Drops the connection and a POST in flight.
    pub(super) fn end(&mut self) {
        self.delivery = None;
    }
}

async fn deliver(outbox: Arc<Mutex<Outbox>>, mut poster: Poster<impl Post>) -> Lost {
    loop {
        let batch = next_batch(&outbox).await;
        if let Err(lost) = poster.deliver(batch, |bytes| outbox.lock().answered(bytes)).await {
            return lost;
        }
        outbox.lock().acknowledged();
    }
}

/// Waits without a waker: the code that pushes to the outbox polls this.
async fn next_batch(outbox: &Mutex<Outbox>) -> Batch {
    poll_fn(|_| match outbox.lock().next_batch() {
        Some(batch) => Poll::Ready(batch),
        None => Poll::Pending,
    })
    .await
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").field("failed", &self.failed).finish_non_exhaustive()
    }
}
