//! The handshake's request and response, as pure functions over HTTP heads.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use web_transport_quinn::proto::ConnectRequest;

use crate::{
    Error,
    transport::{subprotocol, target::Target, webtransport::Session},
};

/// The request and its destination.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) target: Target,
    pub(super) connect: ConnectRequest,
}

impl Offer {
    pub(super) fn new(request: Request<()>, subprotocols: &[HeaderValue]) -> Result<Self, Error> {
        let (mut parts, ()) = request.into_parts();
        let target = target(&parts.uri)?;
        target.authorize(&mut parts.headers)?;
        subprotocol::offer(&mut parts.headers, subprotocols)?;
        let protocols = subprotocol::offered(&parts.headers);
        let url = target.url().clone();
        let connect = ConnectRequest::new(url).with_protocols(protocols).with_headers(headers(&parts.headers)?);
        Ok(Self { target, connect })
    }
}

fn target(uri: &Uri) -> Result<Target, Error> {
    match Target::parse(uri) {
        Ok(target) if target.secure => Ok(target),
        Ok(_) => Err(Error::config("WebTransport is always encrypted: use https:// (or wss://) in the URL")),
        Err(error) => Err(error),
    }
}

/// Returns the user's headers, except those of a connection (RFC 9114, section 4.2) and of WebSocket's handshake. The
/// layer below supports each name only once.
fn headers(from: &HeaderMap) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for name in from.keys().filter(|name| !is_of_a_connection(name)) {
        let joint = if *name == header::COOKIE { "; " } else { ", " };
        let values = from.get_all(name).iter().map(HeaderValue::to_str).collect::<Result<Vec<_>, _>>();
        let joined = values.ok().and_then(|values| HeaderValue::try_from(values.join(joint)).ok());
        let Some(mut value) = joined else {
            return Err(Error::config(format!(
                "the value of the header `{name}` has characters other than visible ASCII"
            )));
        };
        // Marked as sensitive, so that debug output of the request does not print them.
        let is_secret = *name == header::AUTHORIZATION || *name == header::COOKIE;
        value.set_sensitive(is_secret || from.get_all(name).iter().any(HeaderValue::is_sensitive));
        headers.insert(name, value);
    }
    Ok(headers)
}

fn is_of_a_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::HOST, header::TE, header::TRANSFER_ENCODING, header::UPGRADE, header::CONTENT_LENGTH]
        .contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
        || name.as_str().starts_with("sec-websocket-")
        || name.as_str().starts_with("wt-")
}

/// Creates the response that established `session`.
pub(super) fn answer(session: Session) -> Result<Response<Session>, Error> {
    let chosen = session.subprotocol().map(HeaderValue::from_str).transpose();
    let chosen =
        chosen.map_err(|error| Error::protocol("the server's wt-protocol is not a valid name").with_source(error))?;
    let mut answer = Response::new(session);
    *answer.status_mut() = StatusCode::OK;
    *answer.version_mut() = Version::HTTP_3;
    if let Some(chosen) = chosen {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(request: http::request::Builder) -> Result<Offer, Error> {
        Offer::new(request.body(()).unwrap(), &[HeaderValue::from_static("v1")])
    }

    #[test]
    fn the_url_says_where_to_and_what_for() {
        let offer = offer(Request::get("wss://user:secret@[::1]:9000/a?b=c")).unwrap();
        assert_eq!((offer.target.host.as_str(), offer.target.port), ("::1", 9000));
        assert_eq!(offer.connect.headers["authorization"], "Basic dXNlcjpzZWNyZXQ=");
        assert_eq!(offer.connect.url.as_str(), "https://[::1]:9000/a?b=c");
        let offer = super::Offer::new(Request::get("https://example.com").body(()).unwrap(), &[]).unwrap();
        assert_eq!((offer.target.host.as_str(), offer.target.port), ("example.com", 443));
        assert_eq!(offer.connect.url.as_str(), "https://example.com/");
    }

    #[test]
    fn a_url_that_cannot_work_says_what_to_use() {
        for uri in ["http://example.com/", "ws://example.com/", "ftp://example.com/", "/feed"] {
            let error = offer(Request::get(uri)).unwrap_err();
            assert!(error.is_config() && error.to_string().contains("https://"), "{error}");
        }
        let error = offer(Request::get("/feed?token=tainted")).unwrap_err();
        assert!(error.to_string().contains("/feed") && !format!("{error} {error:?}").contains("tainted"), "{error:?}");
    }

    #[test]
    fn the_headers_go_along_but_for_those_of_a_connection() {
        let request = Request::get("https://example.com/")
            .header("authorization", "Bearer secret")
            .header("x-app", "one")
            .header("x-app", "two")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("host", "elsewhere")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "v3, v2");
        let connect = offer(request).unwrap().connect;
        assert_eq!(connect.protocols, ["v3", "v2", "v1"]);
        let headers = &connect.headers;
        assert_eq!(headers.len(), 3);
        assert_eq!(
            (&headers["x-app"], &headers["cookie"]),
            (&"one, two".parse().unwrap(), &"a=1; b=2".parse().unwrap())
        );
        assert!(headers["authorization"].is_sensitive() && !headers["x-app"].is_sensitive());
        assert!(!format!("{connect:?}").contains("secret"));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_an_error_and_is_not_dropped() {
        let value = HeaderValue::from_bytes("Bearer ü".as_bytes()).unwrap();
        let error = offer(Request::get("https://example.com/").header("authorization", value)).unwrap_err();
        assert!(error.is_config() && error.to_string().contains("authorization"), "{error}");
    }
}
