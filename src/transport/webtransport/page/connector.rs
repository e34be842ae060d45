use std::{
    fmt,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use js_sys::{Array, Uint8Array};
use tower_service::Service;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use super::{Session, WebTransport, session::Ended};
use crate::{
    Error, Limits,
    rt::property,
    transport::{
        page::{self, object},
        setters::in_time,
        subprotocol,
        webtransport::{CertificateHash, WebTransportStream},
    },
};

/// A connector for the browser's WebTransport: a `Service` that takes the handshake's request and returns its response
/// with the first bidirectional stream of the session as the body. [`connect_session`](Self::connect_session) returns
/// the session instead.
///
/// It has the name, the request and the response of the native connector, so the same source works on both targets. The
/// request's URI is the destination (`https://`; `wss://` means the same).
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower::ServiceExt;
/// use tower_transport::{Message, TransportExt, transport::webtransport::WebTransportConnector};
///
/// let connector = WebTransportConnector::new().subprotocol("chat.v1")?;
/// let request = http::Request::get("https://localhost:4433/chat").body(())?;
/// let mut chat = connector.oneshot(request).await?.into_body();
/// chat.send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # What a page can say and learn
///
/// - A page sends no headers. A request with one is an error, because it would not arrive, except for
///   `Sec-WebSocket-Protocol`: its names are offered as the session's protocols.
/// - A browser that does not know these protocols offers none, and the response has no choice.
/// - The response has the status 200, and the server's choice of a subprotocol. The browser shows no header.
///
/// # Trust
///
/// The browser trusts its own roots, or only the certificates with the given
/// [hashes](Self::certificate_hashes). With hashes, it requires a certificate that is valid for at most 14 days and
/// whose key is not RSA.
///
/// # Backpressure
///
/// The service is always ready. A call waits for the browser, at most [`Limits::handshake`].
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL or a header cannot be used in a page.
/// - [`is_timeout`](Error::is_timeout) if the handshake takes too long.
/// - [`is_io`](Error::is_io) if the connection fails in any other way. The browser tells a page neither the reason nor
///   the status: UDP is blocked, the certificate is not trusted, or the server refuses the session.
///
/// In a browser without WebTransport, and in a page that is not a secure context, the error says so and has none of
/// these kinds.
///
/// # Cancel safety
///
/// Dropping the future closes the connection attempt.
#[derive(Clone, Default)]
pub struct WebTransportConnector {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    hashes: Vec<CertificateHash>,
}

impl WebTransportConnector {
    /// Creates a connector with the default [`Limits`], which trusts the browser's roots.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    connector_setters! {
        limits: "Sets the limits of the handshake and of each stream.",
        choice: "The server's choice is in the response's header of that name and in \
                 [`WebTransportStream::subprotocol`]."
    }

    /// Trusts only the certificates with these hashes, whatever their signer and names: the browser's
    /// `serverCertificateHashes`.
    #[must_use]
    pub fn certificate_hashes(mut self, hashes: impl IntoIterator<Item = CertificateHash>) -> Self {
        self.hashes = hashes.into_iter().collect();
        self
    }

    connect_method!(WebTransportStream);

    /// Connects a session without opening a stream in it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the connector.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection attempt.
    pub async fn connect_session(&self, request: Request<()>) -> Result<Response<Session>, Error> {
        in_time(self.limits.handshake, LATE, self.session(request)).await
    }

    async fn session(&self, request: Request<()>) -> Result<Response<Session>, Error> {
        let (secure, rest) = page::parts(request.uri())?;
        if !secure {
            return Err(Error::config("WebTransport is always encrypted: use https:// (or wss://) in the URL"));
        }
        let headers = request.headers();
        if let Some(name) = headers.keys().find(|name| **name != header::SEC_WEBSOCKET_PROTOCOL) {
            return Err(Error::config(format!(
                "a page cannot send the header `{name}` in a WebTransport handshake; send a token in the URL's query \
                 or in the first message"
            )));
        }
        if property(&js_sys::global(), "WebTransport").is_none_or(|class| class.is_undefined()) {
            return Err(Error::other("this browser has no WebTransport, or the page is not a secure context"));
        }
        let offered = subprotocol::names(headers, &self.subprotocols);
        let raw = Opening(Some(self.begin(&format!("https://{rest}"), &offered)?));
        let session = raw.ready(self.limits).await.map_err(|_| failed(request.uri()))?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        *response.version_mut() = Version::HTTP_3;
        if let Some(value) = session.subprotocol().and_then(|chosen| HeaderValue::from_str(chosen).ok()) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        Ok(response.map(|()| session))
    }

    fn begin(&self, url: &str, offered: &[&str]) -> Result<WebTransport, Error> {
        let mut options = Vec::new();
        if !offered.is_empty() {
            let names: Array = offered.iter().map(|name| JsValue::from_str(name)).collect();
            options.push(("protocols", names.into()));
        }
        if !self.hashes.is_empty() {
            let hash = |hash: &CertificateHash| {
                let value = Uint8Array::from(hash.as_bytes().as_slice());
                object(&[("algorithm", JsValue::from_str("sha-256")), ("value", value.into())])
            };
            options.push(("serverCertificateHashes", self.hashes.iter().map(hash).collect::<Array>().into()));
        }
        WebTransport::new(url, &object(&options))
            .map_err(|thrown| Error::config(format!("the browser refuses to connect: {}", page::text(&thrown))))
    }

    async fn stream(self, request: Request<()>) -> Result<Response<WebTransportStream>, Error> {
        let (head, session) = self.session(request).await?.into_parts();
        let stream = session.open().await?;
        Ok(Response::from_parts(head, stream))
    }
}

/// The failure of a connect that takes too long.
const LATE: &str = "UDP may be blocked: the session was not established";

fn failed(uri: &Uri) -> Error {
    let host = uri.host().unwrap_or_default();
    let may = "refuses the session (status, origin), or UDP is blocked";
    page::failed(&format!("the WebTransport session with `{host}` was not established"), may)
}

/// A session that is being established. Dropping it closes the attempt.
struct Opening(Option<WebTransport>);

impl Opening {
    async fn ready(mut self, limits: Limits) -> Result<Session, JsValue> {
        let Some(raw) = self.0.clone() else { return Err(JsValue::UNDEFINED) };
        let ended = Ended::of(&raw);
        JsFuture::from(raw.ready()).await?;
        self.0 = None;
        Ok(Session::new(raw, ended, limits))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(raw) = &self.0 {
            let _ = raw.close(&object(&[]));
        }
    }
}

impl Service<Request<()>> for WebTransportConnector {
    type Response = Response<WebTransportStream>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Connecting {
        let time = self.limits.handshake;
        Connecting(Box::pin(in_time(time, LATE, self.clone().stream(request))))
    }
}

connecting! {
    /// The future of a [`WebTransportConnector`]: one connection attempt.
    Connecting, Response<WebTransportStream>
}

impl fmt::Debug for WebTransportConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportConnector").field("limits", &self.limits).finish_non_exhaustive()
    }
}
