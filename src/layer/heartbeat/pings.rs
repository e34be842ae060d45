use super::{
    watchdog::Watchdog,
    wire::{self, Form, Payload, Received},
};
use crate::{Error, Message};

/// The messages of a heartbeat: how its pings look, and what becomes of the messages that concern it.
#[expect(unnameable_types, reason = "seals the trait")]
pub trait Pings<In, Out> {
    /// Makes the ping of this number.
    fn ping(&mut self, number: u32) -> Out;

    /// Returns false if an incoming message only passes. Takes a reference, because moving a message costs as much as
    /// the rest of the layer.
    fn concerns_incoming(&self, message: &In) -> bool;

    /// Handles a message that [concerns](Self::concerns_incoming) the heartbeat. Returns the item that the user gets
    /// instead.
    fn receive(&mut self, message: In, watchdog: &mut Watchdog<Out>) -> Option<Result<In, Error>>;

    /// Returns false if an outgoing message only passes.
    fn concerns_outgoing(&self, message: &Out) -> bool;

    /// Handles a message of the user that [concerns](Self::concerns_outgoing) the heartbeat. Returns the message to
    /// send.
    fn send(&self, message: Out, watchdog: &mut Watchdog<Out>) -> Out;
}

/// Pings and pongs of the WebSocket protocol, or marked binary messages: those of
/// [`HeartbeatLayer`](super::HeartbeatLayer).
#[derive(Debug)]
pub struct ProtocolPings {
    form: Form,
    answers_pings: bool,
    /// Both ends know marks. Otherwise a binary message that ends like one is the user's data.
    has_marks: bool,
    /// The payload of the newest ping, until its pong arrives.
    awaited: Option<Payload>,
}

impl ProtocolPings {
    pub(super) const fn new(form: Form, answers_pings: bool, has_marks: bool) -> Self {
        Self { form, answers_pings, has_marks, awaited: None }
    }
}

impl Pings<Message, Message> for ProtocolPings {
    fn ping(&mut self, number: u32) -> Message {
        let payload = wire::payload(number);
        self.awaited = Some(payload);
        wire::ping(self.form, payload)
    }

    #[inline]
    fn concerns_incoming(&self, message: &Message) -> bool {
        wire::concerns(message, self.has_marks)
    }

    fn receive(&mut self, message: Message, watchdog: &mut Watchdog<Message>) -> Option<Result<Message, Error>> {
        match wire::open(message) {
            Received::Message(message) => {
                match &message {
                    Message::Text(_) | Message::Binary(_) | Message::Pong(_) => {}
                    Message::Ping(payload) => {
                        if self.answers_pings {
                            watchdog.answer(Message::Pong(payload.clone()));
                        }
                        // A transport that answers pings holds its pong until it is flushed.
                        watchdog.sink.request_flush();
                    }
                    Message::Close(_) => watchdog.stop(),
                }
                return Some(Ok(message));
            }
            Received::Ping(payload) => watchdog.answer(wire::pong(payload)),
            Received::Pong(payload) => {
                // The pong of an older ping, or one that was not asked for, is a sign of life and no measurement.
                if self.awaited.take_if(|awaited| *awaited == payload).is_some() {
                    watchdog.measure_round_trip();
                }
            }
            Received::Malformed(kind) => {
                let error = format!("the peer sent a heartbeat that is neither ping nor pong (kind {kind})");
                return Some(Err(Error::protocol(error).into_rejection()));
            }
        }
        None
    }

    #[inline]
    fn concerns_outgoing(&self, message: &Message) -> bool {
        wire::concerns(message, self.has_marks)
    }

    fn send(&self, message: Message, watchdog: &mut Watchdog<Message>) -> Message {
        if message.is_close() {
            watchdog.stop();
        }
        wire::close(message)
    }
}
