//! A token as a subprotocol: `bearer.` followed by the token in base64url. It is the only way for a browser to send a
//! token in a handshake header.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};

use super::Secret;

const PREFIX: &str = "bearer.";

pub(crate) fn encode(token: &Secret) -> String {
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(token.expose()))
}

/// Returns `None` for any other subprotocol, and `Some(Err)` for one that has the prefix of a token but is invalid.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn decode(subprotocol: &str) -> Option<Result<Secret, ()>> {
    let encoded = subprotocol.strip_prefix(PREFIX)?;
    let token = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(token.map(Secret::from).ok_or(()))
}

/// Offers a token after the existing subprotocols of the request, as one value. It comes last because the server should
/// prefer a real subprotocol.
pub(super) fn offer(headers: &mut HeaderMap, token: HeaderValue) {
    let before = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes);
    let all = before.chain([token.as_bytes()]).collect::<Vec<_>>().join(&b", "[..]);
    // Joined header values are a valid header value.
    let mut all = HeaderValue::from_bytes(&all).unwrap_or(token);
    all.set_sensitive(true);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, all);
}

/// Returns the subprotocol of a request that offers a token and nothing else.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn alone(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let name = value.to_str().ok()?.trim().trim_matches(',').trim();
    let is_token = !name.contains(',') && matches!(decode(name), Some(Ok(_)));
    let mut name = HeaderValue::from_str(name).ok().filter(|_| is_token)?;
    name.set_sensitive(true);
    Some(name)
}
