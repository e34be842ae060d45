//! The send-only server: an HTTP response body from a stream of events. The pure core is `frame.rs`.

#[cfg(feature = "axum")]
mod axum;
mod body;
mod channel;
mod frame;
mod keep_alive;
mod last_event_id;
mod replay;

pub use self::{
    body::EventStream,
    channel::{EventReceiver, EventSender, event_channel},
    last_event_id::LastEventId,
    replay::Replay,
};
