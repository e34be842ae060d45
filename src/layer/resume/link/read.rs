use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{ANSWER, CLOSE, End, Event, Link, refused_below};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::resume::{
        state::{Acknowledgement, Core},
        wire::{self, Own, Read},
    },
};

/// How many messages of this layer's own one poll reads, before others have their turn.
const BUDGET: usize = 64;

/// How long the peer's close message is waited for, once the peer has said that the session is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    /// Reads on the writer's task: an acknowledgement may stand behind what the user has not asked for yet. `Pending` means that
    /// there may be more to read at once; both halves are woken then.
    pub(in crate::layer::resume) fn read_ahead(&mut self, core: &mut Core) -> Poll<()> {
        self.sink_reads = true;
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        for _ in 0..BUDGET {
            if self.ended.is_some() || self.is_parting() {
                return Poll::Ready(());
            }
            match self.poll_read(core, &mut cx) {
                Poll::Pending => {
                    if !self.is_parting()
                        && let Some(end) = self.cut_by_write()
                    {
                        self.part(end, None, ANSWER);
                        self.halves.reader.wake();
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => {
                    if let Err(error) = core.read_ahead(message) {
                        if error.is_full() {
                            self.give_up(error);
                        } else {
                            self.refuse(error);
                        }
                    }
                    // A reader that found nothing is to look again.
                    self.halves.reader.wake();
                }
                Poll::Ready(Err(end)) => {
                    self.end_after_inbox(core, end);
                    return Poll::Ready(());
                }
            }
        }
        self.both.wake_by_ref();
        Poll::Pending
    }

    /// How the connection ends: told once the user has what was read before, and once its close is out.
    fn end_after_inbox(&mut self, core: &Core, end: End) {
        if core.inbox.is_empty() && !matches!(end, End::Rejected(_)) {
            self.begin_end(end);
        } else {
            self.ended = Some(end);
        }
        self.halves.reader.wake();
    }

    /// Reads what the peer still says on a connection that cannot be written. `Ready` once that is known, or nothing came in time.
    pub(in crate::layer::resume) fn poll_last_words(&mut self, core: &mut Core, cx: &Context<'_>) -> Poll<()> {
        self.halves.writer.register(cx.waker());
        ready!(self.read_ahead(core));
        if self.is_parting() {
            self.ended = Some(ready!(self.poll_parted()));
            self.halves.reader.wake();
        }
        Poll::Ready(())
    }

    /// Lets the connection end so.
    fn begin_end(&mut self, end: End) {
        match end {
            // It may have a close to say, unless it cannot be written.
            End::Cut(Some(error)) => {
                let time = if self.write_failed.is_some() { ANSWER } else { CLOSE };
                self.part(End::Cut(Some(error)), None, time);
            }
            end => self.ended = Some(end),
        }
    }

    /// The next message, or how the connection ends. Writes what waits.
    pub(in crate::layer::resume) fn poll_next(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..BUDGET {
            if let Some(error) = core.take_refusal() {
                return Poll::Ready(Event::Rejected(error));
            }
            if let Some(message) = core.take_read() {
                return Poll::Ready(self.given(core, message, cx));
            }
            if self.is_parting() {
                self.halves.reader.register(cx.waker());
                return self.poll_parted().map(Event::End);
            }
            match self.ended.take() {
                None => {}
                Some(End::Rejected(error)) => {
                    core.reject_incoming(error);
                    let end = Error::closed("resume: this end closed the connection after a message that it rejected");
                    let frame =
                        CloseFrame::new(CloseCode::RESTART, "resume: a message was rejected; the session goes on");
                    self.part(End::Cut(Some(end)), Some(frame), ANSWER);
                    // What can be done at once is done, for callers that do not poll again after an error.
                    if let Poll::Ready(end) = self.poll_parted() {
                        self.ended = Some(end);
                    }
                    continue;
                }
                Some(end) => return Poll::Ready(Event::End(end)),
            }
            let polled = if self.sink_reads {
                self.halves.reader.register(cx.waker());
                let both = self.both.clone();
                self.poll_read(core, &mut Context::from_waker(&both))
            } else {
                self.poll_read(core, cx)
            };
            match polled {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => {
                    core.give(&message);
                    return Poll::Ready(self.given(core, message, cx));
                }
                Poll::Ready(Err(end)) => self.begin_end(end),
                Poll::Pending if self.is_parting() => {}
                Poll::Pending => {
                    self.halves.reader.register(cx.waker());
                    if self.poll_idle(core, cx).is_ready() {
                        return Poll::Ready(Event::End(End::Over));
                    }
                    match self.cut_by_write() {
                        Some(End::Cut(error)) => self.part(End::Cut(error), None, ANSWER),
                        Some(end) => return Poll::Ready(Event::End(end)),
                        // A write may have found out something to tell.
                        None if core.has_refusal() => {}
                        None => return Poll::Pending,
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The user gets this message; the peer is told when that makes enough of them.
    fn given(&mut self, core: &mut Core, message: Message, cx: &Context<'_>) -> Event {
        self.acknowledgement = self.acknowledgement.max(core.incoming.acknowledgement());
        if self.acknowledgement == Acknowledgement::Now {
            self.halves.reader.register(cx.waker());
            let _ = self.poll_write(core);
        }
        Event::Message(message)
    }

    /// A connection that cannot be written and has nothing to read: what the peer may still say comes again on the next.
    fn cut_by_write(&self) -> Option<End> {
        self.write_failed.clone().map(|error| End::Cut(Some(self.with_peer_close(error))))
    }

    /// While nothing comes in: acknowledges late what is owed, and writes what waits. Ready when the peer's last words are
    /// not worth waiting for.
    fn poll_idle(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<()> {
        if self.heard_bye {
            return self.timer.poll(cx);
        }
        if core.incoming.is_owed() && self.acknowledgement != Acknowledgement::Now {
            // The timer wakes both halves, so it is polled once and not on each `Pending`.
            let is_late = if self.timer.is_set() {
                self.timer.has_rung()
            } else {
                self.timer.set(self.ack_delay);
                let both = self.both.clone();
                self.timer.start(&mut Context::from_waker(&both)).is_ready()
            };
            if is_late {
                self.timer.clear();
                self.acknowledgement = Acknowledgement::Now;
            }
        }
        if self.is_dirty || !self.is_quiet(core) {
            let _ = self.poll_write(core);
        }
        Poll::Pending
    }

    /// One message from below; `None` for one of this layer's own.
    fn poll_read(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, End>> {
        let message = match ready!(self.inner().poll_next(cx)) {
            Some(Ok(message)) => message,
            _ if self.heard_bye => return Poll::Ready(Err(End::Over)),
            Some(Err(error)) => {
                let error = error.into();
                let end = match () {
                    () if !error.is_rejection() => End::Cut(Some(error)),
                    () if error.may_have_been_executed() => End::Rejected(error),
                    // Of messages that this end sent, and which ones is not known: all are sent again on the next connection.
                    () => End::Cut(Some(refused_below(error))),
                };
                return Poll::Ready(Err(self.explained(end)));
            }
            None if self.said_bye => return Poll::Ready(Err(End::Over)),
            None => {
                let frame = self.peer_close.clone();
                let closed = || Error::closed("resume: the peer closed the connection");
                let cause = frame.map(|frame| closed().with_close_frame(Some(frame)));
                return Poll::Ready(Err(End::Cut(cause)));
            }
        };
        if let Message::Close(frame) = &message {
            self.peer_close.clone_from(frame);
            self.heard_close = true;
            core.peer_closed(frame.as_ref());
        }
        if message.is_control() || (!self.heard_bye && !wire::is_marked(&message)) {
            return Poll::Ready(Ok(Some(message)));
        }
        match self.receive(core, message) {
            Ok(message) => Poll::Ready(Ok(message)),
            Err(error) => {
                self.refuse(error);
                Poll::Pending
            }
        }
    }

    fn receive(&mut self, core: &mut Core, message: Message) -> Result<Option<Message>, Error> {
        if self.heard_bye {
            return Err(Error::protocol("resume: the peer goes on after it has ended the session"));
        }
        let ack = match wire::read(message)? {
            Read::Plain(message) => return Ok(Some(message)),
            Read::Own(Own::Ack(ack)) => ack,
            Read::Own(Own::Bye(ack)) => {
                self.heard_bye = true;
                core.is_over = true;
                self.timer.set(LAST_WORDS);
                ack
            }
            Read::Own(Own::Hello(_) | Own::Welcome(_)) => {
                return Err(Error::protocol("resume: the peer opens a session on a connection that has one"));
            }
        };
        core.acknowledged(ack)?;
        if self.sink_reads && (core.out.has_room() || core.out.has_next()) {
            self.sink_reads = false;
            self.halves.writer.wake();
        }
        Ok(None)
    }

    /// This connection alone cannot go on.
    fn give_up(&mut self, error: Error) {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "resume: out of memory for sessions");
        let end = Error::closed("resume: this end closed the connection").with_source(error);
        self.part(End::Cut(Some(end)), Some(frame), ANSWER);
    }

    /// The session cannot go on. The peer is told why.
    fn refuse(&mut self, error: Error) {
        let frame = CloseFrame::new(CloseCode::PROTOCOL, "resume: protocol error");
        self.part(End::Broken(error), Some(frame), ANSWER);
    }
}
