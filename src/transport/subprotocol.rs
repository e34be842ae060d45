//! Subprotocols, as in WebSocket (RFC 6455, section 1.9). The other transports use the same header.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::Error;

/// Parses a subprotocol's name as a header value (RFC 6455, section 4.1: a token of RFC 9110, section 5.6.2).
pub(super) fn parse(name: &str) -> Result<HeaderValue, Error> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match HeaderValue::from_str(name) {
        Ok(value) if !name.is_empty() && name.chars().all(is_token) => Ok(value),
        _ => {
            Err(Error::config(format!("`{}` is not a subprotocol: use letters, digits and `.-_`", name.escape_debug())))
        }
    }
}

/// The subprotocol of [`OptimizedTransport`](crate::stack::OptimizedTransport). It is named here because every
/// connector offers it last: a server that does not know it and chooses the first offer then chooses one of the user's.
pub(crate) const STACK: &str = "tower-transport.v1";

/// The prefix of a name that carries a token (`layer::auth`).
pub(super) const TOKEN: &str = "bearer.";

/// Returns the names to offer, each once: those in `headers`, then the connector's `own`, then a token, and [`STACK`]
/// last.
pub(super) fn names<'a>(headers: &'a HeaderMap, own: &'a [HeaderValue]) -> Vec<&'a str> {
    let own = own.iter().filter_map(|name| name.to_str().ok());
    let mut names: Vec<&str> = Vec::new();
    for name in tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).chain(own) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // The sort is stable, so the order of the others is kept.
    names.sort_by_key(|name| (*name == STACK, name.starts_with(TOKEN)));
    names
}

/// Offers these [`names`] in one header with one value, as browsers do. Some servers read only the first line of a
/// header.
///
/// # Errors
///
/// Returns an error for which [`is_config`](Error::is_config) is true if a value in `headers` has characters other than
/// visible ASCII.
pub(super) fn offer(headers: &mut HeaderMap, own: &[HeaderValue]) -> Result<(), Error> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    if values.iter().any(|value| value.to_str().is_err()) {
        return Err(Error::config("the request's Sec-WebSocket-Protocol has characters other than visible ASCII"));
    }
    // A name may carry a token.
    let is_secret = values.iter().any(HeaderValue::is_sensitive);
    let names = names(headers, own).join(", ");
    if names.is_empty() {
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        return Ok(());
    }
    let mut value = HeaderValue::try_from(names)
        .map_err(|error| Error::config("the subprotocols cannot be offered").with_source(error))?;
    value.set_sensitive(is_secret);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    Ok(())
}

/// Returns the subprotocols that a request offers: the connector's, and those that the user put into its headers.
pub(super) fn offered(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect()
}

/// Returns the first of `known` that the client offers.
pub(crate) fn choose<'a>(known: &'a [HeaderValue], headers: &HeaderMap) -> Option<&'a HeaderValue> {
    known.iter().find(|known| {
        tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered.as_bytes() == known.as_bytes())
    })
}

/// Returns the subprotocol that a server chose in its response, which must be one of those offered.
///
/// If the "chosen" name is a token offered as a subprotocol ([`TOKEN`]), this only means that the credentials were
/// accepted: a guard responds this way if nothing else was offered. It is removed from the headers, because it is a
/// secret.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn chosen(headers: &mut HeaderMap, offered: &[String]) -> Result<Option<Box<str>>, Error> {
    let mut chosen = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if offered.iter().any(|offer| offer == one) => {
            if !one.starts_with(TOKEN) {
                return Ok(Some(one.into()));
            }
            drop(chosen);
            headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
            Ok(None)
        }
        (Some(one), _) => Err(Error::protocol(format!(
            "the server chose the subprotocol `{}`, which was not offered",
            one.chars().take(100).collect::<String>().escape_debug()
        ))),
    }
}

/// Returns the comma-separated tokens of all headers of a name. A header that is not ASCII has no tokens.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Returns the value of a header that may occur only once.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(all(test, any(feature = "websocket", feature = "sse")))]
mod tests {
    use super::*;

    #[test]
    fn names_are_offered_once_in_one_value_a_token_after_them_and_the_stacks_own_last() {
        let mut headers = HeaderMap::new();
        for value in [STACK, "bearer.dDBr", "v3, v2", "v3"] {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
        }
        offer(&mut headers, &["v1", "v2"].map(HeaderValue::from_static)).unwrap();
        let values: Vec<_> = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().collect();
        assert_eq!(values, ["v3, v2, v1, bearer.dDBr, tower-transport.v1"]);
    }

    #[test]
    fn nothing_is_offered_where_there_is_no_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(" , "));
        offer(&mut headers, &[]).unwrap();
        assert!(headers.is_empty());
    }

    #[test]
    fn a_name_with_a_secret_stays_one_and_one_that_cannot_be_sent_is_an_error() {
        let mut headers = HeaderMap::new();
        let mut secret = HeaderValue::from_static("bearer.abc");
        secret.set_sensitive(true);
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, secret);
        offer(&mut headers, &[]).unwrap();
        assert!(headers[header::SEC_WEBSOCKET_PROTOCOL].is_sensitive());
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes("\u{fc}".as_bytes()).unwrap());
        assert!(offer(&mut headers, &[]).unwrap_err().is_config());
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let name = header::SEC_WEBSOCKET_PROTOCOL;
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_that_is_chosen_is_no_subprotocol_and_does_not_stay_in_the_headers() {
        let offered = ["bearer.dDBr".to_owned(), "v1".to_owned()];
        let mut answer = headers(&["bearer.dDBr"]);
        assert_eq!(chosen(&mut answer, &offered).unwrap(), None);
        assert!(answer.is_empty());
        assert_eq!(chosen(&mut headers(&["v1"]), &offered).unwrap().as_deref(), Some("v1"));
        assert!(chosen(&mut headers(&["bearer.b3RoZXI"]), &offered).unwrap_err().is_protocol());
    }
}
