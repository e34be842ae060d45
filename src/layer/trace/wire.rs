//! The mark of a message that carries its trace context. Pure.
//!
//! ```text
//! ... payload ... | version, trace id, span id, flags (26) | shape (1) | the mark of this layer, kind 1 (8)
//! ```

use bytes::{Bytes, BytesMut};

use super::TraceContext;
use crate::{
    Error, Message, Text,
    message::trailer::{self, Layer, Opened},
};

/// The kind of mark that follows a context.
const CONTEXT: u8 = 1;

/// The lowest bit of the shape: the message is text.
const TEXT: u8 = 1;

/// The additional length of a message with a context. It is more than that of an escape, which a message with a context
/// does not need.
pub(super) const LEN: usize = BODY + trailer::LEN;

const BODY: usize = TraceContext::LEN + 1;

/// Returns the message with the context at its end, always as binary; a control message is returned unchanged. Costs
/// one allocation and one copy.
pub(super) fn mark(message: Message, context: &TraceContext) -> Message {
    let shape = match &message {
        Message::Text(_) => TEXT,
        Message::Binary(_) => 0,
        _ => return message,
    };
    // `Bytes` may be shared with other messages, so the mark cannot be appended in place.
    let payload = message.as_bytes();
    let mut marked = BytesMut::with_capacity(payload.len() + LEN);
    marked.extend_from_slice(payload);
    marked.extend_from_slice(&context.to_bytes());
    marked.extend_from_slice(&[shape]);
    marked.extend_from_slice(&trailer::mark(Layer::Trace, CONTEXT));
    Message::Binary(marked.freeze())
}

/// Escapes a message without a context if it could be taken for one with a context.
pub(super) fn escape(message: Message) -> Message {
    trailer::close(Layer::Trace, message)
}

/// Returns whether [`open`] changes this message.
#[inline]
pub(super) fn is_marked(message: &Message) -> bool {
    matches!(message, Message::Binary(payload) if trailer::kind(Layer::Trace, payload).is_some())
}

/// Returns the message as it was before [`mark`] or [`escape`], and its context if it has a valid one.
pub(super) fn open(message: Message) -> Result<(Message, Option<TraceContext>), Error> {
    match trailer::open(Layer::Trace, message) {
        Opened::Plain(message) => Ok((message, None)),
        Opened::Marked(CONTEXT, payload) => unmark(payload),
        Opened::Marked(kind, _) => {
            Err(Error::protocol(format!("a message has a trace mark of unknown kind {kind}; the peer may be newer")))
        }
    }
}

fn unmark(mut payload: Bytes) -> Result<(Message, Option<TraceContext>), Error> {
    let Some((_, body)) = payload.split_last_chunk::<BODY>() else {
        return Err(Error::protocol(format!(
            "a trace mark must follow {BODY} bytes, but the message has {}",
            payload.len()
        )));
    };
    let shape = body[TraceContext::LEN];
    let context = body.first_chunk().and_then(TraceContext::from_bytes);
    // The mark is at the end, so the payload is cut off without a copy.
    payload.truncate(payload.len() - BODY);
    let message = match shape {
        0 => Message::Binary(payload),
        TEXT => Message::Text(
            Text::try_from(payload)
                .map_err(|error| Error::protocol("a traced text message is not UTF-8").with_source(error))?,
        ),
        shape => {
            return Err(Error::protocol(format!(
                "a traced message has the invalid shape {shape}; text is 1, binary 0"
            )));
        }
    };
    Ok((message, context))
}
