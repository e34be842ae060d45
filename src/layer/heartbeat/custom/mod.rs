//! A heartbeat of the user's own messages.

mod layer;
mod replies;
mod transport;

pub use self::{
    layer::CustomHeartbeatLayer,
    replies::{NoReplies, Replies},
    transport::CustomHeartbeat,
};
