//! The send-only server: an HTTP response body from a stream of events.

mod channel;
mod event_stream;
mod last_event_id;

pub use self::{
    channel::{EventReceiver, EventSender, event_channel},
    event_stream::{EventStream, Replay},
    last_event_id::LastEventId,
};
