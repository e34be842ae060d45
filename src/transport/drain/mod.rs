//! Graceful shutdown of a server's connections.

#[cfg(not(target_arch = "wasm32"))]
mod handle;
#[cfg(not(target_arch = "wasm32"))]
mod member;
#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
mod readiness;
#[cfg(not(target_arch = "wasm32"))]
mod registry;

#[cfg(target_arch = "wasm32")]
pub(crate) use self::page::Member;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
pub use self::readiness::{AnswerOrRefusal, DrainLayer, Readiness, ReadinessBody, RefusingWhileDraining};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    handle::{Drain, Drained},
    member::Watched,
    registry::{ConnectionId, OpenConnection},
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::{
    member::{Attended, Member},
    registry::Seat,
};
