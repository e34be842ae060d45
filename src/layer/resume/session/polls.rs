use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::Session;
use crate::{
    Error, Message, Transport,
    layer::resume::{
        link::{Event, Link},
        state::Core,
    },
    transport::signal,
};

/// What a sink method finds.
enum Way {
    /// A connection that can be written.
    Link,
    /// None: the client is away.
    Away,
    /// Something has changed.
    Again,
}

impl<T: Transport<Message, In = Message> + Unpin> Session<T> {
    fn way(&mut self, cx: &Context<'_>) -> Way {
        self.adopt();
        let Some(link) = &mut self.link else {
            self.halves.writer.register(cx.waker());
            return if self.ended.is_none() && self.check_ttl() { Way::Again } else { Way::Away };
        };
        if link.is_parting() {
            self.halves.writer.register(cx.waker());
            return match link.poll_parted() {
                Poll::Ready(end) => {
                    self.link_ended(end);
                    Way::Again
                }
                Poll::Pending => Way::Away,
            };
        }
        if link.write_failed().is_some() {
            // Its last words are read, so that its end is known.
            self.halves.writer.register(cx.waker());
            let _ = link.read_ahead(&mut self.core);
        }
        match (link.take_end(), link.write_failed()) {
            (Some(end), _) => {
                self.link_ended(end);
                Way::Again
            }
            (None, Some(_)) => Way::Away,
            (None, None) => Way::Link,
        }
    }

    /// Asks the connection, or what there is without one, until the answer stands.
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        mut link: impl FnMut(&mut Link<T>, &mut Core, &mut Context<'_>) -> Poll<Result<(), Error>>,
        away: impl Fn(&mut Self) -> Poll<Result<(), Error>>,
        check: impl Fn(&Self) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let way = self.way(cx);
            check(self)?;
            match (way, &mut self.link) {
                (Way::Again, _) => {}
                (Way::Link, Some(connection)) => match link(connection, &mut self.core, cx) {
                    // What failed is the connection: without it the session goes on.
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending if self.seat.slot.has_offer() => {}
                    poll => return poll,
                },
                _ => match away(self) {
                    Poll::Pending if self.seat.slot.has_offer() => {}
                    poll => return poll,
                },
            }
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Sink<Message> for Session<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let away = |this: &mut Self| if this.core.out.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending };
        self.poll_sink(cx, Link::poll_ready, away, Self::writable)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.writable()?;
        let this = &mut *self;
        match (&mut this.link, message) {
            (Some(link), message) => link.start_send(&mut this.core, message),
            (None, Message::Close(frame)) => {
                this.core.closing = Some(frame);
                Ok(())
            }
            // A ping to a client that is away has no meaning when it is back.
            (None, message) if message.is_control() => Ok(()),
            (None, _) if !this.core.out.has_room() => {
                Err(Error::full("resume: start_send without room; wait for poll_ready first"))
            }
            (None, message) => {
                this.core.out.push(message);
                Ok(())
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let away = |this: &mut Self| match this.core.out.unacknowledged() {
            (0, _) if this.core.closing.is_none() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        };
        let check = |this: &Self| this.ended.as_ref().map_or(Ok(()), |ended| Err(ended.sink.clone()));
        self.poll_sink(cx, Link::poll_flush, away, check)
    }

    /// Ends the session: what was accepted is sent, then the word that it is over, then the connection closed. While the
    /// client is away and lacks something, that waits for it.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(ended) = &self.ended {
            // Whoever closes wants it closed, and that it is, but for what the client does not have.
            let owes = self.core.closing.is_some() && self.core.out.unacknowledged().0 > 0 && !self.core.is_over;
            return Poll::Ready(if owes { Err(ended.sink.clone()) } else { Ok(()) });
        }
        self.core.closing.get_or_insert_with(signal::close_frame);
        let away = |this: &mut Self| {
            if this.core.is_over || this.core.out.unacknowledged().0 == 0 {
                this.finish(None);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        };
        let check = |this: &Self| match &this.ended {
            Some(ended) if !this.core.is_over => Err(ended.sink.clone()),
            _ => Ok(()),
        };
        let closed = self.poll_sink(cx, Link::poll_close, away, check);
        if closed.is_ready() {
            self.seat.leave();
        }
        closed
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Stream for Session<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.adopt();
            let Some(link) = &mut this.link else {
                this.halves.reader.register(cx.waker());
                if let Some(error) = this.core.take_refusal() {
                    return Poll::Ready(Some(Err(error)));
                }
                if let Some(message) = this.core.take_read() {
                    return Poll::Ready(Some(Ok(message)));
                }
                if let Some(ended) = &mut this.ended {
                    return Poll::Ready(ended.error.take().map(Err));
                }
                if !this.check_ttl() && !this.seat.slot.has_offer() {
                    return Poll::Pending;
                }
                continue;
            };
            match link.poll_next(&mut this.core, cx) {
                Poll::Ready(Event::Message(message)) if message.is_close() && !this.core.is_over => {
                    // Of this connection alone.
                    link.part_from_peer();
                }
                Poll::Ready(Event::Rejected(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Event::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Event::End(end)) => this.link_ended(end),
                Poll::Pending if this.seat.slot.has_offer() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
