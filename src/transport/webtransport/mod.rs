//! WebTransport over HTTP/3, client and server, on native targets.

mod certificate;
mod connector;
mod fault;
mod server;
mod session;
mod session_limits;
mod stream;

pub use self::{
    certificate::{Certificate, CertificateHash},
    connector::{Connecting, WebTransportConnector},
    server::{Incoming, WebTransportServer},
    session::Session,
    session_limits::SessionLimits,
    stream::{ReceiveStream, SendStream, WebTransportStream},
};
