//! Sessions that outlive connections.

#[cfg(not(target_arch = "wasm32"))]
mod accept;
mod budget;
mod future;
mod handle;
mod home;
mod layer;
mod link;
mod opening;
mod service;
#[cfg(not(target_arch = "wasm32"))]
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod slot;
mod state;
#[cfg(not(target_arch = "wasm32"))]
mod store;
mod transport;
mod verdict;
mod wire;

#[cfg(not(target_arch = "wasm32"))]
pub use self::{accept::Accepted, session::Session, store::SessionStore};
pub use self::{
    future::ResponseFuture,
    handle::{ResumeHandle, Verdicts},
    layer::ResumeLayer,
    service::Resume,
    transport::ResumedTransport,
    verdict::{SessionId, Verdict},
};
