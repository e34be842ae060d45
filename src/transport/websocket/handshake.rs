//! The opening handshake of RFC 6455, section 4, as pure functions over HTTP heads.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use sha1_smol::Sha1;

#[cfg(feature = "deflate")]
use super::PerMessageDeflate;
use crate::{
    Error,
    transport::{
        dial::Target,
        origin::check_host,
        refusal::Refusal,
        subprotocol::{self, chosen, one, tokens},
    },
};

/// A client's request, and the values to check its response against.
pub(super) struct Offer {
    pub(super) request: Request<()>,
    /// Empty over HTTP/2.
    pub(super) key: String,
    /// Those of the connector and of the request.
    pub(super) subprotocols: Vec<String>,
    #[cfg(feature = "deflate")]
    pub(super) deflate: Option<PerMessageDeflate>,
}

impl Offer {
    /// Creates the upgrade request from the user's request, whose headers are kept.
    pub(super) fn new(request: Request<()>, target: &Target, subprotocols: &[HeaderValue]) -> Result<Self, Error> {
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        let (mut parts, ()) = request.into_parts();
        parts.method = Method::GET;
        parts.version = Version::HTTP_11;
        parts.uri = target.path.clone().into();
        let headers = &mut parts.headers;
        headers.entry(header::HOST).or_insert_with(|| target.authority.clone());
        target.authorize(headers)?;
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::try_from(&key)
            .map_err(|error| Error::other("a generated key is not a header value").with_source(error))?;
        headers.insert(header::SEC_WEBSOCKET_KEY, value);
        subprotocol::offer(headers, subprotocols)?;
        Ok(Self::of(Request::from_parts(parts, ()), key))
    }

    /// Creates the extended CONNECT of HTTP/2 (RFC 8441, section 5) from the user's request, whose headers are kept.
    #[cfg(feature = "http2")]
    pub(super) fn over_http2(
        request: Request<()>,
        target: &Target,
        subprotocols: &[HeaderValue],
    ) -> Result<Self, Error> {
        let (mut parts, ()) = request.into_parts();
        parts.method = Method::CONNECT;
        parts.version = Version::HTTP_2;
        // The URI's authority is the `Host` of HTTP/1.1.
        let authority = parts.headers.remove(header::HOST).unwrap_or_else(|| target.authority.clone());
        parts.uri = http::Uri::builder()
            .scheme(if target.secure { "https" } else { "http" })
            .authority(authority.as_bytes())
            .path_and_query(target.path.clone())
            .build()
            .map_err(|error| Error::config("the request's Host is not valid in a URI").with_source(error))?;
        parts.extensions.insert(hyper::ext::Protocol::from_static("websocket"));
        target.authorize(&mut parts.headers)?;
        parts.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        subprotocol::offer(&mut parts.headers, subprotocols)?;
        Ok(Self::of(Request::from_parts(parts, ()), String::new()))
    }

    fn of(request: Request<()>, key: String) -> Self {
        Self {
            subprotocols: subprotocol::offered(request.headers()),
            request,
            key,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    /// Offers permessage-deflate, too.
    #[cfg(feature = "deflate")]
    pub(super) fn with_deflate(mut self, deflate: Option<PerMessageDeflate>) -> Self {
        if let Some(deflate) = &deflate {
            self.request.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.offer());
        }
        self.deflate = deflate;
        self
    }
}

/// Returns an error if the server's response names an extension, though none was offered.
pub(super) fn refuse_extensions(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Error::protocol("the server uses an extension that was not offered"));
    }
    Ok(())
}

/// Checks a 101 response (RFC 6455, section 4.1), or a 200 response of HTTP/2, except its extensions. Returns the
/// subprotocol that the server chose.
pub(super) fn check_answer<B>(
    answer: &mut Response<B>,
    key: &str,
    offered: &[String],
) -> Result<Option<Box<str>>, Error> {
    let is_upgrade = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    if !is_upgrade {
        return chosen(headers, offered);
    }
    if !has_token(headers, &header::UPGRADE, "websocket") || !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(Error::protocol("the server switched protocols, but not to WebSocket"));
    }
    let accept = one(headers, &header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept != Some(accept_of(key.as_bytes()).as_bytes()) {
        return Err(Error::protocol(
            "the server's Sec-WebSocket-Accept does not match the key; is the response cached?",
        ));
    }
    chosen(headers, offered)
}

/// Checks a request on the server. Returns the answer to its key. An extended CONNECT of HTTP/2 has no key, unless a
/// proxy has made it of an upgrade: the client behind Envoy needs the answer.
pub(super) fn check_request(parts: &request::Parts) -> Result<Option<HeaderValue>, Refusal> {
    let refuse = |status, reason| Err(Refusal::new(status, reason));
    let headers = &parts.headers;
    let is_http2 = parts.version == Version::HTTP_2;
    if is_http2 {
        check_connect(parts)?;
    } else {
        check_upgrade(parts)?;
    }
    // An intermediary may interpret the body as the next request.
    if headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
    {
        return refuse(StatusCode::BAD_REQUEST, "a WebSocket handshake has no body");
    }
    check_host(parts)?;
    if headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().any(|value| value.to_str().is_err()) {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Protocol is not visible ASCII");
    }
    if one(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        // A 426 names a protocol in `Upgrade`, which HTTP/2 does not have.
        let status = if is_http2 { StatusCode::BAD_REQUEST } else { StatusCode::UPGRADE_REQUIRED };
        return refuse(status, "this endpoint supports WebSocket version 13");
    }
    if is_http2 && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return Ok(None);
    }
    // 16 bytes in base64.
    match one(headers, &header::SEC_WEBSOCKET_KEY) {
        Some(key) if key.len() == 24 => HeaderValue::try_from(accept_of(key.as_bytes()))
            .map(Some)
            .or(refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not usable")),
        _ => refuse(StatusCode::BAD_REQUEST, "one Sec-WebSocket-Key of 16 bytes in base64 is needed"),
    }
}

