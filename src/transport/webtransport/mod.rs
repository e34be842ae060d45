//! WebTransport over HTTP/3, client and server, on native targets.

mod certificate;
mod datagrams;
mod stats;

pub use self::{
    certificate::{Certificate, CertificateHash},
    datagrams::{DatagramCounts, Datagrams},
    stats::Stats,
};
