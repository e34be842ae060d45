//! The common part of connectors and servers: their setters with the documentation, the future of a connector's call,
//! and the time limit of a handshake.

use std::time::Duration;

use crate::{Error, rt};

/// Limits the time of a step of a handshake. `failure` says what did not happen.
pub(super) async fn in_time<T>(
    limit: Duration,
    failure: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    rt::timeout(limit, step).await.unwrap_or_else(|elapsed| {
        Err(Error::timeout(format!("{failure} within {limit:?} (Limits::handshake)")).with_source(elapsed))
    })
}

/// Defines the future of a connector's call, which is boxed once per attempt.
macro_rules! connecting {
    ($(#[$docs:meta])* $name:ident, $made:ty) => {
        $(#[$docs])*
        #[must_use = "futures do nothing unless awaited"]
        pub struct $name(
            std::pin::Pin<
                Box<$crate::threads::dyn_send!(std::future::Future<Output = Result<$made, $crate::Error>>)>,
            >,
        );

        impl std::future::Future for $name {
            type Output = Result<$made, $crate::Error>;

            fn poll(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                self.0.as_mut().poll(cx)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

/// Implements the setters of a connector with the fields `limits` and `subprotocols`.
macro_rules! connector_setters {
    (limits: $limits:literal, choice: $choice:literal) => {
        #[doc = $limits]
        #[must_use]
        pub fn limits(mut self, limits: crate::Limits) -> Self {
            self.limits = limits;
            self
        }

        /// Offers a subprotocol in the header `Sec-WebSocket-Protocol` (RFC 6455, section 1.9). Offer the preferred one
        /// first.
        #[doc = $choice]
        ///
        /// # Errors
        ///
        /// Returns an error for which [`is_config`](crate::Error::is_config) is true if the name is not a token of
        /// visible ASCII characters.
        pub fn subprotocol(mut self, name: &str) -> Result<Self, crate::Error> {
            self.subprotocols.push(crate::transport::subprotocol::parse(name)?);
            Ok(self)
        }
    };
}

/// Implements `connect` of a connector.
macro_rules! connect_method {
    ($transport:ident $(, $dialer:ident)?) => {
        /// Connects to `url`, without headers of your own, and returns the transport. It accepts what a browser accepts
        /// as a URL, including internationalized host names.
        ///
        /// For headers, or for those of the response, use the connector as a `Service` of [`http::Request`].
        ///
        /// # Errors
        ///
        /// Returns the errors of the connector. An invalid `url` is one for which
        /// [`is_config`](crate::Error::is_config) is true.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future drops the connection attempt.
        pub fn connect(
            &self,
            url: &str,
        ) -> impl std::future::Future<Output = Result<$transport, crate::Error>> + crate::MaybeSend + use<$($dialer)?> {
            #[cfg(not(target_arch = "wasm32"))]
            let request = crate::transport::target::request(url);
            #[cfg(target_arch = "wasm32")]
            let request = crate::transport::page::request(url);
            let mut connector = self.clone();
            async move { Ok(connector.call(request?).await?.into_body()) }
        }
    };
}

/// Implements the setters of a connector with the fields `dialer` and `tls`, for every dialer. They call the method
/// `changed`, if there is one.
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
macro_rules! dialer_setters {
    ($scheme:literal $(, $changed:ident)?) => {
        #[doc = concat!("Uses this TLS configuration for `", $scheme, "://`: custom roots, client certificates.")]
        /// Defaults to the operating system's roots (feature `tls-platform-roots`). ALPN is set here: a configuration
        /// shared with an HTTP/2 client (`h2`) offers only what the connector speaks.
        #[cfg(feature = "tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        #[must_use]
        pub fn tls(mut self, config: std::sync::Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
            self.tls.set(config);
            $(self.$changed();)?
            self
        }
    };
}

/// Implements the setters of a connector whose field `dialer` is the default one; see [`dialer_setters`].
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
macro_rules! default_dialer_setters {
    ($($changed:ident)?) => {
        /// Connects through a proxy: `http://host:port`, or `socks5://` or `socks5h://` with the feature `proxy`. See
        /// [`Dialer::proxy`](crate::transport::dial::Dialer::proxy).
        ///
        /// # Errors
        ///
        /// Returns an error for which [`is_config`](crate::Error::is_config) is true if the URL has another form:
        /// another scheme, a path, or a port over 65535.
        pub fn proxy(mut self, proxy: &http::Uri) -> Result<Self, crate::Error> {
            self.dialer = self.dialer.proxy(proxy)?;
            $(self.$changed();)?
            Ok(self)
        }

        /// Connects through the proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`. See
        /// [`Dialer::proxy_from_env`](crate::transport::dial::Dialer::proxy_from_env).
        ///
        /// # Errors
        ///
        /// Returns an error for which [`is_config`](crate::Error::is_config) is true if a variable is not the URL of a
        /// supported proxy.
        #[cfg(feature = "proxy")]
        #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
        pub fn proxy_from_env(mut self) -> Result<Self, crate::Error> {
            self.dialer = self.dialer.proxy_from_env()?;
            $(self.$changed();)?
            Ok(self)
        }

        /// Connects over the Unix socket at `path`. The request's URI then only determines the requested resource.
        #[cfg(unix)]
        #[must_use]
        pub fn unix(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.dialer = self.dialer.unix(path);
            $(self.$changed();)?
            self
        }

        /// Returns the proxy or the Unix socket through which it connects to the server of `uri`.
        #[cfg(feature = "adaptive")]
        #[allow(dead_code, reason = "the adaptive connector uses no plain event stream")]
        pub(crate) fn route(&self, uri: &http::Uri) -> Option<String> {
            self.dialer.route(uri)
        }
    };
}

/// Implements the setters of a server with a method `config`, which returns its `limits`, `subprotocols` and `origins`.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! server_setters {
    (each: $each:literal, choice: $choice:literal, origin: $origin:literal, any_origin: $any_origin:literal) => {
        #[doc = concat!("Sets the limits of each ", $each, ".")]
        #[must_use]
        pub fn limits(mut self, limits: crate::Limits) -> Self {
            self.config().limits = limits;
            self
        }

        /// Supports a subprotocol (RFC 6455, section 1.9). Of those that the client offers, the first one added here is
        /// chosen.
        #[doc = $choice]
        /// A client that offers none of them is accepted without a subprotocol.
        ///
        /// # Errors
        ///
        /// Returns an error for which [`is_config`](crate::Error::is_config) is true if the name is not a token of
        /// visible ASCII characters.
        pub fn subprotocol(mut self, name: &str) -> Result<Self, crate::Error> {
            let name = crate::transport::subprotocol::parse(name)?;
            self.config().subprotocols.push(name);
            Ok(self)
        }

        /// Supports a subprotocol whose name is known to be valid.
        #[allow(dead_code, reason = "for the ready-made stacks")]
        pub(crate) fn with_subprotocol(mut self, name: http::HeaderValue) -> Self {
            self.config().subprotocols.push(name);
            self
        }

        /// Also accepts pages of this origin (`https://app.example.com`, with scheme and port as the browser sends
        /// them).
        #[doc = $origin]
        #[must_use]
        pub fn allow_origin(mut self, origin: http::HeaderValue) -> Self {
            self.config().origins.allow(origin);
            self
        }

        /// Accepts pages of every origin.
        #[doc = $any_origin]
        #[must_use]
        pub fn allow_any_origin(mut self) -> Self {
            self.config().origins.allow_any();
            self
        }
    };
}

/// Implements the setter of a server whose pages may be loaded over `http://`; see [`server_setters`].
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
macro_rules! https_setter {
    () => {
        /// Rejects pages that were loaded over `http://`, including those of the same host, unless
        /// [`allow_origin`](Self::allow_origin) names them. An attacker on the network path can change such a page, and
        /// it has the user's cookies. Call this if clients reach this server over `https://` only.
        ///
        /// Over HTTP/2 and HTTP/3 the request names its scheme, and such pages are rejected without this. Over
        /// HTTP/1.1, and behind a proxy that terminates TLS, the server cannot know the scheme. Without this setting,
        /// it then rejects only the pages that a browser reports by `Sec-Fetch-Site: cross-site`.
        #[must_use]
        pub fn https_pages_only(mut self) -> Self {
            self.config().origins.https_only();
            self
        }
    };
}

/// Implements the setter of a WebSocket server's compression; see [`server_setters`].
#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
macro_rules! deflate_setter {
    () => {
        /// Accepts permessage-deflate: messages to and from clients that offer it are compressed, as browsers do. Off
        /// by default. Read [about secrets](crate::transport::websocket::PerMessageDeflate#secrets) before.
        #[cfg(feature = "deflate")]
        #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
        #[must_use]
        pub fn per_message_deflate(mut self, deflate: crate::transport::websocket::PerMessageDeflate) -> Self {
            self.config().deflate = Some(deflate);
            self
        }
    };
}
