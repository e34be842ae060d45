//! The browser's `WebTransport`: the connector and the session of a page, on bindings of the few members that they use.
//! web-sys has them behind a `--cfg` that users would have to set.

mod connector;
mod session;

use std::cell::Cell;

use js_sys::{Object, Promise};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use web_sys::{ReadableStream, WritableStream};

pub use self::{
    connector::{Connecting, WebTransportConnector},
    session::Session,
};
use crate::{
    Error,
    rt::property,
    transport::{
        page::{object, text},
        webtransport::closed::closed_by_peer,
    },
};

#[wasm_bindgen]
extern "C" {
    /// A session.
    #[derive(Clone)]
    pub(crate) type WebTransport;

    #[wasm_bindgen(constructor, catch)]
    fn new(url: &str, options: &Object) -> Result<WebTransport, JsValue>;

    #[wasm_bindgen(method, getter)]
    fn ready(this: &WebTransport) -> Promise;

    #[wasm_bindgen(method, getter)]
    fn closed(this: &WebTransport) -> Promise;

    #[wasm_bindgen(method, getter)]
    pub(super) fn datagrams(this: &WebTransport) -> Datagrams;

    #[wasm_bindgen(method, getter, js_name = incomingBidirectionalStreams)]
    fn incoming_bidirectional(this: &WebTransport) -> ReadableStream;

    #[wasm_bindgen(method, getter, js_name = incomingUnidirectionalStreams)]
    fn incoming_unidirectional(this: &WebTransport) -> ReadableStream;

    #[wasm_bindgen(method, js_name = createBidirectionalStream)]
    pub(super) fn create_bidirectional(this: &WebTransport) -> Promise;

    #[wasm_bindgen(method, js_name = createUnidirectionalStream)]
    pub(super) fn create_unidirectional(this: &WebTransport) -> Promise;

    #[wasm_bindgen(method, catch)]
    fn close(this: &WebTransport, info: &Object) -> Result<(), JsValue>;

    /// A bidirectional stream, and the datagrams of browsers that have one writable stream for them.
    pub(crate) type Datagrams;

    #[wasm_bindgen(method, getter)]
    pub(super) fn readable(this: &Datagrams) -> ReadableStream;

    #[wasm_bindgen(method, getter)]
    pub(super) fn writable(this: &Datagrams) -> WritableStream;

    #[wasm_bindgen(method, js_name = createWritable)]
    fn create_writable(this: &Datagrams) -> WritableStream;

    #[wasm_bindgen(method, getter, js_name = maxDatagramSize)]
    pub(super) fn max_size(this: &Datagrams) -> f64;

    /// The reason for which a stream is reset.
    type WebTransportError;

    #[wasm_bindgen(constructor, catch)]
    fn new(message: &str, options: &Object) -> Result<WebTransportError, JsValue>;

    /// The constructor of browsers that follow an older draft.
    #[wasm_bindgen(constructor, catch, js_class = "WebTransportError")]
    fn of_draft(options: &Object) -> Result<WebTransportError, JsValue>;
}

/// Returns the reason with which a page resets a stream. Browsers of an older draft have codes of one byte only: a code
/// that the browser would change is left out.
pub(super) fn reset_with(code: u32) -> JsValue {
    thread_local! {
        /// Remembered, because wasm-bindgen keeps an object for each exception of a constructor.
        static IS_DRAFT: Cell<bool> = const { Cell::new(false) };
    }
    if code == 0 {
        return JsValue::UNDEFINED;
    }
    let options = object(&[("streamErrorCode", JsValue::from(code))]);
    let error = match IS_DRAFT.get() {
        true => WebTransportError::of_draft(&options),
        false => WebTransportError::new("", &options).or_else(|_| {
            IS_DRAFT.set(true);
            WebTransportError::of_draft(&options)
        }),
    };
    let error = error.map_or(JsValue::UNDEFINED, JsCast::unchecked_into);
    match property(&error, "streamErrorCode") {
        Some(sent) if sent == f64::from(code) => error,
        _ => JsValue::UNDEFINED,
    }
}

/// Returns the error of a stream that the peer ended. Returns `None` if the session is the reason.
pub(super) fn ended_stream(what: &'static str, thrown: &JsValue) -> Option<Error> {
    let is = |name: &str| property(thrown, "source").and_then(|source| source.as_string()).is_some_and(|s| s == name);
    match property(thrown, "streamErrorCode").and_then(|code| code.as_f64()) {
        Some(code) if is("stream") => Some(closed_by_peer(what, code as u32, "")),
        _ if is("session") => None,
        _ => Some(Error::closed(format!("{what}: {}", text(thrown)))),
    }
}
