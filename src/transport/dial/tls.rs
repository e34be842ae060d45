use std::sync::Arc;

use tokio_rustls::rustls::{self, ClientConfig, pki_types::ServerName};

use super::Socket;
use crate::Error;

/// The configuration that trusts what the operating system trusts, made once: reading its roots takes milliseconds.
#[cfg(feature = "tls-platform-roots")]
pub(super) fn platform() -> Result<Arc<ClientConfig>, Error> {
    use std::sync::OnceLock;

    use rustls_platform_verifier::ConfigVerifierExt;

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let config = ClientConfig::with_platform_verifier()
        .map_err(|error| Error::tls("the operating system's roots could not be used").with_source(error))?;
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(not(feature = "tls-platform-roots"))]
pub(super) fn platform() -> Result<Arc<ClientConfig>, Error> {
    Err(Error::config(
        "TLS needs roots: give the connector a configuration by its method `tls`, or turn the feature `tls-platform-roots` on",
    ))
}

pub(super) async fn handshake(socket: Socket, host: &str, config: Arc<ClientConfig>) -> Result<Socket, Error> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Error::config(format!("`{host}` is not a name that a certificate has")).with_source(error))?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, Box::new(socket)).await.map_err(|error| {
        let by_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        match by_tls {
            true => Error::tls(format!("the TLS handshake with {host} failed")).with_source(error),
            false => Error::from(error),
        }
    })?;
    Ok(stream.into())
}
