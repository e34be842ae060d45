//! Subprotocols, as WebSocket has them (RFC 6455, section 1.9); the other transports speak of them with the same header.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::Error;

/// A subprotocol's name as a header value (RFC 6455, section 4.1: a token of RFC 9110, section 5.6.2).
pub(super) fn parse(name: &str) -> Result<HeaderValue, Error> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match HeaderValue::from_str(name) {
        Ok(value) if !name.is_empty() && name.chars().all(is_token) => Ok(value),
        _ => {
            Err(Error::config(format!("`{}` is not a subprotocol: use letters, digits and `.-_`", name.escape_debug())))
        }
    }
}

/// The subprotocols that a request offers: the connector's, and those that the user wrote into its headers.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn offered(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect()
}

/// The first of `known` that the client offers.
pub(crate) fn choose<'a>(known: &'a [HeaderValue], headers: &HeaderMap) -> Option<&'a HeaderValue> {
    known.iter().find(|known| {
        tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered.as_bytes() == known.as_bytes())
    })
}

/// The subprotocol that a server chose, in the head of its answer, among those that were offered.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn chosen(headers: &HeaderMap, offered: &[String]) -> Result<Option<Box<str>>, Error> {
    let mut chosen = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if offered.iter().any(|offer| offer == one) => Ok(Some(one.into())),
        (Some(one), _) => Err(Error::protocol(format!(
            "the server chose the subprotocol `{}`, which was not offered",
            one.escape_debug()
        ))),
    }
}

/// The comma-separated tokens of all headers of a name; a header that is not ASCII has none.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The value of a header that may stand once only.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
