use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::{
    ReconnectHandle, ReconnectLayer,
    class::{Class, refuses_message},
    core::{Core, Room},
    state::{Closing, Event, Phase},
};
use crate::{
    Connect, Error, Transport,
    transport::{payload::Payload, wakers::Half},
};

pin_project! {
    /// A transport over a connector that reconnects, created by [`ReconnectLayer`].
    ///
    /// It is a `Sink<Out>` and a `Stream` of `Result<In, Error>`, as the connector's transports are. Nothing happens
    /// unless one of the two is polled. See the [module](super) for the complete documentation.
    #[project = ReconnectProj]
    pub struct Reconnect<C, Out = crate::Message>
    where
        C: Connect,
    {
        pub(super) connector: C,
        pub(super) connection: Connection<C::Future, C::Transport>,
        pub(super) core: Core<Out>,
    }
}

/// The connection. Both are boxed, once per connection: the future of an attempt and a connection's stack are large,
/// and the future is often not `Unpin` (tower's timeout has a timer in it). In place, they would make each stack above
/// so.
pub(super) enum Connection<F, T> {
    None,
    Connecting(Pin<Box<F>>),
    Open(Pin<Box<T>>),
}

impl<F, T> Connection<F, T> {
    /// Returns the transport of the connection, if it is open.
    #[inline]
    pub(super) fn transport(&mut self) -> Option<Pin<&mut T>> {
        match self {
            Self::Open(transport) => Some(transport.as_mut()),
            _ => None,
        }
    }
}

impl<C: Connect, Out> Layer<C> for ReconnectLayer<Out> {
    type Service = Reconnect<C, Out>;

    fn layer(&self, connector: C) -> Reconnect<C, Out> {
        Reconnect { connector, connection: Connection::None, core: Core::new(self.clone(), self.take_handle()) }
    }
}

impl<C: Connect, Out> Reconnect<C, Out> {
    /// Returns a handle that observes and controls this transport while other code owns it.
    #[must_use]
    pub fn handle(&self) -> ReconnectHandle {
        ReconnectHandle { shared: self.core.shared.clone() }
    }

    /// Returns the transport of the current connection, if there is one.
    #[must_use]
    pub fn connection(&self) -> Option<&C::Transport> {
        match &self.connection {
            Connection::Open(transport) => Some(&**transport),
            _ => None,
        }
    }

    accessors! {
        connector: C, "connector",
        get_mut: "Changes apply from the next attempt on.",
        into_inner: ". The connection and the messages that wait for one are dropped, and counted as lost.",
    }
}

impl<C, Out, In> Stream for Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out, In = In>>,
    Out: 'static,
    In: 'static,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        // The connection gets this task's own waker. If the writer finds it lost, `poll_up` wakes the reader.
        if this.core.is_steady()
            && this.core.errors.is_empty()
            && let Some(transport) = this.connection.transport()
        {
            return match transport.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) if !Payload::of().is_close(&message) => {
                    this.core.is_read = false;
                    Poll::Ready(Some(Ok(message)))
                }
                polled => self.poll_slowly(Some(polled), cx),
            };
        }
        self.poll_slowly(None, cx)
    }
}

/// An item of the connection's stream.
type Item<C, Out> = Result<
    <<C as Connect>::Transport as Transport<Out>>::In,
    <<C as Connect>::Transport as Transport<Out>>::TransportError,
>;

