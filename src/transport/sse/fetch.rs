//! HTTP in a page: requests by the browser's `fetch`, whose bodies arrive in chunks. Dropping a response aborts it.

use std::{
    fmt,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use js_sys::{Function, Iterator, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Headers, Request, RequestCache, RequestCredentials, RequestInit, RequestRedirect};

use crate::{
    Error,
    transport::page::{self, StreamReader},
};

/// The most bytes of a refusal's body that are read.
const MAX_REFUSAL: usize = 4096;

#[wasm_bindgen]
extern "C" {
    /// The same in a window and in a worker.
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(request: &Request) -> Promise;
}

/// Aborts the exchange when it is dropped, which also ends the promises that wait for it.
struct Abort(AbortController);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of a response.
pub(super) struct Body {
    reader: Option<StreamReader>,
    _abort: Abort,
}

impl Body {
    /// Returns the next chunk.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(None) };
        let read = ready!(reader.poll_next(cx)).map(|chunk| chunk?.dyn_into::<Uint8Array>().ok());
        if let Ok(Some(bytes)) = read {
            return Poll::Ready(Some(Ok(bytes.to_vec().into())));
        }
        self.reader = None;
        let cut = || Error::closed("the response was cut; the browser does not tell a page why");
        Poll::Ready(read.err().map(|_| Err(cut())))
    }

    /// There is nothing to drive: the browser reads.
    #[allow(clippy::unused_self, reason = "the native body has a connection to drive")]
    pub(super) fn drive(&mut self, _: &mut Context<'_>) {}

    /// Reads at most `most` bytes.
    pub(super) async fn read(mut self, most: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        while bytes.len() < most
            && let Some(Ok(chunk)) = std::future::poll_fn(|cx| self.poll_data(cx)).await
        {
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(most);
        bytes.freeze()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// The handling of a redirect.
#[derive(Clone, Copy)]
pub(super) enum Redirects {
    Follow,
    /// The browser reports it as a failure without a reason.
    Refuse,
}

/// Sends a request. The browser adds cookies of the same origin, and keeps no copy of the answer.
///
/// # Errors
///
/// Returns an error for which [`is_io`](Error::is_io) is true if there is no response, and one for which
/// [`is_config`](Error::is_config) is true if a header cannot be sent.
pub(super) async fn send(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    redirects: Redirects,
) -> Result<Response<Body>, Error> {
    let abort = Abort(AbortController::new().map_err(|thrown| refused(&thrown))?);
    let init = RequestInit::new();
    init.set_method(method.as_str());
    init.set_cache(RequestCache::NoStore);
    init.set_credentials(RequestCredentials::SameOrigin);
    init.set_signal(Some(&abort.0.signal()));
    init.set_redirect(match redirects {
        Redirects::Follow => RequestRedirect::Follow,
        Redirects::Refuse => RequestRedirect::Error,
    });
    let sent = Headers::new().map_err(|thrown| refused(&thrown))?;
    for (name, value) in headers {
        let value = value.to_str().map_err(|error| {
            Error::config(format!("the header `{name}` has characters other than visible ASCII")).with_source(error)
        })?;
        sent.append(name.as_str(), value).map_err(|thrown| refused(&thrown))?;
    }
    init.set_headers(&sent);
    if let Some(body) = body {
        init.set_body(&Uint8Array::from(body));
    }
    let request = Request::new_with_str_and_init(&url(uri)?, &init).map_err(|thrown| refused(&thrown))?;
    // The browser leaves out the headers that are its own.
    if let Some(name) = headers.keys().find(|name| !request.headers().has(name.as_str()).unwrap_or(false)) {
        return Err(Error::config(format!("a page cannot send the header `{name}`; the browser sets it")));
    }
    let response: web_sys::Response = match JsFuture::from(fetch(&request)).await {
        Ok(response) => response.unchecked_into(),
        Err(_) => return Err(failed(uri)),
    };
    let status = StatusCode::from_u16(response.status()).map_err(|_| failed(uri))?;
    let reader = response.body().map(|body| StreamReader::new(&body));
    let mut answer = Response::new(Body { reader, _abort: abort });
    *answer.status_mut() = status;
    *answer.headers_mut() = received(&response.headers());
    Ok(answer)
}

/// Returns the error of a response that refuses the request.
pub(super) async fn refusal(answer: Response<Body>) -> Error {
    let (head, body) = answer.into_parts();
    let body = body.read(MAX_REFUSAL).await;
    refusal_of(head.status, head.headers, body)
}

pub(super) fn refusal_of(status: StatusCode, headers: HeaderMap, body: Bytes) -> Error {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let refusal = Error::from_refusal(status, body).with_response_headers(headers);
    match seconds {
        Some(seconds) => refusal.with_retry_after(std::time::Duration::from_secs(seconds)),
        None => refusal,
    }
}

/// Copies the headers that the browser shows to a page.
fn received(headers: &Headers) -> HeaderMap {
    let mut received = HeaderMap::new();
    let entries = Reflect::get(headers, &JsValue::from_str("entries")).ok().and_then(|f| f.dyn_into::<Function>().ok());
    let entries = entries.and_then(|entries| entries.call0(headers).ok());
    let Some(entries) = entries.and_then(|entries| entries.dyn_into::<Iterator>().ok()) else { return received };
    for entry in entries.into_iter().flatten() {
        let entry: js_sys::Array = entry.unchecked_into();
        let (name, value) = (entry.get(0).as_string(), entry.get(1).as_string());
        let name = name.and_then(|name| HeaderName::try_from(name).ok());
        let value = value.and_then(|value| HeaderValue::try_from(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            received.append(name, value);
        }
    }
    received
}

/// Returns the URL for the browser, which parses it again.
fn url(uri: &Uri) -> Result<String, Error> {
    let (secure, rest) = page::parts(uri)?;
    Ok(format!("{}://{rest}", if secure { "https" } else { "http" }))
}

fn refused(thrown: &JsValue) -> Error {
    Error::config(format!("the browser refuses the request: {}", page::text(thrown)))
}

fn failed(uri: &Uri) -> Error {
    let host = uri.host().unwrap_or_default();
    page::failed(&format!("`{host}` did not answer the request"), "refuses pages of this origin (CORS)")
}
