use super::{TraceContext, wire};
use crate::{CloseFrame, Error, Message};

/// The knowledge of a [`TraceLayer`](super::TraceLayer) about the messages of its transport: [`Messages`] or
/// [`Values`].
///
/// This trait is sealed.
pub trait Subject<M>: sealed::Sealed {
    #[doc(hidden)]
    fn size(message: &M) -> usize;

    #[doc(hidden)]
    fn mark(message: M, context: &TraceContext) -> M;

    #[doc(hidden)]
    fn close(message: M) -> M;

    #[doc(hidden)]
    fn is_marked(message: &M) -> bool;

    #[doc(hidden)]
    #[allow(clippy::missing_errors_doc, reason = "not called by users")]
    fn open(message: M) -> Result<(M, Option<TraceContext>), Error>;

    #[doc(hidden)]
    fn is_close(message: &M) -> bool;

    #[doc(hidden)]
    fn close_frame(message: &M) -> Option<&CloseFrame>;
}

/// The transport carries [`Message`]s: their bytes are counted, and a trace context can travel with them.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

/// The transport carries values of any type: they are counted, their bytes are unknown, and no context travels.
#[derive(Clone, Copy, Debug)]
pub struct Values;

impl Subject<Message> for Messages {
    #[inline]
    fn size(message: &Message) -> usize {
        message.len()
    }

    fn mark(message: Message, context: &TraceContext) -> Message {
        wire::mark(message, context)
    }

    fn close(message: Message) -> Message {
        wire::close(message)
    }

    #[inline]
    fn is_marked(message: &Message) -> bool {
        wire::is_marked(message)
    }

    fn open(message: Message) -> Result<(Message, Option<TraceContext>), Error> {
        wire::open(message)
    }

    #[inline]
    fn is_close(message: &Message) -> bool {
        message.is_close()
    }

    fn close_frame(message: &Message) -> Option<&CloseFrame> {
        match message {
            Message::Close(frame) => frame.as_ref(),
            _ => None,
        }
    }
}

impl<M> Subject<M> for Values {
    fn size(_: &M) -> usize {
        0
    }

    fn mark(message: M, _: &TraceContext) -> M {
        message
    }

    fn close(message: M) -> M {
        message
    }

    fn is_marked(_: &M) -> bool {
        false
    }

    fn open(message: M) -> Result<(M, Option<TraceContext>), Error> {
        Ok((message, None))
    }

    fn is_close(_: &M) -> bool {
        false
    }

    fn close_frame(_: &M) -> Option<&CloseFrame> {
        None
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed {}

    impl Sealed for super::Messages {}
    impl Sealed for super::Values {}
}
