//! The server, send-only: the body of an HTTP response out of a stream of events. The pure core is `frame.rs`.

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
