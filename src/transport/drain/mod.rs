//! Graceful shutdown of a server's connections.

#[cfg(not(target_arch = "wasm32"))]
mod handle;
#[cfg(not(target_arch = "wasm32"))]
mod member;
#[cfg(target_arch = "wasm32")]
mod page;

#[cfg(target_arch = "wasm32")]
pub(crate) use self::page::Member;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::{
    handle::Seat,
    member::{Attended, Member},
};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    handle::{Drain, Drained},
    member::Watched,
};