/// Checks that a request asks for an upgrade (RFC 6455, section 4.2.1).
fn check_upgrade(parts: &request::Parts) -> Result<(), Refusal> {
    let refuse = |status, reason| Err(Refusal::new(status, reason));
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET request");
    }
    if parts.version < Version::HTTP_11 {
        return refuse(StatusCode::BAD_REQUEST, "a WebSocket handshake needs HTTP/1.1");
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") || !has_token(headers, &header::UPGRADE, "websocket") {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint: ask for an upgrade to `websocket`; a proxy must forward the headers \
             Connection and Upgrade",
        );
    }
    Ok(())
}

/// Checks that a request of HTTP/2 is an extended CONNECT (RFC 8441, section 4).
#[cfg(feature = "http2")]
fn check_connect(parts: &request::Parts) -> Result<(), Refusal> {
    let refuse = |status, reason| Err(Refusal::new(status, reason));
    let protocol = parts.extensions.get::<hyper::ext::Protocol>().map(hyper::ext::Protocol::as_str);
    match (&parts.method, protocol) {
        (&Method::CONNECT, Some("websocket")) => Ok(()),
        (&Method::CONNECT, Some(_)) => {
            refuse(StatusCode::NOT_IMPLEMENTED, "this is a WebSocket endpoint: its `:protocol` is `websocket`")
        }
        (&Method::CONNECT | &Method::GET, None) => refuse(
            StatusCode::BAD_REQUEST,
            "this is a WebSocket endpoint: over HTTP/2, a handshake is a CONNECT request whose `:protocol` is \
             `websocket` (RFC 8441)",
        ),
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "over HTTP/2, a WebSocket handshake is a CONNECT request"),
    }
}

#[cfg(not(feature = "http2"))]
fn check_connect(_: &request::Parts) -> Result<(), Refusal> {
    Err(Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        "this endpoint accepts WebSockets over HTTP/1.1 only: for HTTP/2, the server needs the feature `http2` of \
         tower-transport",
    ))
}

/// Returns the answer to a `Sec-WebSocket-Key`. It proves that the server speaks WebSocket, and protects nothing: that
/// SHA-1 is broken does not matter here.
fn accept_of(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.digest().bytes())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::subprotocol::{choose, offered};

    fn request(headers: &[(&'static str, &'static str)]) -> request::Parts {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const GOOD: [(&str, &str); 5] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("host", "a.example"),
    ];

    #[test]
    fn the_example_of_the_rfc_is_answered_as_the_rfc_says() {
        assert_eq!(check_request(&request(&GOOD)).unwrap().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_that_lacks_or_doubles_a_header_is_refused() {
        for (missing, (name, _)) in GOOD.iter().enumerate() {
            let mut headers = GOOD.to_vec();
            headers.remove(missing);
            assert!(check_request(&request(&headers)).is_err(), "without {name}");
        }
        for doubled in [2, 3, 4] {
            let mut headers = GOOD.to_vec();
            headers.push(GOOD[doubled]);
            assert!(check_request(&request(&headers)).is_err(), "twice {}", GOOD[doubled].0);
        }
    }

    #[test]
    fn a_request_without_a_host_is_refused_with_400() {
        let refusal = check_request(&request(&GOOD[..4])).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        assert!(refusal.reason.contains("Host"), "{}", refusal.reason);
    }

    #[test]
    fn a_request_with_a_body_or_two_hosts_is_refused() {
        for bad in [("content-length", "5"), ("transfer-encoding", "chunked"), ("sec-websocket-protocol", "caf\u{e9}")]
        {
            assert!(check_request(&request(&[&GOOD[..], &[bad]].concat())).is_err(), "{bad:?}");
        }
        assert!(check_request(&request(&[&GOOD[..], &[("host", "b.example")]].concat())).is_err());
        assert!(check_request(&request(&[&GOOD[..], &[("content-length", "0")]].concat())).is_ok());
    }

    #[test]
    fn a_server_chooses_by_its_own_order_among_what_is_offered() {
        let known = [HeaderValue::from_static("v2"), HeaderValue::from_static("v1")];
        let offer = |value| request(&[("sec-websocket-protocol", value)]).headers;
        assert_eq!(choose(&known, &offer("v1, v2")).unwrap(), "v2");
        assert_eq!(choose(&known, &offer("v0,v1")).unwrap(), "v1");
        assert!(choose(&known, &offer("v0")).is_none());
    }

    #[test]
    fn a_client_refuses_an_answer_that_is_not_to_its_own_question() {
        let target = Target::parse(&"ws://example.com/feed".parse().unwrap()).unwrap();
        let offer = Offer::new(Request::new(()), &target, &[HeaderValue::from_static("v1")]).unwrap();
        let good = |accept: &str, protocol: &'static str| {
            Response::builder()
                .status(101)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", accept)
                .header("sec-websocket-protocol", protocol)
                .body(())
                .unwrap()
        };
        let accept = accept_of(offer.key.as_bytes());
        let check = |mut answer| check_answer(&mut answer, &offer.key, &offered(offer.request.headers()));
        assert_eq!(check(good(&accept, "v1")).unwrap().as_deref(), Some("v1"));
        assert_eq!(check(good(&accept, "")).unwrap(), None);
        assert!(check(good(&accept, "v2")).unwrap_err().is_protocol());
        assert!(check(good("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "v1")).unwrap_err().is_protocol());
        let mut extended = good(&accept, "v1");
        extended.headers_mut().insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
        assert!(refuse_extensions(extended.headers()).unwrap_err().is_protocol());
    }
}
