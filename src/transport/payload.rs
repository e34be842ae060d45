use std::any::Any;

use crate::{CloseFrame, Message};

/// The default number of messages of known size that a buffer holds.
const MESSAGES: usize = 1024;

/// The default number of values of unknown size that a buffer holds if each may own memory.
const OWNING_VALUES: usize = 64;

/// The answer to "is this a [`Message`]?" for messages of type `M`, and how they are measured. Queues and layers ask
/// nothing else of the messages that pass through them.
///
/// | constructor | a [`Message`]? | size |
/// |---|---|---|
/// | [`messages`](Self::messages) | yes | bytes of payload |
/// | [`values`](Self::values) | no | unknown, so the size of the type |
/// | [`of`](Self::of) | if `M` is `Message` | accordingly |
///
/// A configuration keeps the `Payload` with which it was made. A layer on the path of each message uses `of` instead:
/// it is a constant, so the compiler resolves its calls and inlines them. It needs `M: 'static`, because only such
/// types can be compared.
pub(crate) struct Payload<M> {
    size: Option<fn(&M) -> usize>,
    get: fn(&M) -> Option<&Message>,
    get_mut: fn(&mut M) -> Option<&mut Message>,
    make: fn(Message) -> Option<M>,
}

impl Payload<Message> {
    pub(crate) const fn messages() -> Self {
        Self { size: Some(Message::len), get: |message| Some(message), get_mut: |message| Some(message), make: Some }
    }
}

impl<M> Payload<M> {
    pub(crate) const fn values() -> Self {
        Self { size: None, get: |_| None, get_mut: |_| None, make: |_| None }
    }

    /// Measures messages with this function, in bytes.
    pub(crate) const fn sized_by(self, size: fn(&M) -> usize) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Returns the default number of messages in a buffer. Memory that a value owns is not measured, so there are fewer
    /// of those.
    pub(crate) const fn capacity(&self) -> usize {
        if self.size.is_none() && std::mem::needs_drop::<M>() { OWNING_VALUES } else { MESSAGES }
    }

    /// Returns the size in bytes, at least that of the type if it is unknown.
    #[inline]
    pub(crate) fn size(&self, message: &M) -> usize {
        self.known_size(message).unwrap_or(size_of::<M>())
    }

    /// Returns the size in bytes if messages are measured.
    #[inline]
    pub(crate) fn known_size(&self, message: &M) -> Option<usize> {
        self.size.map(|size| size(message))
    }

    /// Returns `message` if it is a [`Message`].
    #[inline]
    pub(crate) fn get<'a>(&self, message: &'a M) -> Option<&'a Message> {
        (self.get)(message)
    }

    /// Returns the frame of a close message: `Some(None)` if it has none, `None` for any other message.
    #[allow(dead_code, reason = "which layers use it depends on the features")]
    #[inline]
    pub(crate) fn close_message<'a>(&self, message: &'a M) -> Option<Option<&'a CloseFrame>> {
        match self.get(message) {
            Some(Message::Close(frame)) => Some(frame.as_ref()),
            _ => None,
        }
    }

    /// Creates a close message, if `M` has any.
    pub(crate) fn make_close(&self, frame: CloseFrame) -> Option<M> {
        (self.make)(Message::Close(Some(frame)))
    }
}

#[allow(dead_code, reason = "which layers use it depends on the features")]
impl<M> Payload<M> {
    /// Returns `message` if it is a [`Message`], to change it.
    #[inline]
    pub(crate) fn get_mut<'a>(&self, message: &'a mut M) -> Option<&'a mut Message> {
        (self.get_mut)(message)
    }

    #[inline]
    pub(crate) fn is_control(&self, message: &M) -> bool {
        self.get(message).is_some_and(Message::is_control)
    }

    #[inline]
    pub(crate) fn is_close(&self, message: &M) -> bool {
        self.get(message).is_some_and(Message::is_close)
    }
}

#[allow(dead_code, reason = "which layers use it depends on the features")]
impl<M: 'static> Payload<M> {
    const OF: Self = Self {
        size: None,
        get: |message| (message as &dyn Any).downcast_ref(),
        get_mut: |message| (message as &mut dyn Any).downcast_mut(),
        make: |message| {
            let mut made = None;
            if let Some(slot) = (&mut made as &mut dyn Any).downcast_mut() {
                *slot = Some(message);
            }
            made
        },
    };

    /// The payload of messages if `M` is [`Message`], otherwise of values.
    #[inline]
    pub(crate) const fn of() -> Self {
        Self::OF
    }
}

// A derived implementation would require the same of `M`.
impl<M> Clone for Payload<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Payload<M> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloseCode;

    #[test]
    fn a_message_is_found_by_its_type_and_a_value_is_none() {
        let frame = CloseFrame::new(CloseCode::POLICY, "rate limit");
        for payload in [Payload::messages(), Payload::of()] {
            let mut close = payload.make_close(frame.clone()).unwrap();
            assert_eq!(payload.close_message(&close), Some(Some(&frame)));
            assert!(payload.is_close(&close) && payload.is_control(&close));
            *payload.get_mut(&mut close).unwrap() = Message::text("data");
            assert!(!payload.is_control(&close) && payload.close_message(&close).is_none());
        }
        for payload in [Payload::values(), Payload::<String>::of()] {
            assert!(payload.make_close(frame.clone()).is_none());
            assert!(payload.get(&"value".to_owned()).is_none() && !payload.is_close(&"value".to_owned()));
        }
    }

    #[test]
    fn a_buffer_holds_fewer_values_that_own_memory_unless_they_are_measured() {
        assert_eq!(Payload::messages().capacity(), 1024);
        assert_eq!(Payload::<u64>::values().capacity(), 1024);
        assert_eq!(Payload::<String>::values().capacity(), 64);
        assert_eq!(Payload::values().sized_by(String::len).capacity(), 1024);
    }
}
