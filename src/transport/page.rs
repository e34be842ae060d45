//! The common part of a page's transports: URLs for the browser, and the little that it tells about failures.

#[cfg(any(feature = "sse", feature = "webtransport"))]
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Uri};
use wasm_bindgen::{JsCast, JsValue};

use crate::Error;

/// Creates the request for a URL string, without headers.
pub(crate) fn request(url: &str) -> Result<Request<()>, Error> {
    let mut request = Request::new(());
    *request.uri_mut() = parse(url)?;
    Ok(request)
}

/// Parses a URL. The browser parses what [`Uri`] does not, such as internationalized host names.
pub(crate) fn parse(url: &str) -> Result<Uri, Error> {
    // The URL itself is not repeated: it may contain a password or a token.
    let refuse = |error| Error::config("the URL to connect to is not a URL").with_source(error);
    url.trim().parse().or_else(|error| match web_sys::Url::new(url) {
        Ok(url) => url.href().parse().map_err(refuse),
        Err(_) => Err(refuse(error)),
    })
}

/// Returns whether a URL is that of a secure scheme, and its authority and path.
pub(crate) fn parts(uri: &Uri) -> Result<(bool, String), Error> {
    const USE: &str = "use http://, https://, ws:// or wss://";

    let is_secure = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
        Some("ws" | "http") => false,
        Some("wss" | "https") => true,
        Some(other) => return Err(Error::config(format!("`{other}` is not a supported scheme; {USE}"))),
        None => {
            // The query is omitted: it may contain a token.
            let (host, path) = (uri.host().unwrap_or_default(), uri.path());
            return Err(Error::config(format!("the URL `{host}{path}` has no scheme; {USE}")));
        }
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(Error::config("the URL has a user, which not every browser sends; use a header or a token"));
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((is_secure, format!("{authority}{path}")))
}

/// Returns the error of a connection that the browser did not make. `may` completes "or it ...".
pub(super) fn failed(what: &str, may: &str) -> Error {
    if crate::rt::is_offline() {
        return Error::io(format!("{what}: the browser is offline"));
    }
    Error::io(format!(
        "{what}; the browser tells a page no reason, but its console shows it: the server is \
         unreachable, its certificate is invalid, or it {may}"
    ))
}

/// Returns what an exception says.
pub(super) fn text(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => "unknown reason".to_owned(),
    }
}

/// The reading end of a stream of the browser's. Dropping a future that polls it loses nothing.
#[cfg(any(feature = "sse", feature = "webtransport"))]
pub(super) struct StreamReader {
    reader: web_sys::ReadableStreamDefaultReader,
    /// The read that is under way.
    next: Option<wasm_bindgen_futures::JsFuture>,
}

#[cfg(any(feature = "sse", feature = "webtransport"))]
impl StreamReader {
    /// Locks the stream, which must not be locked yet.
    pub(super) fn new(stream: &web_sys::ReadableStream) -> Self {
        Self { reader: stream.get_reader().unchecked_into(), next: None }
    }

    /// Returns the next chunk, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns the error of the stream. Nothing is read after it.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<JsValue>, JsValue>> {
        let Self { reader, next } = self;
        let read = ready!(Pin::new(next.get_or_insert_with(|| reader.read().into())).poll(cx));
        *next = None;
        let get = |result: &JsValue, name| crate::rt::property(result, name);
        Poll::Ready(read.map(|read| match get(&read, "done") {
            Some(done) if done == true => None,
            _ => get(&read, "value"),
        }))
    }

    /// Stops reading.
    #[cfg(feature = "webtransport")]
    pub(super) fn cancel(&self, reason: &JsValue) {
        forget(self.reader.cancel_with_reason(reason));
    }
}

/// Leaves a promise alone. One whose failure nobody handles would be reported in the console.
#[cfg(feature = "webtransport")]
pub(super) fn forget(promise: js_sys::Promise) {
    drop(wasm_bindgen_futures::JsFuture::from(promise));
}

/// Creates an object with these members.
#[cfg(feature = "webtransport")]
pub(super) fn object(members: &[(&str, JsValue)]) -> js_sys::Object {
    let object = js_sys::Object::new();
    for (name, value) in members {
        // It fails for objects that are frozen.
        let _ = js_sys::Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}
