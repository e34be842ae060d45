//! What each connector over TCP is told in the same words: the way to its server.

/// For a connector with a field `dialer`.
macro_rules! dialer_methods {
    ($scheme:literal) => {
        /// Connects through an HTTP proxy (`http://host:port`, with `user:password@` where it asks for it) by CONNECT.
        ///
        /// # Errors
        ///
        /// [`is_config`](crate::Error::is_config) for a URL that is not of that form: another scheme, a path, a port over 65535.
        pub fn proxy(mut self, proxy: &http::Uri) -> Result<Self, crate::Error> {
            self.dialer.proxy(proxy)?;
            Ok(self)
        }

        /// Connects over the Unix socket at `path`; the request's URI then only says what is asked for.
        #[cfg(unix)]
        #[must_use]
        pub fn unix(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.dialer.unix(path.into());
            self
        }

        #[doc = concat!("Uses this TLS configuration for `", $scheme, "://`: own roots, client certificates, versions. Without it ")]
        /// the roots are those of the operating system (feature `tls-platform-roots`). ALPN is set here: a configuration that is shared with a
        /// client of HTTP/2 (`h2`) offers `http/1.1` alone on these connections.
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
