//! Redirect handling. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    Error,
    transport::{
        dial::Target,
        subprotocol::{TOKEN, offered},
    },
};

/// Returns whether a request without a body is repeated elsewhere on this status (Fetch, section 2.2.6).
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns the target of the redirect in the response to a request to `from`.
pub(super) fn follow(from: &Target, location: Option<&HeaderValue>) -> Result<Target, Error> {
    let location = location.ok_or_else(|| Error::protocol("the server redirects without a valid Location header"))?;
    // The location is not repeated: it may carry a token.
    const UNUSABLE: &str = "the server redirects to a URL that is not http:// or https://";
    let location = str::from_utf8(location.as_bytes()).map_err(|_| Error::protocol(UNUSABLE))?;
    let to = from.join(location).map_err(|error| Error::protocol(UNUSABLE).with_source(error))?;
    if from.secure && !to.secure {
        return Err(Error::protocol("the server redirects from https:// to http://, which is not followed"));
    }
    Ok(to)
}

/// Removes headers that belong to one origin (RFC 6454) if a redirect leads to another: credentials, a token among the
/// subprotocols, and every header marked as sensitive.
pub(super) fn forget_credentials(headers: &mut HeaderMap, from: &Target, to: &Target) {
    if from.secure == to.secure && from.port == to.port && from.host.eq_ignore_ascii_case(&to.host) {
        return;
    }
    let offered = offered(headers).into_iter().filter(|name| !name.starts_with(TOKEN));
    let offered = HeaderValue::try_from(offered.collect::<Vec<_>>().join(", ")).ok();
    let is_secret = |name: &&HeaderName| headers.get_all(*name).iter().any(HeaderValue::is_sensitive);
    let secrets: Vec<_> = headers.keys().filter(is_secret).cloned().collect();
    let credentials = [header::AUTHORIZATION, header::COOKIE, header::HOST, header::PROXY_AUTHORIZATION];
    for name in credentials.into_iter().chain(secrets) {
        headers.remove(name);
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(offered) = offered.filter(|offered| !offered.is_empty()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn target(url: &'static str) -> Target {
        Target::parse(&Uri::from_static(url)).unwrap()
    }

    fn to(location: &str) -> Result<Target, Error> {
        follow(&target("https://h:8443/b/c/d?q"), Some(&HeaderValue::from_bytes(location.as_bytes()).unwrap()))
    }

    #[test]
    fn a_location_is_resolved_against_the_url_that_was_asked() {
        for (location, url) in [
            ("https://other/x", "https://other/x"),
            ("//other/x?y", "https://other/x?y"),
            ("/x/./y/../z#f", "https://h:8443/x/z"),
            ("?r", "https://h:8443/b/c/d?r"),
            ("", "https://h:8443/b/c/d?q"),
            ("e", "https://h:8443/b/c/e"),
            ("../e?r", "https://h:8443/b/e?r"),
            ("../../../e", "https://h:8443/e"),
            ("..", "https://h:8443/b/"),
            ("e?to=http://x", "https://h:8443/b/c/e?to=http://x"),
            ("/\u{fc}", "https://h:8443/%C3%BC"),
        ] {
            assert_eq!(to(location).unwrap().url().as_str(), url, "{location}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_and_not_repeated() {
        for location in ["ftp://h/", "http://h/secret", "https://", "javascript:alert(1)"] {
            let error = to(location).unwrap_err();
            assert!(error.is_protocol() && !error.to_string().contains("secret"), "{location}: {error:?}");
        }
        assert!(follow(&target("http://h/"), None).unwrap_err().is_protocol());
    }

    #[test]
    fn the_user_of_a_url_stays_with_its_origin_and_a_redirect_may_name_another() {
        let from = target("https://ada:pw@h/a");
        let user = |location| {
            let to = follow(&from, Some(&HeaderValue::from_static(location))).unwrap();
            to.authorization().map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(user("/b").as_deref(), Some("Basic YWRhOnB3"));
        assert_eq!(user("https://i/b"), None);
        assert_eq!(user("https://bob:x@i/b").as_deref(), Some("Basic Ym9iOng="));
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let kept = |from, to| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            forget_credentials(&mut headers, &target(from), &target(to));
            !headers.is_empty()
        };
        assert!(kept("http://h/a", "http://H:80/b"));
        assert!(
            !kept("http://h/", "http://h:81/") && !kept("http://h/", "https://h/") && !kept("http://h/", "http://i/")
        );

        let mut headers = HeaderMap::new();
        let mut key = HeaderValue::from_static("secret");
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
        headers.insert("x-app", HeaderValue::from_static("tests"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v1, bearer.dDBr"));
        forget_credentials(&mut headers, &target("http://h/"), &target("http://i/"));
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(
            (&headers["x-app"], &headers[header::SEC_WEBSOCKET_PROTOCOL]),
            (&"tests".parse().unwrap(), &"v1".parse().unwrap())
        );
    }
}
