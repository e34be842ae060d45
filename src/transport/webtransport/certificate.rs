use std::{fmt, sync::Arc};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

use super::CertificateHash;
use crate::Error;

/// The certificate of a server, with the chain up to its authority and its private key.
///
/// [`Debug`](fmt::Debug) shows the hash and never the key.
pub struct Certificate {
    /// The chain, beginning with the server's own certificate. Not empty.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Returns the hash of the server's own certificate, for a browser's `serverCertificateHashes` and for
    /// `WebTransportConnector::certificate_hashes`.
    #[must_use]
    pub fn hash(&self) -> CertificateHash {
        CertificateHash::of_der(self.chain.first().map_or(&[], |own| own))
    }
}

impl Certificate {
    /// Creates a certificate from PEM: the chain, beginning with the server's own certificate, and its private key
    /// (PKCS#8, PKCS#1 or SEC1). Both may be in one file; other kinds of entries are skipped.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if an input is not PEM, the chain has no
    /// certificate, or the key file has no key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::config("the certificate's chain is not PEM").with_source(error))?;
        if chain.is_empty() {
            return Err(Error::config("the PEM of the certificate's chain has no CERTIFICATE in it"));
        }
        // The source says where the text is invalid, and never quotes it.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            Error::config("the PEM of the private key has no usable PRIVATE KEY in it").with_source(error)
        })?;
        Ok(Self { chain, key })
    }

    /// Returns the TLS configuration of an HTTP/3 server. Early data (0-RTT) is off, because an attacker may replay it.
    pub(super) fn into_tls(self) -> Result<Arc<QuicServerConfig>, Error> {
        let bad = "the certificate and its key do not match, or are of a kind that TLS 1.3 does not support";
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(self.chain, self.key))
            .map_err(|error| Error::config(bad).with_source(error))?;
        config.alpn_protocols = vec![web_transport_quinn::ALPN.as_bytes().to_vec()];
        let config = QuicServerConfig::try_from(config).map_err(|error| Error::config(bad).with_source(error))?;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("hash", &self.hash()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nBAUGBw==\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_chain_and_the_key_may_stand_in_one_file_or_in_two() {
        let both = format!("{KEY}{CHAIN}{CHAIN}");
        for (chain, key) in [(both.as_str(), both.as_str()), (CHAIN, KEY)] {
            let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
            assert_eq!(certificate.chain[0].as_ref(), [0, 1, 2, 3]);
            assert_eq!(certificate.key.secret_der(), [4, 5, 6, 7]);
        }
    }

    #[test]
    fn what_is_missing_is_named_and_the_key_never_shown() {
        let error = Certificate::from_pem(KEY.as_bytes(), KEY.as_bytes()).unwrap_err();
        assert!(error.is_config() && error.to_string().contains("no CERTIFICATE"), "{error}");
        let broken = KEY.replace("BAUGBw==", "BAUGBw*=");
        for key in [CHAIN, "", broken.as_str()] {
            let error = Certificate::from_pem(CHAIN.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.is_config() && error.to_string().contains("PRIVATE KEY"), "{error}");
            assert!(!format!("{error:?}").contains("BAUG"), "{error:?}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_found_when_the_server_starts() {
        let certificate = Certificate::from_pem(CHAIN.as_bytes(), KEY.as_bytes()).unwrap();
        assert!(certificate.into_tls().is_err_and(|error| error.is_config()));
    }
}
