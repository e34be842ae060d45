//! The results of the steps of an outgoing call. Pure.

use super::{error::CallError, outgoing::Left};

/// The end of a call: a single answer, the end of a stream, or the failure.
pub(super) type Outcome<Res, F> = Result<Option<Res>, CallError<F>>;

/// The fate of a frame of the peer.
#[allow(clippy::large_enum_variant, reason = "taken apart at once; a box would be an allocation for each answer")]
pub(super) enum Fate<Req, Res, F> {
    Taken(Left<Req, Res, F>),
    /// The call is over or was never made, and the contents are returned.
    Unknown,
    /// The peer sends more than it may.
    Violation,
}

/// The result of a handle's look for room for a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// The call is over, or its requests have ended.
    Over,
}

/// The next thing that a handle reads.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Polled<Req, Res, F> {
    Item(Res, bool),
    Over(Outcome<Res, F>, Left<Req, Res, F>),
}
