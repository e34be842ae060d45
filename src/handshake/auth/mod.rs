//! Lets in who shows good credentials.
mod extract;
mod future;
mod layer;
mod refusal;
mod service;

pub use self::{future::ResponseFuture, layer::AuthGuardLayer, service::AuthGuard};
