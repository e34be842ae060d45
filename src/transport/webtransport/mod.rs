//! WebTransport over HTTP/3, client and server, on native targets.

mod certificate;

pub use self::certificate::{Certificate, CertificateHash};
