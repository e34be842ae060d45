use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{End, Event, Link};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::resume::{
        state::Core,
        wire::{self, Own, Read},
    },
};

/// How many messages of this layer's own one poll reads, before others have their turn.
const BUDGET: usize = 64;

/// How long the peer's close message is waited for, once the peer has said that the session is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    /// Reads on the writer's task: an acknowledgement may stand behind what the user has not asked for yet.
    pub(in crate::layer::resume) fn read_ahead(&mut self, core: &mut Core) {
        self.sink_reads = true;
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        for _ in 0..BUDGET {
            if self.ended.is_some() {
                return;
            }
            match self.poll_read(core, &mut cx) {
                Poll::Pending => {
                    self.ended = self.cut_by_write();
                    if self.ended.is_some() {
                        self.halves.reader.wake();
                    }
                    return;
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => {
                    if let Err(error) = core.read_ahead(message) {
                        self.ended = Some(if error.is_full() { self.give_up(error) } else { self.refuse(error) });
                    }
                    // A reader that found nothing is to look again.
                    self.halves.reader.wake();
                }
                Poll::Ready(Err(end)) => {
                    self.ended = Some(end);
                    self.halves.reader.wake();
                    return;
                }
            }
        }
        self.both.wake_by_ref();
    }

    /// The next message, or how the connection ends. Writes what waits.
    pub(in crate::layer::resume) fn poll_next(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..BUDGET {
            if let Some(message) = core.take_read() {
                return Poll::Ready(self.given(core, message, cx));
            }
            if let Some(end) = self.ended.take() {
                return Poll::Ready(Event::End(end));
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
                Poll::Ready(Err(end)) => return Poll::Ready(Event::End(end)),
                Poll::Pending => {
                    self.halves.reader.register(cx.waker());
                    if self.poll_idle(core, cx).is_ready() {
                        return Poll::Ready(Event::End(End::Over));
                    }
                    return match self.cut_by_write() {
                        Some(end) => Poll::Ready(Event::End(end)),
                        None => Poll::Pending,
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The user gets this message; the peer is told when that makes enough of them.
    fn given(&mut self, core: &mut Core, message: Message, cx: &Context<'_>) -> Event {
        self.ack_waits |= core.incoming.is_due();
        if self.ack_waits {
            self.halves.reader.register(cx.waker());
            let _ = self.poll_write(core);
        }
        Event::Message(message)
    }

    /// A connection that cannot be written and has nothing to read: what the peer may still say comes again on the next.
    fn cut_by_write(&self) -> Option<End> {
        self.write_failed.clone().map(|error| End::Cut(Some(error)))
    }

    /// While nothing comes in: acknowledges late what is owed, and writes what waits. Ready when the peer's last words are
    /// not worth waiting for.
    fn poll_idle(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<()> {
        if self.heard_bye {
            return self.timer.poll(cx);
        }
        if core.incoming.is_owed() && !self.ack_waits {
            if !self.timer.is_set() {
                self.timer.set(self.ack_delay);
            }
            self.ack_waits = self.timer.poll(cx).is_ready();
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
            Some(Err(error)) => return Poll::Ready(Err(End::Cut(Some(error.into())))),
            None if self.said_bye => return Poll::Ready(Err(End::Over)),
            None => return Poll::Ready(Err(End::Cut(None))),
        };
        if message.is_control() || (!self.heard_bye && !wire::is_marked(&message)) {
            return Poll::Ready(Ok(Some(message)));
        }
        Poll::Ready(self.receive(core, message).map_err(|error| self.refuse(error)))
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
    fn give_up(&mut self, error: Error) -> End {
        self.leave(CloseFrame::new(CloseCode::TRY_AGAIN, "resume: out of memory for sessions"));
        End::Cut(Some(Error::closed("resume: this end closed the connection").with_source(error)))
    }

    /// Tells the peer why, as far as that goes at once.
    fn refuse(&mut self, error: Error) -> End {
        let frame = CloseFrame::new(CloseCode::PROTOCOL, "resume: protocol error");
        self.leave(frame);
        End::Broken(error)
    }
}
