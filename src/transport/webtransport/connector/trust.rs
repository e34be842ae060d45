use std::{fmt, sync::Arc};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    version::TLS13,
};

use crate::{Error, transport::webtransport::CertificateHash};

/// The way in which a server is authenticated.
#[derive(Clone, Default)]
pub(super) enum Trust {
    #[default]
    Platform,
    Roots(Arc<RootCertStore>),
    Tls(Arc<ClientConfig>),
    Hashes(Arc<[CertificateHash]>),
}

/// Returns the roots in a PEM text.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let bad = |error| Error::config("the roots are not PEM").with_source(error);
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let unusable = |error| Error::config("a root in the PEM is not a usable certificate").with_source(error);
        roots.add(root.map_err(bad)?).map_err(unusable)?;
    }
    match roots.is_empty() {
        true => Err(Error::config("the PEM of the roots has no CERTIFICATE in it")),
        false => Ok(roots),
    }
}

impl Trust {
    /// Returns the TLS configuration of an HTTP/3 client. Early data (0-RTT) is off, because an attacker may replay it.
    pub(super) fn config(&self) -> Result<Arc<QuicClientConfig>, Error> {
        let mut config = match self {
            Self::Platform => {
                builder()?.dangerous().with_custom_certificate_verifier(platform()?).with_no_client_auth()
            }
            Self::Roots(roots) => builder()?.with_root_certificates(roots.clone()).with_no_client_auth(),
            Self::Tls(config) => ClientConfig::clone(config),
            Self::Hashes(hashes) => {
                let verifier = Pinned { hashes: hashes.clone(), provider: provider() };
                builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![web_transport_quinn::ALPN.as_bytes().to_vec()];
        config.enable_early_data = false;
        let config = QuicClientConfig::try_from(config).map_err(|error| {
            Error::config("QUIC needs TLS 1.3 with AES-128-GCM, which the TLS configuration lacks").with_source(error)
        })?;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform roots"),
            Self::Roots(roots) => write!(f, "{} roots", roots.len()),
            Self::Tls(_) => f.write_str("a TLS configuration"),
            Self::Hashes(hashes) => hashes.fmt(f),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::other("TLS 1.3 is not available").with_source(error))
}

/// Returns the verifier that trusts the operating system's roots. It is created once, because reading the roots takes
/// milliseconds and each copy a hundred kilobytes.
#[cfg(feature = "tls-platform-roots")]
fn platform() -> Result<Arc<dyn ServerCertVerifier>, Error> {
    use std::sync::OnceLock;

    static VERIFIER: OnceLock<Arc<dyn ServerCertVerifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(verifier.clone());
    }
    let verifier = rustls_platform_verifier::Verifier::new(provider())
        .map_err(|error| Error::tls("the operating system's roots could not be used").with_source(error))?;
    Ok(VERIFIER.get_or_init(|| Arc::new(verifier)).clone())
}

#[cfg(not(feature = "tls-platform-roots"))]
fn platform() -> Result<Arc<dyn ServerCertVerifier>, Error> {
    Err(Error::config(
        "TLS needs roots: give the connector its own (`roots_pem`, `tls`, `certificate_hashes`), or turn the feature \
         `tls-platform-roots` on",
    ))
}

/// Authenticates a server by its certificate alone.
#[derive(Debug)]
struct Pinned {
    hashes: Arc<[CertificateHash]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.hashes.contains(&CertificateHash::of_der(own)) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
