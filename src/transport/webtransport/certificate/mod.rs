//! Server certificates, and how a client without a common authority recognizes them.

#[cfg(feature = "dev-certificate")]
mod development;
mod hash;
mod pem;

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use self::hash::CertificateHash;

/// The certificate of a server, with the chain up to its authority and its private key.
///
/// [`Debug`](fmt::Debug) shows the hash and never the key.
pub struct Certificate {
    /// The chain, beginning with the server's own certificate. Not empty.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Returns the hash of the server's own certificate, for a browser's `serverCertificateHashes` and for
    /// `WebTransportConnector::certificate_hashes`.
    #[must_use]
    pub fn hash(&self) -> CertificateHash {
        CertificateHash::of_der(self.chain.first().map_or(&[], |own| own))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("hash", &self.hash()).finish_non_exhaustive()
    }
}
