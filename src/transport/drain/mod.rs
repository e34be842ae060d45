//! Graceful shutdown of a server's connections.

mod handle;
mod member;
mod watched;

pub(crate) use self::{handle::Seat, member::Member, watched::Attended};
pub use self::{
    handle::{Drain, Drained},
    watched::Watched,
};
