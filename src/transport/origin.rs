use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header,
    uri::{Authority, Scheme},
};
#[cfg(any(feature = "websocket", feature = "sse"))]
use http::{Version, request};

use super::refusal::Refusal;
use crate::log::Quoted;

/// The pages that may open a transport. Browsers send an `Origin` header, and no other cross-site check applies to a
/// WebSocket (RFC 6455, section 10.2). A `GET` whose answer the page does not ask to read (`no-cors`) has no `Origin`,
/// but `Sec-Fetch-Site` ([Fetch Metadata](https://www.w3.org/TR/fetch-metadata/)) shows that it comes from another
/// site. Clients that are not browsers send neither, and are allowed.
///
/// Anyone on the network path can change a page that is loaded over `http://`, so it is not a page of an `https://`
/// server, even if its host is the same. A server behind a proxy that terminates TLS sees plain HTTP/1.1 and cannot
/// know its own scheme. The scheme is known to be `https` if the request's URI says so (HTTP/2, HTTP/3), if the browser
/// says that the page is of another site, or if [`https_only`](Self::https_only) was called.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    pages: Pages,
    https_only: bool,
}

#[derive(Clone, Debug, Default)]
enum Pages {
    /// Pages whose host and port match the request's `Host`.
    #[default]
    SameHost,
    /// The same pages, and pages of these origins.
    Also(Vec<HeaderValue>),
    Any,
}

impl Origins {
    pub(super) fn allow(&mut self, origin: HeaderValue) {
        match &mut self.pages {
            Pages::SameHost => self.pages = Pages::Also(vec![origin]),
            Pages::Also(origins) => origins.push(origin),
            Pages::Any => {}
        }
    }

    pub(super) fn allow_any(&mut self) {
        self.pages = Pages::Any;
    }

    /// Refuses pages that were loaded over `http://`, unless they are allowed by name.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(super) fn https_only(&mut self) {
        self.https_only = true;
    }

    /// Returns why the page behind a request may not connect, or `Ok` if it may.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        const SETTING: &str = "the server allows other origins by name, with `allow_origin`";

        if self.allow_request(uri, headers) {
            return Ok(());
        }
        let reason = match headers.get(header::ORIGIN) {
            Some(origin) => {
                let (origin, host) = (Quoted(origin.as_bytes()), here(uri, headers));
                let host = host.as_ref().map_or("", Authority::as_str);
                let host = Quoted(host.as_bytes());
                format!("a page of the origin `{origin}` may not connect to `{host}`: {SETTING}")
            }
            None => format!("a page of another site that does not tell its origin may not connect: {SETTING}"),
        };
        Err(Refusal { status: StatusCode::FORBIDDEN, reason: reason.into() })
    }

    fn allow_request(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            // The site is unknown, so an allowed one cannot be told from others.
            return matches!(self.pages, Pages::Any) || !is_from_elsewhere(headers);
        };
        match &self.pages {
            Pages::Any => !(self.https_only && is_plain(origin)),
            Pages::SameHost => self.same_host(origin, uri, headers),
            Pages::Also(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
                    || self.same_host(origin, uri, headers)
            }
        }
    }

    /// Returns the value of `Access-Control-Allow-Origin` for a request that was [checked](Self::check).
    #[cfg(feature = "sse")]
    pub(super) fn cors(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self.pages {
            // Every page is allowed, but not with the user's cookies.
            Pages::Any => origin.map(|_| HeaderValue::from_static("*")),
            Pages::SameHost => None,
            Pages::Also(_) => origin.cloned(),
        }
    }

    fn same_host(&self, origin: &HeaderValue, uri: &Uri, headers: &HeaderMap) -> bool {
        if is_plain(origin) {
            let is_secure = self.https_only || uri.scheme() == Some(&Scheme::HTTPS);
            // The host matches, so the page differs by its scheme.
            if is_secure || headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
                return false;
            }
        }
        same_host(origin, uri, headers)
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn is_plain(origin: &HeaderValue) -> bool {
    origin.as_bytes().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http:"))
}

/// Returns whether a page of another origin made the request; `none` is a direct action of the user.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

fn same_host(origin: &HeaderValue, uri: &Uri, headers: &HeaderMap) -> bool {
    let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
    let default_port = if origin.scheme_str() == Some("https") { 443 } else { 80 };
    let Some(page) = origin.authority() else { return false };
    let Some(here) = here(uri, headers) else { return false };
    let ports = (port(page, default_port), port(&here, default_port));
    page.host().eq_ignore_ascii_case(here.host()) && ports.0.is_some() && ports.0 == ports.1
}

/// Returns the port, or the default of the scheme if no port is given. Returns `None` for a port that is not a number
/// up to 65535.
fn port(authority: &Authority, default: u16) -> Option<u16> {
    let after_host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, place)| place);
    match after_host.get(authority.host().len()..) {
        None | Some("" | ":") => Some(default),
        Some(_) => authority.port_u16(),
    }
}

/// Checks that a request names its server once (RFC 9112, section 3.2). In HTTP/2 and HTTP/3 its URI does.
#[cfg(any(feature = "websocket", feature = "sse"))]
pub(super) fn check_host(parts: &request::Parts) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    if hosts.next().is_none() && parts.version == Version::HTTP_11 {
        return refuse("the request needs a Host header");
    }
    if hosts.next().is_some() {
        return refuse("a request has one Host");
    }
    Ok(())
}

