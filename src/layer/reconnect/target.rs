use std::fmt;

use http::{Request, Uri};

use crate::Error;

/// The target of a connection: a URL, or a request with headers and extensions, which is cloned for each attempt.
///
/// A conversion from an invalid URL succeeds. The first attempt then fails with an error for which
/// [`is_config`](Error::is_config) is true, and which is final. Use [`parse`](Self::parse) to validate it up front.
#[derive(Clone)]
pub struct Target(Result<Request<()>, Error>);

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `url` is not a URL. The connector checks
    /// the scheme.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let target = Self::from(url);
        match target.0 {
            Ok(_) => Ok(target),
            Err(error) => Err(error),
        }
    }

    pub(super) fn request(&self) -> Result<Request<()>, Error> {
        self.0.clone()
    }
}

impl From<&str> for Target {
    fn from(url: &str) -> Self {
        Self(parse(url).map(request))
    }
}

impl From<String> for Target {
    fn from(url: String) -> Self {
        Self::from(url.as_str())
    }
}

impl From<Uri> for Target {
    fn from(uri: Uri) -> Self {
        Self(Ok(request(uri)))
    }
}

impl From<Request<()>> for Target {
    fn from(request: Request<()>) -> Self {
        Self(Ok(request))
    }
}

/// Uses the connectors' own parser if there are connectors: it accepts internationalized host names, too.
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
fn parse(url: &str) -> Result<Uri, Error> {
    crate::transport::target::uri(url)
}

#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), target_arch = "wasm32"))]
fn parse(url: &str) -> Result<Uri, Error> {
    crate::transport::page::parse(url)
}

#[cfg(not(any(feature = "websocket", feature = "sse", feature = "webtransport")))]
fn parse(url: &str) -> Result<Uri, Error> {
    // The error does not repeat the URL, which may contain a password or a token.
    url.parse()
        .map_err(|error: http::uri::InvalidUri| Error::config("the URL to connect to is not a URL").with_source(error))
}

fn request(uri: Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    request
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL and a header may hold secrets, so only the host is printed.
        match &self.0 {
            Ok(request) => f.debug_tuple("Target").field(&request.uri().host()).finish(),
            Err(error) => f.debug_tuple("Target").field(error).finish(),
        }
    }
}
