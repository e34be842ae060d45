//! Methods shared by every connector over TCP, which set the route to its server.

/// Implements the methods for a connector with a field `dialer`.
macro_rules! dialer_methods {
    ($scheme:literal) => {
        /// Connects through an HTTP proxy by CONNECT. The URL is `http://host:port`, with `user:password@` if the proxy
        /// requires credentials.
        ///
        /// # Errors
        ///
        /// Returns an error for which [`is_config`](crate::Error::is_config) is true if the URL has another form:
        /// another scheme, a path, or a port over 65535.
        pub fn proxy(mut self, proxy: &http::Uri) -> Result<Self, crate::Error> {
            self.dialer.proxy(proxy)?;
            Ok(self)
        }

        /// Connects over the Unix socket at `path`. The request's URI then only determines the requested resource.
        #[cfg(unix)]
        #[must_use]
        pub fn unix(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.dialer.unix(path.into());
            self
        }

        #[doc = concat!("Uses this TLS configuration for `", $scheme, "://`: custom roots, client certificates, versions. Defaults to ")]
        /// the operating system's roots (feature `tls-platform-roots`). ALPN is set here: a configuration shared with
        /// an HTTP/2 client (`h2`) offers only `http/1.1` on these connections.
        #[cfg(feature = "tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        #[must_use]
        pub fn tls(mut self, config: std::sync::Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
            self.dialer.tls(config);
            self
        }
    };
}

pub(in crate::transport) use dialer_methods;
