//! Graceful shutdown of a server's connections.

#[cfg(not(target_arch = "wasm32"))]
mod handle;
#[cfg(not(target_arch = "wasm32"))]
mod member;
#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod watched;

#[cfg(target_arch = "wasm32")]
pub(crate) use self::page::Member;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::{handle::Seat, member::Member, watched::Attended};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    handle::{Drain, Drained},
    watched::Watched,
};
