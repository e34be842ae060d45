use std::fmt;

use http::{Request, Uri};

use crate::Error;

/// Where to connect: a URL, or a whole request with its headers and extensions, which is cloned for each attempt.
///
/// From what is no URL it is made all the same: the first attempt then fails with an error that
/// [`is_config`](Error::is_config), which is final. [`parse`](Self::parse) tells it at once.
#[derive(Clone)]
pub struct Target(Result<Request<()>, Error>);

impl Target {
    /// The target of a URL.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config): this is no URL. Whether its scheme fits, the connector knows.
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

/// By the connectors' own parser, where there are connectors: it takes names of any script, too.
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32")))]
fn parse(url: &str) -> Result<Uri, Error> {
    crate::transport::target::uri(url)
}

#[cfg(not(all(any(feature = "websocket", feature = "sse", feature = "webtransport"), not(target_arch = "wasm32"))))]
fn parse(url: &str) -> Result<Uri, Error> {
    // The URL itself is not repeated: it may carry a password or a token.
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
        // A URL and a header may each hold a secret: the host tells enough.
        match &self.0 {
            Ok(request) => f.debug_tuple("Target").field(&request.uri().host()).finish(),
            Err(error) => f.debug_tuple("Target").field(error).finish(),
        }
    }
}
