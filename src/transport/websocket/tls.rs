use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

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
    Err(Error::config("wss:// needs roots: WebSocketConnector::tls(config), or the feature `tls-platform-roots`"))
}
