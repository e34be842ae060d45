//! WebTransport over HTTP/3, client and server, on native targets.

mod certificate;
mod connector;
mod datagrams;
mod fault;
mod server;
mod session;
mod session_limits;
mod stats;
mod stream;

pub use self::{
    certificate::{Certificate, CertificateHash},
    connector::{Connecting, WebTransportConnector},
    datagrams::{DatagramCounts, Datagrams},
    server::{Incoming, WebTransportServer},
    session::Session,
    session_limits::SessionLimits,
    stats::Stats,
    stream::{ReceiveStream, SendStream, WebTransportStream},
};
