//! The calls of a connection, as JSON-RPC sees them. Pure.

use serde_json::Value;

use super::batch::Batch;

/// The state that a message has ended, or begun.
#[derive(Debug, Default)]
pub(super) enum Last {
    #[default]
    Nothing,
    /// It subscribes for this call.
    Subscription(u64),
    /// It answers the call with this number and identifier.
    Answer(u64, Value),
    /// It answers a batch, whose last answer was that to the call with this number.
    Batch(u64, Batch),
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: Value,
    pub(super) batch: Option<u64>,
    /// The index of its subscription, if it is one.
    pub(super) subscription: Option<usize>,
    pub(super) is_accepted: bool,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) subscription: usize,
    /// The identifier that the other end gave it.
    pub(super) id: Option<String>,
    /// It waits for its identifier, to be unsubscribed.
    pub(super) is_cancelled: bool,
}
