//! One server for all three transports.

mod body;
mod future;
mod guard;
mod live;
mod run;
mod service;
mod session_server;
mod web_transport;

pub use self::{
    body::SessionBody,
    future::SessionFuture,
    guard::{Admission, Admit},
    service::SessionService,
    session_server::SessionServer,
};