/// Returns the server that the request names. HTTP/2 has no Host header, but an authority in the URI.
fn here(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let host = headers.get(header::HOST).and_then(|host| Uri::try_from(host.as_bytes()).ok());
    host.and_then(|host| host.authority().cloned()).or_else(|| uri.authority().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &Origins, origin: &'static str, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        headers.insert(header::HOST, HeaderValue::from_static(host));
        origins.check(&Uri::from_static("/ws"), &headers).is_ok()
    }

    #[test]
    fn by_default_a_page_of_another_host_is_refused() {
        let origins = Origins::default();
        assert!(allowed(&origins, "https://example.com", "example.com"));
        assert!(allowed(&origins, "https://Example.com", "example.com:443"));
        assert!(allowed(&origins, "http://localhost:3000", "localhost:3000"));
        for origin in [
            "https://evil.example",
            "http://localhost:3001",
            "null",
            "https://example.com.evil",
            "",
            "::::",
            "http://localhost:99999",
        ] {
            assert!(!allowed(&origins, origin, "localhost:3000"), "{origin}");
        }
    }

    #[test]
    fn an_invalid_port_is_not_taken_for_the_default_of_the_scheme() {
        let origins = Origins::default();
        assert!(allowed(&origins, "http://example.com:80", "example.com"));
        assert!(allowed(&origins, "http://[::1]", "[::1]:80"));
        assert!(!allowed(&origins, "http://example.com:99999", "example.com"));
        assert!(!allowed(&origins, "http://example.com", "example.com:65536"));
        assert!(!allowed(&origins, "http://example.com:99999", "example.com:99999"));
    }

    #[test]
    fn named_origins_are_allowed_besides_the_own_one() {
        let mut origins = Origins::default();
        origins.allow(HeaderValue::from_static("https://app.example"));
        assert!(allowed(&origins, "https://app.example", "api.example"));
        assert!(allowed(&origins, "https://api.example", "api.example"));
        assert!(!allowed(&origins, "http://app.example", "api.example"));
    }

    #[test]
    fn a_refusal_names_the_origin_the_host_and_the_setting_and_no_more_than_is_safe() {
        let refusal = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
            headers.insert(header::HOST, HeaderValue::from_static("localhost:3000"));
            Origins::default().check(&Uri::from_static("/ws"), &headers).unwrap_err()
        };
        let Refusal { status, reason } = refusal("http://localhost:5173");
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(reason.contains("`http://localhost:5173`") && reason.contains("`localhost:3000`"), "{reason}");
        assert!(reason.contains("`allow_origin`"), "{reason}");
        let long = refusal(&format!("https://{}\u{e9}", "a".repeat(60_000))).reason;
        assert!(long.is_ascii() && long.len() < 500, "{}", long.len());
    }

    #[test]
    fn who_is_no_browser_sends_no_origin_and_passes() {
        assert!(Origins::default().check(&Uri::from_static("/"), &HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_page_elsewhere_that_asks_without_an_origin_is_refused() {
        let allowed = |origins: &Origins, site: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            origins.check(&Uri::from_static("/sse"), &headers).is_ok()
        };
        let mut one = Origins::default();
        one.allow(HeaderValue::from_static("https://app.example"));
        for origins in [Origins::default(), one] {
            assert!(allowed(&origins, "same-origin") && allowed(&origins, "none"));
            assert!(!allowed(&origins, "cross-site") && !allowed(&origins, "same-site") && !allowed(&origins, "?"));
        }
        let mut any = Origins::default();
        any.allow_any();
        assert!(allowed(&any, "cross-site"));
    }

    #[test]
    fn a_page_over_http_is_not_a_page_of_a_server_over_https() {
        let check = |origins: &Origins, uri: &'static str, origin: &'static str, site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            headers.insert(header::HOST, HeaderValue::from_static("example.com"));
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            origins.check(&Uri::from_static(uri), &headers).is_ok()
        };
        let (http, https) = ("http://example.com", "https://example.com");
        let default = Origins::default();
        // Behind a proxy that terminates TLS, only the browser knows the scheme.
        assert!(check(&default, "/ws", http, None) && check(&default, "/ws", https, None));
        assert!(check(&default, "/ws", http, Some("same-origin")) && !check(&default, "/ws", http, Some("cross-site")));
        // HTTP/2 and HTTP/3 carry the scheme.
        assert!(!check(&default, "https://example.com/ws", http, None));
        assert!(check(&default, "https://example.com/ws", https, None));
        assert!(check(&default, "http://example.com/ws", https, None), "TLS that a proxy has ended");

        let mut strict = Origins::default();
        strict.https_only();
        assert!(!check(&strict, "/ws", http, None) && !check(&strict, "/ws", "HTTP://example.com", None));
        assert!(check(&strict, "/ws", https, None));
        strict.allow(HeaderValue::from_static("http://localhost:5173"));
        assert!(check(&strict, "/ws", "http://localhost:5173", None), "allowed by name");
        assert!(!check(&strict, "/ws", http, None));
        strict.allow_any();
        assert!(!check(&strict, "/ws", "http://a.example", None) && check(&strict, "/ws", "https://a.example", None));
    }
}
