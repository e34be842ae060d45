use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority};

use super::refusal::Refusal;
use crate::log::Quoted;

/// Which pages may open a transport. Browsers send an `Origin` header and no other cross-site check applies to a WebSocket
/// (RFC 6455, section 10.2). A `GET` that a page does not ask to read the answer of (`no-cors`) has none, but says by `Sec-Fetch-Site`
/// ([Fetch Metadata](https://www.w3.org/TR/fetch-metadata/)) that it comes from another site. Clients that are not browsers send neither, and
/// pass.
#[derive(Clone, Debug, Default)]
pub(super) enum Origins {
    /// The page's host and port must be those that the request names in `Host`.
    #[default]
    SameHost,
    /// The same, or one of these.
    Also(Vec<HeaderValue>),
    Any,
}

impl Origins {
    pub(super) fn allow(&mut self, origin: HeaderValue) {
        match self {
            Self::SameHost => *self = Self::Also(vec![origin]),
            Self::Also(origins) => origins.push(origin),
            Self::Any => {}
        }
    }

    /// Why the page behind a request may not connect, if it may not.
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
            // Which site it is, nobody says: an allowed one cannot be told from others.
            return matches!(self, Self::Any) || !is_from_elsewhere(headers);
        };
        match self {
            Self::Any => true,
            Self::SameHost => same_host(origin, uri, headers),
            Self::Also(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
                    || same_host(origin, uri, headers)
            }
        }
    }
}

/// Whether a page of another origin is behind the request; `none` is the user's own doing.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

fn same_host(origin: &HeaderValue, uri: &Uri, headers: &HeaderMap) -> bool {
    let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
    let default_port = if origin.scheme_str() == Some("https") { 443 } else { 80 };
    let Some(page) = origin.authority() else { return false };
    let Some(here) = here(uri, headers) else { return false };
    page.host().eq_ignore_ascii_case(here.host())
        && page.port_u16().unwrap_or(default_port) == here.port_u16().unwrap_or(default_port)
}

/// What the request names as its server. HTTP/2 has no Host header, but an authority in the URI.
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
        for origin in ["https://evil.example", "http://localhost:3001", "null", "https://example.com.evil", "", "::::"]
        {
            assert!(!allowed(&origins, origin, "localhost:3000"), "{origin}");
        }
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
        assert!(allowed(&Origins::Any, "cross-site"));
    }
}
