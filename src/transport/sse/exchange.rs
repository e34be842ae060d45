//! Requests for an event stream, and the check of its response, for both clients. Pure.

#[cfg(not(target_arch = "wasm32"))]
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
#[cfg(not(target_arch = "wasm32"))]
use http::{Request, Uri};
#[cfg(not(target_arch = "wasm32"))]
use http_body_util::Full;

#[cfg(not(target_arch = "wasm32"))]
use crate::transport::dial::Target;
use crate::{Error, transport::subprotocol};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The maximum length of an id that is sent, in bytes. nginx and others reject a header line over 8 KiB.
const MAX_LAST_EVENT_ID: usize = 4 << 10;

/// Returns the id that the user's request begins with.
pub(super) fn first_id(headers: &HeaderMap) -> Result<&str, Error> {
    let value = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes).unwrap_or_default();
    str::from_utf8(value).map_err(|error| Error::config("the request's Last-Event-ID is not UTF-8").with_source(error))
}

/// Returns the user's headers with the additions that make the request one for an event stream.
pub(super) fn headers(
    mut headers: HeaderMap,
    subprotocols: &[HeaderValue],
    last_event_id: &str,
) -> Result<HeaderMap, Error> {
    // Headers that concern the connection or a body are not the user's to set here.
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        LAST_EVENT_ID,
    ] {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    subprotocol::offer(&mut headers, subprotocols)?;
    if let Some(id) = last_event_id_header(last_event_id) {
        headers.insert(LAST_EVENT_ID, id);
    }
    Ok(headers)
}

/// Returns `None` for an id that does not fit into a header: control characters, or more bytes than servers accept. The
/// server chose the id, so this is not an error: the stream starts as it does for a new client.
fn last_event_id_header(id: &str) -> Option<HeaderValue> {
    let fits = (1..=MAX_LAST_EVENT_ID).contains(&id.len());
    HeaderValue::from_bytes(id.as_bytes()).ok().filter(|_| fits)
}

/// Leaves out the headers that the browser sets itself.
#[cfg(target_arch = "wasm32")]
pub(super) fn for_a_page(headers: &mut HeaderMap) {
    headers.remove(header::ACCEPT_ENCODING);
    headers.remove(header::CACHE_CONTROL);
}

/// Creates the request to `target`.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn request(headers: &HeaderMap, target: &Target) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from(target.path.clone());
    request.headers_mut().clone_from(headers);
    request.headers_mut().entry(header::HOST).or_insert_with(|| target.authority.clone());
    request
}

/// Checks that the headers are those of an event stream.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), Error> {
    let text =
        |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).escape_debug().take(100).collect::<String>();
    let content_type = headers.get(header::CONTENT_TYPE).map(text).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("text/event-stream") {
        return Err(Error::protocol(format!(
            "the server answered with the content type `{content_type}`, but text/event-stream was requested"
        )));
    }
    // The browser has decoded it.
    #[cfg(not(target_arch = "wasm32"))]
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    #[cfg(target_arch = "wasm32")]
    return Ok(());
    #[cfg(not(target_arch = "wasm32"))]
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(encoding) => Err(Error::protocol(format!(
            "the server answered with the content encoding `{}`, which was not requested",
            text(encoding)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_headers_go_along_but_for_what_is_the_clients_own() {
        let mut own = HeaderMap::new();
        for (name, value) in
            [(header::AUTHORIZATION, "Bearer x"), (header::ACCEPT_ENCODING, "gzip"), (header::UPGRADE, "h2c")]
        {
            own.insert(name, HeaderValue::from_static(value));
        }
        let headers = headers(own, &[HeaderValue::from_static("v1")], "7 \u{2713}").unwrap();
        assert_eq!(headers[header::AUTHORIZATION], "Bearer x");
        assert_eq!(headers[header::ACCEPT], "text/event-stream");
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v1");
        assert_eq!(headers[LAST_EVENT_ID].as_bytes(), "7 \u{2713}".as_bytes());
        assert!(!headers.contains_key(header::UPGRADE));
    }

    #[test]
    fn an_id_that_is_empty_or_that_no_header_can_hold_is_left_out() {
        let long = "7".repeat(MAX_LAST_EVENT_ID);
        assert!(headers(HeaderMap::new(), &[], &long).unwrap().contains_key(LAST_EVENT_ID));
        for id in ["", "a\u{1}", "a\u{7f}", &format!("{long}7")] {
            assert!(!headers(HeaderMap::new(), &[], id).unwrap().contains_key(LAST_EVENT_ID), "{id:?}");
        }
    }

    fn check(headers: &[(header::HeaderName, &'static str)]) -> Result<(), String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        check_headers(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_stream_may_have_parameters_and_any_case() {
        for good in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream;x"] {
            assert_eq!(
                check(&[(header::CONTENT_TYPE, good), (header::CONTENT_ENCODING, "identity")]),
                Ok(()),
                "{good}"
            );
        }
    }

    #[test]
    fn another_type_or_an_encoding_is_refused_by_its_name() {
        assert!(check(&[(header::CONTENT_TYPE, "text/html")]).unwrap_err().contains("`text/html`"));
        assert!(check(&[(header::CONTENT_TYPE, "text/event-stream-x")]).is_err());
        assert!(check(&[]).is_err());
        let encoded = [(header::CONTENT_TYPE, "text/event-stream"), (header::CONTENT_ENCODING, "gzip")];
        assert!(check(&encoded).unwrap_err().contains("`gzip`"));
    }
}
