//! Extracts credentials from the head of a request. Pure.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, Uri, header, request, uri::PathAndQuery};

use crate::layer::auth::{Credentials, MAX_TOKEN, Secret, subprotocol};

/// The places to look in addition to the `Authorization` header and the subprotocols.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) cookie: Option<Box<str>>,
    pub(super) query: Option<Box<str>>,
}

/// The request's credentials cannot be read, or are given more than once (RFC 6750, section 2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Places {
    /// Takes the credentials out of the request. The token's subprotocol and query parameter are removed, so that
    /// neither the negotiation nor a log sees them; the headers are marked as sensitive.
    pub(super) fn take(&self, parts: &mut request::Parts) -> Result<Option<Credentials>, Malformed> {
        // Before anything can fail: the request may be logged in any case.
        hide(&mut parts.headers);
        let header = authorization(&parts.headers)?;
        let subprotocol = take_subprotocol(&mut parts.headers)?.map(Credentials::Bearer);
        let query = match &self.query {
            Some(name) => take_query(&mut parts.uri, name)?.map(Credentials::Bearer),
            None => None,
        };
        let mut shown = [header, subprotocol, query].into_iter().flatten();
        let first = shown.next();
        // Which of two counts would depend on the reader, and so would who the peer is (RFC 6750, section 2).
        if shown.next().is_some() {
            return Err(Malformed);
        }
        match (first, &self.cookie) {
            // A browser sends its cookies whether they are meant as credentials or not, so other credentials take
            // precedence.
            (None, Some(name)) => Ok(cookie(&parts.headers, name)?.map(Credentials::Bearer)),
            (first, _) => Ok(first),
        }
    }
}

fn hide(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if [header::AUTHORIZATION, header::COOKIE].contains(name) {
            value.set_sensitive(true);
        }
    }
}

fn secret(token: &str) -> Result<Secret, Malformed> {
    match !token.is_empty()
        && token.len() <= MAX_TOKEN
        && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        true => Ok(token.into()),
        false => Err(Malformed),
    }
}

/// RFC 6750, section 2.1, and RFC 7617. Unknown schemes are ignored.
fn authorization(headers: &HeaderMap) -> Result<Option<Credentials>, Malformed> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed);
    }
    let value = value.to_str().map_err(|_| Malformed)?.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Credentials::Bearer(secret(rest)?)));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(Some(basic(rest).ok_or(Malformed)?));
    }
    Ok(None)
}

fn basic(encoded: &str) -> Option<Credentials> {
    const EITHER: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, EITHER);
    let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials::Basic { user: user.to_owned(), password: password.into() })
}

/// RFC 6265, section 4.2.1. A name that appears twice is refused: one of the two may have been set by another site.
fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<Secret>, Malformed> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.trim());
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            secret(bare.unwrap_or(value)).map(Some)
        }
        (Some(_), Some(_)) => Err(Malformed),
    }
}

fn take_subprotocol(headers: &mut HeaderMap) -> Result<Option<Secret>, Malformed> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered = values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let (mut token, mut others, mut is_double) = (None, Vec::new(), false);
    for name in offered {
        match subprotocol::decode(name) {
            None => others.push(name),
            Some(found) => is_double |= token.replace(found).is_some(),
        }
    }
    let Some(token) = token else { return Ok(None) };
    // Removed even if it is malformed: the negotiation must not choose it.
    let others = HeaderValue::try_from(others.join(", ")).map_err(|_| Malformed)?;
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if !others.is_empty() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
    match token {
        Ok(token) if !is_double => secret(token.expose()).map(Some),
        _ => Err(Malformed),
    }
}

/// RFC 6750, section 2.3.
fn take_query(uri: &mut Uri, name: &str) -> Result<Option<Secret>, Malformed> {
    let Some(query) = uri.query() else { return Ok(None) };
    let (mut token, mut others, mut is_double) = (None, Vec::new(), false);
    for pair in query.split('&') {
        match pair.split_once('=') {
            // `%61ccess_token` is the same name, and must not stay in the URL either.
            Some((found, value)) if percent_decode(found).is_some_and(|found| found == name) => {
                is_double |= token.replace(value).is_some();
            }
            _ => others.push(pair),
        }
    }
    let Some(token) = token else { return Ok(None) };
    let token = percent_decode(token).map(Cow::into_owned).ok_or(Malformed);
    let path = match others.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), others.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| Malformed)?);
    *uri = Uri::from_parts(parts).map_err(|_| Malformed)?;
    match is_double {
        true => Err(Malformed),
        false => secret(&token?).map(Some),
    }
}

