use std::fmt;

/// One rule of the [`Transport`](crate::Transport) contract, and its check.
///
/// Its [`Display`](fmt::Display) is its name. The tests of [`contract_tests!`](crate::contract_tests) have the same
/// names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Once `poll_ready` is ready, it stays ready until `start_send`, even if the sink is flushed in between, and that
    /// `start_send` succeeds.
    Readiness,
    /// With a peer that does not read, `poll_ready` is `Pending` after a bounded number of messages. When the peer
    /// reads, it is ready again.
    BackPressure,
    /// All messages that are sent arrive once, unchanged and in order.
    Order,
    /// When `poll_flush` is ready, the peer can receive everything that was accepted, without another poll of the
    /// sender.
    Flush,
    /// A send that is dropped before the transport was ready sends nothing. A send that is dropped later sends its
    /// message once. A receive that is dropped loses nothing.
    Cancellation,
    /// After `poll_close` the peer reads everything that was sent and then `None`, each time it is polled. The own sink
    /// fails with an error for which `is_closed` is true. The own stream ends when the peer has closed too.
    Close,
    /// When the peer is dropped, the stream ends, after at most one error, for which `is_closed` is true. The sink
    /// fails with an error for which `is_closed` is true.
    Cut,
    /// A call that returned `Pending` wakes its task when it can make progress: the newest waker of the reader and of
    /// the writer, independently.
    WakeUps,
    /// A full outgoing direction does not stop the incoming one.
    Duplex,
}

impl Check {
    /// All checks, in the order in which [`Contract::all`](super::Contract::all) runs them, the simplest first.
    pub const ALL: [Self; 9] = [
        Self::Readiness,
        Self::Order,
        Self::Flush,
        Self::BackPressure,
        Self::Duplex,
        Self::Cancellation,
        Self::WakeUps,
        Self::Close,
        Self::Cut,
    ];

    /// Returns the name of the check, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Readiness => "readiness",
            Self::BackPressure => "back_pressure",
            Self::Order => "order",
            Self::Flush => "flush",
            Self::Cancellation => "cancellation",
            Self::Close => "close",
            Self::Cut => "cut",
            Self::WakeUps => "wake_ups",
            Self::Duplex => "duplex",
        }
    }

    /// Returns the rule in one sentence.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Readiness => "once poll_ready is Ready, it stays Ready until start_send, which then succeeds",
            Self::BackPressure => {
                "with a peer that does not read, poll_ready becomes Pending after a bounded number of messages, and \
                 Ready once the peer reads"
            }
            Self::Order => "all sent messages arrive once, unchanged and in order",
            Self::Flush => {
                "once poll_flush is Ready, the peer can receive every accepted message without another poll of the \
                 sender"
            }
            Self::Cancellation => {
                "a send dropped before readiness sends nothing, an accepted message arrives once, a dropped receive \
                 loses nothing"
            }
            Self::Close => {
                "after poll_close the peer reads every sent message, then None; this end's sink is closed; its \
                 stream ends with the peer's close"
            }
            Self::Cut => {
                "when the peer is gone, the stream ends after at most one is_closed error, and the sink fails with \
                 is_closed"
            }
            Self::WakeUps => "a Pending half wakes its newest waker when it can make progress",
            Self::Duplex => "a full outgoing direction does not stop the incoming one",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
