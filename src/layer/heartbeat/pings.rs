use super::{
    HeartbeatLayer,
    beat::Beat,
    wire::{self, Form, Incoming, Payload},
};
use crate::{Error, Message};

/// The pings and pongs of a [`Heartbeat`](super::Heartbeat).
#[derive(Debug)]
pub(super) struct Pings {
    form: Form,
    answers_pings: bool,
    /// Both ends know marks. If not, a binary message that ends like one is somebody's data.
    has_marks: bool,
    /// The payload of the newest ping, until its pong comes.
    awaited: Option<Payload>,
}

impl Pings {
    pub(super) const fn new(layer: &HeartbeatLayer) -> Self {
        Self { form: layer.form, answers_pings: layer.answers_pings, has_marks: layer.has_marks, awaited: None }
    }

    /// Whether a message is more than one that passes by.
    #[inline]
    pub(super) fn concern(&self, message: &Message) -> bool {
        wire::concerns(message, self.has_marks)
    }

    /// The ping of this number.
    pub(super) fn ask(&mut self, number: u32) -> Message {
        let payload = wire::payload(number);
        self.awaited = Some(payload);
        wire::ping(self.form, payload)
    }

    /// Takes a message that [concerns](Self::concern) the layer; gives what is to be passed on.
    #[cold]
    pub(super) fn take(&mut self, message: Message, beat: &mut Beat<Message>) -> Option<Result<Message, Error>> {
        match wire::open(message) {
            Incoming::Message(message) => {
                match &message {
                    Message::Text(_) | Message::Binary(_) | Message::Pong(_) => {}
                    Message::Ping(payload) => {
                        if self.answers_pings {
                            beat.answer(Message::Pong(payload.clone()));
                        }
                        // The transport may have an answer of its own, and wait for a flush.
                        beat.sink.request_flush();
                    }
                    Message::Close(_) => beat.stop(),
                }
                return Some(Ok(message));
            }
            Incoming::Ping(payload) => beat.answer(wire::pong(payload)),
            Incoming::Pong(payload) => {
                if self.awaited.take_if(|awaited| *awaited == payload).is_some() {
                    beat.answered();
                }
            }
            Incoming::Malformed(kind) => {
                let error = format!("the peer sent a heartbeat that is neither ping nor pong (kind {kind})");
                return Some(Err(Error::protocol(error).into_rejection()));
            }
        }
        None
    }

    /// The user's message, where it [concerns](Self::concern) the layer, as it is to be sent.
    #[cold]
    pub(super) fn pass(message: Message, beat: &mut Beat<Message>) -> Message {
        if message.is_close() {
            beat.stop();
        }
        wire::close(message)
    }
}
