//! Names and bounds that both ends know. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::transport::subprotocol::one;

/// The token of the session that a POST belongs to. A page of another origin cannot send this header without a CORS
/// preflight, and the token is in no URL.
pub(super) const SESSION: HeaderName = HeaderName::from_static("tower-transport-session");

/// In a POST, the number of its first message; in the response, the number of the next expected message.
pub(super) const SEQUENCE: HeaderName = HeaderName::from_static("tower-transport-sequence");

/// In the response that opens a session: the server accepts messages in parts.
pub(super) const PARTS: HeaderName = HeaderName::from_static("tower-transport-parts");

/// The subprotocols that a page offers: browsers reserve `Sec-WebSocket-Protocol` for themselves.
pub(super) const PROTOCOL: HeaderName = HeaderName::from_static("tower-transport-protocol");

/// The version of the parts format that this end writes and reads.
pub(super) const PARTS_VERSION: HeaderValue = HeaderValue::from_static("1");

/// The type of a POST's body.
pub(super) const MESSAGES: HeaderValue = HeaderValue::from_static("application/vnd.tower-transport.messages");

/// The time that a POST waits for the handler to make room before the response reports its progress. Proxies cut a
/// request that is not answered for long.
pub(super) const HOLD: Duration = Duration::from_secs(10);

/// Parses a number that has only digits and does not overflow.
pub(super) fn number(headers: &HeaderMap) -> Option<u64> {
    let digits = one(headers, &SEQUENCE)?.to_str().ok()?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns whether the server that opened a session accepts messages in parts.
pub(super) fn takes_parts(headers: &HeaderMap) -> bool {
    one(headers, &PARTS) == Some(&PARTS_VERSION)
}