/// Returns `None` for a percent sign without two digits after it, and for text that is not UTF-8.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let is_whole = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_whole) {
        return None;
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const ALL: fn() -> Places = || Places { cookie: Some("session".into()), query: Some("access_token".into()) };

    fn parts(uri: &str, headers: &[(&'static str, &str)]) -> request::Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Returns the extracted token, for a request that contains no other.
    fn token(places: &Places, uri: &str, headers: &[(&'static str, &str)]) -> Result<Option<String>, Malformed> {
        let found = places.take(&mut parts(uri, headers))?;
        Ok(found.map(|found| found.bearer().expect("a token").expose().to_owned()))
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        let found = Ok(Some("t0k".to_owned()));
        assert_eq!(token(&ALL(), "/", &[("authorization", "Bearer t0k")]), found);
        assert_eq!(token(&ALL(), "/", &[("authorization", "bEARER   t0k")]), found);
        assert_eq!(token(&ALL(), "/", &[("cookie", "a=b; session=t0k"), ("cookie", "c=d")]), found);
        assert_eq!(token(&ALL(), "/", &[("cookie", "session=\"t0k\"")]), found);
        assert_eq!(token(&ALL(), "/", &[("sec-websocket-protocol", "v1, bearer.dDBr")]), found);
        assert_eq!(token(&ALL(), "/?a=b&access_token=t%30k", &[]), found);
    }

    #[test]
    fn cookie_and_query_are_looked_at_only_where_that_was_asked_for() {
        assert_eq!(token(&Places::default(), "/?access_token=t0k", &[("cookie", "session=t0k")]), Ok(None));
    }

    #[test]
    fn basic_is_a_name_and_a_password() {
        for header in ["Basic YWRhOmE6Yg==", "basic YWRhOmE6Yg"] {
            let Ok(Some(Credentials::Basic { user, password })) =
                Places::default().take(&mut parts("/", &[("authorization", header)]))
            else {
                panic!("{header}");
            };
            assert_eq!((user.as_str(), password.expose()), ("ada", "a:b"));
        }
    }

    #[test]
    fn what_is_doubled_or_cannot_be_read_is_refused() {
        for headers in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a"), ("sec-websocket-protocol", "bearer.dDBr")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Basic ???")],
            &[("authorization", "Basic YWRh")],
            &[("sec-websocket-protocol", "bearer.dDBr, bearer.dDBr")],
            &[("sec-websocket-protocol", "bearer.")],
            &[("sec-websocket-protocol", "bearer.!")],
            &[("cookie", "session=a; session=b")],
            &[("cookie", "session=")],
        ] {
            assert_eq!(token(&ALL(), "/", headers), Err(Malformed), "{headers:?}");
        }
        for uri in ["/?access_token=a&access_token=b", "/?access_token=", "/?access_token=%f", "/?access_token=%ff"] {
            assert_eq!(token(&ALL(), uri, &[]), Err(Malformed), "{uri}");
        }
        let long = "x".repeat(MAX_TOKEN + 1);
        assert_eq!(token(&ALL(), "/", &[("authorization", &format!("Bearer {long}"))]), Err(Malformed));
    }

    #[test]
    fn schemes_of_others_are_left_alone() {
        assert_eq!(token(&ALL(), "/", &[("authorization", "Negotiate abc")]), Ok(None));
    }

    #[test]
    fn what_comes_after_meets_no_token() {
        let mut parts =
            parts("/feed?a=b&access_token=t0k&c", &[("cookie", "other=1"), ("sec-websocket-protocol", "v2,v1")]);
        ALL().take(&mut parts).unwrap().unwrap();
        assert_eq!(parts.uri, "/feed?a=b&c");
        assert_eq!(parts.headers["sec-websocket-protocol"], "v2,v1");
        assert!(!format!("{parts:?}").contains("other=1"), "a cookie is shown");

        let mut parts = super::tests::parts(
            "/",
            &[("sec-websocket-protocol", "v2, bearer.dDBr"), ("sec-websocket-protocol", "v1")],
        );
        ALL().take(&mut parts).unwrap().unwrap();
        assert_eq!(parts.headers["sec-websocket-protocol"], "v2, v1");

        let mut parts = super::tests::parts("/?access_token=t0k", &[]);
        ALL().take(&mut parts).unwrap().unwrap();
        assert_eq!(parts.uri, "/");
    }

    proptest! {
        #[test]
        fn a_token_survives_the_subprotocol(token in "[!-~]{1,60}") {
            let name = subprotocol::encode(&token.as_str().into());
            prop_assert_eq!(super::tests::token(&ALL(), "/", &[("sec-websocket-protocol", &name)]), Ok(Some(token)));
        }

        #[test]
        fn no_header_makes_it_panic(name in 0..3usize, value in "[ -~]{0,60}", query in "[!-~&&[^#]]{0,40}") {
            let name = ["authorization", "cookie", "sec-websocket-protocol"][name];
            let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return Ok(()) };
            let mut parts = parts("/", &[(name, &value)]);
            parts.uri = uri;
            let _ = ALL().take(&mut parts);
        }
    }
}
