//! The messages between two peers, whatever they look like on the wire. Pure.

/// One message between two peers. A [`Protocol`](super::Protocol) turns it into a message of its transport and back.
///
/// A call is identified by the number that its caller gave it. Each side numbers its own calls, so the same number may
/// be in use in both directions: the kind of a frame tells whose it is.
///
/// | frame | sent by | meaning |
/// |---|---|---|
/// | [`Call`](Self::Call) | caller | begins a call |
/// | [`Request`](Self::Request) | caller | a further request of the call, for which there must be credit |
/// | [`RequestsEnd`](Self::RequestsEnd) | caller | there are no further requests |
/// | [`RequestCredit`](Self::RequestCredit) | callee | this many more requests may be sent |
/// | [`Accepted`](Self::Accepted) | callee | the answers are a stream; only for protocols that say so ahead |
/// | [`Item`](Self::Item) | callee | an answer that others follow, for which there must be credit |
/// | [`AnswerCredit`](Self::AnswerCredit) | caller | this many more items may be sent |
/// | [`Answer`](Self::Answer) | callee | ends the call, with an answer if it has a single one |
/// | [`Failure`](Self::Failure) | callee | ends the call with an error of the application |
/// | [`Rejected`](Self::Rejected) | callee | ends the call without an answer of the application |
/// | [`Cancel`](Self::Cancel) | caller | nobody waits for the call any more; nothing answers it |
/// | [`Notification`](Self::Notification) | either | a request that has no answer |
///
/// With the feature `json` or `rkyv`, a codec can carry it wherever the codec can carry its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[allow(missing_docs, reason = "the table has the fields")]
pub enum Frame<Req, Res, F> {
    Call { id: u64, request: Req, options: CallOptions },
    Request { id: u64, request: Req },
    RequestsEnd { id: u64 },
    RequestCredit { id: u64, requests: u32 },
    Accepted { id: u64 },
    Item { id: u64, answer: Res },
    AnswerCredit { id: u64, answers: u32 },
    Answer { id: u64, answer: Option<Res> },
    Failure { id: u64, failure: F },
    Rejected { id: u64, reason: Rejection },
    Cancel { id: u64 },
    Notification { request: Req },
}

/// The settings that a call brings along besides its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[non_exhaustive]
pub struct CallOptions {
    /// The time that is left until the caller gives up, in milliseconds. It is a duration, because the clocks of two
    /// machines differ. The callee drops the call when it is over.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub timeout_ms: Option<u64>,
    /// The trace that the call is part of: the value of a `traceparent` header (W3C Trace Context, section 3.2).
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub traceparent: Option<String>,
    /// How many items the callee may send before it gets more credit. 0 for a call with a single answer.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "is_zero"))]
    pub answers: u32,
    /// Whether further requests follow.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub has_more: bool,
}

#[cfg(feature = "json")]
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(answers: &u32) -> bool {
    *answers == 0
}

/// The reason that a call ended without an answer of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
#[non_exhaustive]
pub enum Rejection {
    /// The callee has as many calls in flight as it allows. The call was not executed.
    Overloaded,
    /// The callee shuts down. The call was not executed.
    ShuttingDown,
    /// The time of the call was over before its answer.
    TimedOut,
    /// The handler of the call panicked.
    Panicked,
    /// The transport did not accept the answer: it is too large, or cannot be encoded.
    Unsendable,
    /// The handler answered with a stream, and the call asked for a single answer.
    Streamed,
}

impl Rejection {
    /// Returns whether the handler may have begun the call.
    #[must_use]
    pub const fn may_have_been_executed(self) -> bool {
        !matches!(self, Self::Overloaded | Self::ShuttingDown)
    }

    /// Returns the reason in a few words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overloaded => "the peer has as many calls in flight as it allows",
            Self::ShuttingDown => "the peer is shutting down",
            Self::TimedOut => "the peer did not answer within the time of the call",
            Self::Panicked => "the peer's handler panicked",
            Self::Unsendable => "the peer could not send its answer: it is too large, or cannot be encoded",
            Self::Streamed => "the peer answered with a stream, and the call asked for a single answer",
        }
    }
}