impl<C, Out, In> Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out, In = In>>,
    Out: 'static,
    In: 'static,
{
    /// `poll_next` when more is to be done than to poll the connection. `polled` is its answer if it was polled.
    #[cold]
    fn poll_slowly(
        self: Pin<&mut Self>,
        mut polled: Option<Poll<Option<Item<C, Out>>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<In, Error>>> {
        let mut this = self.project();
        loop {
            let item = match polled.take() {
                Some(polled) => polled,
                None if !ready!(this.poll_readable(cx)) => {
                    this.core.is_read = false;
                    return Poll::Ready(this.core.next_error().map(Err));
                }
                None => match this.connection.transport() {
                    Some(transport) => transport.poll_next(cx),
                    None => return Poll::Ready(None),
                },
            };
            // Not before `poll_readable`, which may have replaced the connection.
            this.core.is_read = true;
            match item {
                Poll::Ready(Some(Ok(message))) => {
                    let Some(frame) = Payload::of().close_message(&message) else {
                        this.core.is_read = false;
                        return Poll::Ready(Some(Ok(message)));
                    };
                    let frame = frame.cloned();
                    if this.closed_by_peer(frame, cx) {
                        return Poll::Ready(Some(Ok(message)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some(error) = this.failed_to_read(error.into()) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Ready(None) => this.stream_ended(),
                Poll::Pending => {
                    this.core.shared.register(Half::Reader, cx);
                    // A command that was given before the registration has not woken this task.
                    if !this.core.shared.has_command() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<C, Out> ReconnectProj<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// Ready with `true` if there is a connection to read from, with `false` if only an error or the end is left.
    fn poll_readable(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if self.core.has_errors() {
            return Poll::Ready(false);
        }
        if self.core.is_steady() {
            return Poll::Ready(true);
        }
        let up = self.poll_up(Half::Reader, cx);
        // Even if that connection is already gone again, and the next one is waited for.
        if self.core.has_errors() {
            return Poll::Ready(false);
        }
        let is_read = matches!(self.core.machine.phase(), Phase::Closing(Closing::StreamEnded));
        up.map(|is_up| is_up && !is_read)
    }
}

impl<C, Out> Sink<Out> for Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.core.is_open()
            && this.core.room == Room::None
            // Nothing is kept here of what a layer below keeps.
            && (this.core.outlives || !this.core.buffer.is_full())
            && let Some(transport) = this.connection.transport()
        {
            let polled = transport.poll_ready(cx).map_err(Into::into);
            if let Poll::Ready(Ok(())) = polled {
                this.core.room = Room::Direct;
                return polled;
            }
            return self.project().poll_room(Some(polled), cx);
        }
        self.project().poll_room(None, cx)
    }

    // The message is passed on, or to the code that queues or refuses it, and never dropped here, so it need not be
    // copied.
    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.as_mut().project();
        if this.core.machine.is_steady()
            && this.core.room == Room::Direct
            && !Payload::of().is_close(&message)
            && let Some(transport) = this.connection.transport()
            // The layer below keeps the message until it is acknowledged, or this layer only counts it. A message that
            // this layer keeps takes the longer way.
            && (this.core.outlives || this.core.buffer.count_sending())
        {
            this.core.room = Room::None;
            return match transport.start_send(message) {
                Ok(()) => Ok(()),
                Err(error) => self.project().failed_to_send(error.into()),
            };
        }
        self.project().send(message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.core.is_open()
            && let Some(transport) = this.connection.transport()
        {
            let polled = transport.poll_flush(cx).map_err(Into::into);
            if let Poll::Ready(Ok(())) = polled {
                this.core.buffer.flushed();
                return polled;
            }
            return self.project().poll_out(Some(polled), cx);
        }
        self.project().poll_out(None, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().poll_closed(cx)
    }
}

/// The methods of the sink when more is to be done than to call the connection's.
impl<C, Out> ReconnectProj<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// Handles the outcome of a poll of the connection's sink. `None`: something has changed, look again.
    fn settle(&mut self, polled: Poll<Result<(), Error>>, cx: &Context<'_>) -> Option<Poll<Result<(), Error>>> {
        match polled {
            Poll::Ready(Ok(())) => Some(Poll::Ready(Ok(()))),
            // It concerns a message that was accepted before. After any other error the sink is of no use, whatever the
            // user's classifier says.
            Poll::Ready(Err(error)) if error.is_rejection() => Some(Poll::Ready(Err(error))),
            Poll::Ready(Err(error)) => {
                self.sink_failed(error);
                None
            }
            Poll::Pending => {
                // The connection wakes this task when it can go on. The reader does if it finds the connection lost.
                self.core.shared.register(Half::Writer, cx);
                if self.core.shared.has_command() { None } else { Some(Poll::Pending) }
            }
        }
    }

    /// `poll_ready`. `polled` is the answer of the connection if it was asked.
    fn poll_room(&mut self, polled: Option<Poll<Result<(), Error>>>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(settled) = polled.and_then(|polled| self.settle(polled, cx)) {
            return settled;
        }
        loop {
            if self.core.is_open() {
                // The promise of an earlier poll still holds: its message goes to this connection or waits for the
                // next.
                if self.core.room != Room::None {
                    return Poll::Ready(Ok(()));
                }
                let ready = self.poll_direct_room(cx);
                if let Some(settled) = self.settle(ready, cx) {
                    return settled;
                }
                continue;
            }
            let up = self.poll_up(Half::Writer, cx);
            if up == Poll::Ready(false) || self.core.machine.is_closing() {
                return Poll::Ready(Err(self.core.ended()));
            }
            // Before anything new is accepted, or the writer could not tell which of its messages were lost.
            self.core.check_report()?;
            if self.core.is_steady() {
                continue;
            }
            // While `Pumping` and `Broken` too: the order of messages is that of the buffer.
            if self.core.room == Room::None {
                if self.core.buffer.waits_for_connection() {
                    return Poll::Pending;
                }
                self.core.room = Room::Queue;
            }
            return Poll::Ready(Ok(()));
        }
    }

    fn poll_direct_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(mut transport) = self.connection.transport() else { return Poll::Pending };
        // Only a flush tells which kept messages are safe to forget.
        if self.core.buffer.is_full() {
            ready!(transport.as_mut().poll_flush(cx)).map_err(Into::into)?;
            self.core.buffer.flushed();
        }
        ready!(transport.poll_ready(cx)).map_err(Into::into)?;
        self.core.room = Room::Direct;
        Poll::Ready(Ok(()))
    }

    /// `poll_flush`. `polled` is the answer of the connection if it was asked.
    #[inline(never)]
    fn poll_out(&mut self, polled: Option<Poll<Result<(), Error>>>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(settled) = polled.and_then(|polled| self.settle(polled, cx)) {
            return settled;
        }
        loop {
            let is_hanging_up = matches!(self.core.machine.phase(), Phase::Closing(Closing::HangUp));
            if self.core.is_open() || self.core.machine.is_closing() && !is_hanging_up {
                let flushed = self.poll_direct_flush(cx);
                match self.settle(flushed, cx) {
                    Some(settled) => return settled,
                    None => continue,
                }
            }
            match self.poll_up(Half::Writer, cx) {
                Poll::Ready(false) => return Poll::Ready(Err(self.core.ended())),
                // The close through the handle is under way.
                Poll::Pending if self.core.machine.is_closing() => return Poll::Pending,
                _ => self.core.check_report()?,
            }
            if self.core.is_steady() || self.core.machine.is_closing() {
                continue;
            }
            // Woken by the connection that comes, or by the end.
            return if self.core.buffer.is_clear() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    fn poll_direct_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(transport) = self.connection.transport() else { return Poll::Pending };
        ready!(transport.poll_flush(cx)).map_err(Into::into)?;
        self.core.buffer.flushed();
        Poll::Ready(Ok(()))
    }

    /// `start_send`, unless the message goes straight to the connection.
    #[cold]
    fn send(&mut self, message: Out) -> Result<(), Error> {
        let room = std::mem::replace(&mut self.core.room, Room::None);
        match (self.core.machine.phase(), room) {
            (Phase::Over | Phase::Closing(_), _) => return Err(self.core.ended()),
            // Without room, the connection decides.
            (Phase::Steady, Room::Direct | Room::None) => return self.send_directly(message),
            (_, Room::None) => {
                return Err(Error::full("start_send without a connection; wait for poll_ready first"));
            }
            _ => {}
        }
        // The machine first: from here on the connection is pumped before the user's own messages go straight to it
        // again.
        self.core.machine.on(Event::Queued);
        self.core.buffer.push(message);
        Ok(())
    }

    fn send_directly(&mut self, message: Out) -> Result<(), Error> {
        let Some(transport) = self.connection.transport() else { return Err(self.core.ended()) };
        let closes = Payload::of().is_close(&message);
        // Before the connection has it: a connection that fails in `start_send` may have sent a part of it.
        if !self.core.outlives {
            self.core.buffer.sending(&message);
        }
        if let Err(error) = transport.start_send(message) {
            return self.failed_to_send(error.into());
        }
        if closes {
            self.close(Event::Close);
        }
        Ok(())
    }

    /// Handles the error of the connection's `start_send`.
    fn failed_to_send(&mut self, error: Error) -> Result<(), Error> {
        if refuses_message(&error) || self.core.policy.class(&error) == Class::Message {
            if !self.core.outlives {
                self.core.buffer.not_held();
            }
            return Err(error.into_rejection());
        }
        self.sink_failed(error.clone());
        // The layer below did not take the message and there is no copy here, so the caller has to know. The transport
        // goes on with the next connection.
        if self.core.outlives {
            return Err(error.into_unsent().into_rejection());
        }
        // There was room for the message, so it shares the fate of everything that the connection took.
        Ok(())
    }

    /// `poll_close`.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match self.core.machine.phase() {
                Phase::Closing(Closing::Both | Closing::StreamEnded | Closing::SinkClosed) => {
                    let closed = self.poll_direct_close(cx);
                    if closed.is_pending() {
                        self.core.shared.register(Half::Writer, cx);
                    }
                    ready!(closed)?;
                    self.core.check_report()?;
                    return Poll::Ready(self.core.take_loss_at_end());
                }
                Phase::Idle | Phase::Waiting | Phase::Connecting if !self.core.owes() => {
                    self.close(Event::Close);
                }
                _ => {}
            }
            if !ready!(self.poll_up(Half::Writer, cx)) {
                return Poll::Ready(self.core.take_loss_at_end());
            }
            match self.core.machine.phase() {
                Phase::Closing(_) => {}
                Phase::Steady => self.close(Event::Close),
                // Kept messages are sent first, or the stream of a broken connection tells the reason.
                _ => return Poll::Pending,
            }
        }
    }

    fn poll_direct_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if matches!(self.core.machine.phase(), Phase::Closing(Closing::SinkClosed)) {
            return Poll::Ready(Ok(()));
        }
        let Some(transport) = self.connection.transport() else { return Poll::Ready(Ok(())) };
        let closed = ready!(transport.poll_close(cx)).map_err(Into::into);
        match closed {
            Ok(()) => {
                self.core.buffer.flushed();
                self.core.show_end();
                self.half_ended(Event::SinkClosed);
                Poll::Ready(Ok(()))
            }
            // It concerns one message. The close goes on with the next call.
            Err(error) if error.is_rejection() => Poll::Ready(Err(error)),
            Err(error) => {
                let was_clear = self.core.buffer.is_clear();
                self.finish();
                // A connection that was lost before it could be closed is closed all the same, unless messages are lost
                // with it. The end knows of those that a layer below held.
                let owes = std::mem::take(&mut self.core.lost_at_end) > 0 || !was_clear;
                Poll::Ready(if owes { Err(error) } else { Ok(()) })
            }
        }
    }
}

impl<C, Out> fmt::Debug for Reconnect<C, Out>
where
    C: Connect + fmt::Debug,
    C::Transport: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("connector", &self.connector)
            .field("connection", &self.connection())
            .field("core", &self.core)
            .finish()
    }
}
