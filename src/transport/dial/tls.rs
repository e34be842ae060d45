#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use tokio_rustls::rustls::{self, ClientConfig, pki_types::ServerName};

use super::{Socket, Target};
use crate::Error;

/// The TLS configuration of a connector.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    config: Option<Arc<ClientConfig>>,
}

impl Tls {
    #[cfg(feature = "tls")]
    pub(crate) fn set(&mut self, config: Arc<ClientConfig>) {
        self.config = Some(with_own_alpn(config));
    }

    #[cfg(feature = "tls")]
    pub(super) async fn secure(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        let config = match &self.config {
            Some(config) => config.clone(),
            None => platform()?,
        };
        handshake(socket, &target.host, config).await
    }

    #[cfg(not(feature = "tls"))]
    pub(super) async fn secure(&self, _: Socket, _: &Target) -> Result<Socket, Error> {
        Err(Error::config(
            "wss:// and https:// need the feature `tls` (own roots) or `tls-platform-roots` of tower-transport",
        ))
    }
}

/// Returns the configuration that trusts the operating system's roots. It is created once, because reading the roots
/// takes milliseconds.
#[cfg(feature = "tls-platform-roots")]
fn platform() -> Result<Arc<ClientConfig>, Error> {
    use std::sync::OnceLock;

    use rustls_platform_verifier::BuilderVerifierExt;

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    // The default provider of the process is the application's choice, so it is not used.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| Error::tls("the operating system's roots could not be used").with_source(error))?
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(all(feature = "tls", not(feature = "tls-platform-roots")))]
fn platform() -> Result<Arc<ClientConfig>, Error> {
    Err(Error::config(
        "TLS needs roots: give the connector a configuration with its method `tls`, or enable the feature \
         `tls-platform-roots`",
    ))
}

/// Returns the caller's configuration for connections that speak HTTP/1.1. A configuration shared with an HTTP/2 client
/// offers `h2`, which a server may choose and which is not supported here. The TLS session store stays shared with the
/// original.
#[cfg(feature = "tls")]
fn with_own_alpn(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    const HTTP_1_1: &[u8] = b"http/1.1";

    match &*config.alpn_protocols {
        [] => config,
        [one] if one == HTTP_1_1 => config,
        _ => {
            let mut own = ClientConfig::clone(&config);
            own.alpn_protocols = vec![HTTP_1_1.to_vec()];
            Arc::new(own)
        }
    }
}

#[cfg(feature = "tls")]
async fn handshake(socket: Socket, host: &str, config: Arc<ClientConfig>) -> Result<Socket, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        Error::config(format!("`{host}` is not a valid name for a TLS certificate")).with_source(error)
    })?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, Box::new(socket)).await.map_err(|error| {
        let by_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        match by_tls {
            true => Error::tls(format!("the TLS handshake with {host} failed")).with_source(error),
            false => Error::from(error),
        }
    })?;
    Ok(Socket::over_tls(stream))
}
