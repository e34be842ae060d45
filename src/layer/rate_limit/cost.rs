use crate::{Message, transport::payload::Payload};

/// The cost of a message, in cells of the [`Quota`](super::Quota).
///
/// A message of cost 0 passes at once and takes nothing. A cost of more than
/// [`Quota::burst_size`](super::Quota::burst_size) can never pass: such a message is an error for which
/// [`is_too_large`](crate::Error::is_too_large) is true.
///
/// Every `Fn(&M) -> u32` is a cost. Implement the trait for several message types if the two directions carry different
/// ones.
pub trait Cost<M> {
    /// Returns the cost of this message.
    fn cost(&self, message: &M) -> u32;
}

impl<M, F: Fn(&M) -> u32> Cost<M> for F {
    fn cost(&self, message: &M) -> u32 {
        self(message)
    }
}

/// One cell for each message; control messages ([`Message::is_control`]) cost nothing. The default.
///
/// Every value above a codec costs one cell.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerMessage;

impl<M: 'static> Cost<M> for PerMessage {
    #[inline]
    fn cost(&self, message: &M) -> u32 {
        u32::from(!Payload::of().is_control(message))
    }
}

/// One cell for each byte of payload, and one for an empty message; control messages cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerByte;

impl Cost<Message> for PerByte {
    #[inline]
    fn cost(&self, message: &Message) -> u32 {
        if message.is_control() {
            return 0;
        }
        // An empty message is work as well.
        u32::try_from(message.len()).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_cost_nothing_and_empty_ones_something() {
        for control in [Message::Ping("a".into()), Message::Pong("a".into()), Message::Close(None)] {
            assert_eq!((PerMessage.cost(&control), PerByte.cost(&control)), (0, 0));
        }
        assert_eq!((PerMessage.cost(&Message::text("")), PerByte.cost(&Message::text(""))), (1, 1));
        assert_eq!((PerMessage.cost(&Message::text("four")), PerByte.cost(&Message::text("four"))), (1, 4));
    }

    #[test]
    fn values_cost_one_by_default_and_what_a_function_says_otherwise() {
        assert_eq!(PerMessage.cost(&7_u64), 1);
        assert_eq!((|message: &Vec<u8>| message.len() as u32 * 2).cost(&vec![1, 2, 3]), 6);
    }
}
