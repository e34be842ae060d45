//! Many small messages in one.

mod format;
mod layer;
mod outgoing;
mod pack;
mod policy;
mod transport;
mod unpack;

pub use self::{layer::BatchLayer, policy::BatchPolicy, transport::Batched};
