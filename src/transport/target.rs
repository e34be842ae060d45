//! URL parsing: one parser for every connector, which uses or rejects each part of a URL. Pure; it runs before any
//! connection attempt.
//!
//! It follows the WHATWG URL Standard, as browsers do: internationalized host names, numbers for IPv4 addresses,
//! percent-encoding of paths and queries. It adds two things that the standard omits: the zone of a link-local IPv6
//! address (RFC 6874), and a user with a password, which becomes an `Authorization` header.
#![allow(dead_code, reason = "which of them are used depends on the features")]

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Request, Uri, header, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Position, Url};

use crate::Error;

/// The destination of a URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) secure: bool,
    /// The name or address. An IPv6 address has neither brackets nor a zone.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of the `Host` header. It includes the port only if it is not the scheme's default (RFC 6455, section
    /// 4.1).
    pub(crate) authority: HeaderValue,
    pub(crate) path: PathAndQuery,
    /// The interface of a link-local IPv6 address. It is meaningful on this machine only and is never sent.
    zone: Option<String>,
    /// The `Basic` credentials of a user and a password.
    authorization: Option<HeaderValue>,
    /// The whole URL with the scheme `http` or `https`, without user and zone.
    url: Url,
}

/// Parses a URL string. Also accepts input that browsers accept and [`Uri`] does not: internationalized host names,
/// spaces.
pub(crate) fn uri(url: &str) -> Result<Uri, Error> {
    // The URL itself is not repeated: it may contain a password or a token.
    let refuse = |error| Error::config("the URL to connect to is not a URL").with_source(error);
    let url = url.trim();
    url.parse().or_else(|error: http::uri::InvalidUri| match Url::parse(url) {
        Ok(url) => url[..Position::AfterQuery].parse().map_err(refuse),
        Err(ParseError::RelativeUrlWithoutBase) => Err(refuse(error)),
        Err(error) => Err(unusable(error)),
    })
}

/// Creates the request for a URL string, without headers.
pub(crate) fn request(url: &str) -> Result<Request<()>, Error> {
    let mut request = Request::new(());
    *request.uri_mut() = uri(url)?;
    Ok(request)
}

impl Target {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Error> {
        const USE: &str = "use http://, https://, ws:// or wss://";

        let scheme = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("ws" | "http") => "http",
            Some("wss" | "https") => "https",
            Some(other) => return Err(Error::config(format!("`{other}` is not a supported scheme; {USE}"))),
            None => {
                // The query is omitted: it may contain a token.
                let (host, path) = (uri.host().unwrap_or_default(), uri.path());
                return Err(Error::config(format!("the URL `{host}{path}` has no scheme; {USE}")));
            }
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (userinfo, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (place, zone) = take_zone(place)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let url = Url::parse(&format!("{scheme}://{place}{path}")).map_err(unusable)?;
        Self::new(url, zone, authorization(userinfo)?)
    }

    /// Resolves a reference (RFC 3986, section 4.1). A reference to another origin keeps neither the user nor the zone.
    #[cfg(feature = "sse")]
    pub(crate) fn join(&self, reference: &str) -> Result<Self, Error> {
        let mut url = self.url.join(reference).map_err(unusable)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::config("the URL is not one of http:// or https://"));
        }
        let own = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => authorization(&format!("{user}:{}", password.unwrap_or_default()))?,
        };
        let is_same = url.origin() == self.url.origin();
        let authorization = own.or_else(|| self.authorization.clone().filter(|_| is_same));
        let zone = self.zone.clone().filter(|_| url.host() == self.url.host());
        // These fail only for URLs that cannot have a user. HTTP URLs can.
        let _ = (url.set_username(""), url.set_password(None));
        Self::new(url, zone, authorization)
    }

    fn new(mut url: Url, zone: Option<String>, authorization: Option<HeaderValue>) -> Result<Self, Error> {
        url.set_fragment(None);
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(Error::config("the URL has no host")),
        };
        let unfit = |error| Error::config("the URL's host is not valid in a Host header").with_source(error);
        let authority = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]).map_err(unfit)?;
        let unfit = |error| Error::config("the URL's path is not valid in a request").with_source(error);
        let path = PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery]).map_err(unfit)?;
        let port = url.port_or_known_default().ok_or_else(|| Error::config("the URL has no port"))?;
        Ok(Self { secure: url.scheme() == "https", host, port, authority, path, zone, authorization, url })
    }

    /// Returns `host:port`, as a CONNECT request needs it.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(crate) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns the name or address with its zone, as a resolver needs it.
    pub(crate) fn dialled_host(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns the URI for a dialer: `http://host:port/`.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(crate) fn dialed(&self) -> Result<Uri, Error> {
        let zone = self.zone.as_ref().map(|zone| format!("%25{zone}")).unwrap_or_default();
        let place = match self.host.contains(':') {
            true => format!("[{}{zone}]", self.host),
            false => self.host.clone(),
        };
        Uri::try_from(format!("http://{place}:{}/", self.port))
            .map_err(|error| Error::config("the URL's host is not valid in a URI").with_source(error))
    }

    /// Puts the URL's user and password into a request.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let Some(authorization) = &self.authorization else { return Ok(()) };
        if headers.contains_key(header::AUTHORIZATION) {
            return Err(Error::config(
                "the URL has a user and a password, and the request an Authorization header: use one of the two",
            ));
        }
        headers.insert(header::AUTHORIZATION, authorization.clone());
        Ok(())
    }

    /// Returns the `Basic` credentials of the URL.
    #[cfg(any(feature = "websocket", feature = "sse"))]
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Returns the URL with the scheme `http` or `https`, without user and zone.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

fn unusable(error: ParseError) -> Error {
    Error::config(match error {
        ParseError::EmptyHost => "the URL has no host",
        ParseError::InvalidPort => "the URL's port is not a number up to 65535",
        ParseError::IdnaError | ParseError::InvalidDomainCharacter => "the URL's host is not a name",
        ParseError::InvalidIpv4Address | ParseError::InvalidIpv6Address => "the URL's host is not an address",
        _ => "the URL to connect to is not a URL",
    })
    .with_source(error)
}

/// Splits the zone off: `[fe80::1%25eth0]:80` becomes `[fe80::1]:80` and `eth0` (RFC 6874, section 2). A bare `%` is
/// accepted as well, as that section proposes.
fn take_zone(place: &str) -> Result<(String, Option<String>), Error> {
    let bracketed = place.strip_prefix('[').and_then(|place| place.split_once(']'));
    let Some((address, rest)) = bracketed else { return Ok((place.to_owned(), None)) };
    let Some((address, zone)) = address.split_once('%') else { return Ok((place.to_owned(), None)) };
    let wrong = || Error::config("the zone of the URL's IPv6 address is not an interface name");
    let zone = percent_decode_str(zone.strip_prefix("25").unwrap_or(zone)).decode_utf8().map_err(|_| wrong())?;
    match !zone.is_empty() && zone.chars().all(|c| c.is_ascii_graphic() && !"%/[]@".contains(c)) {
        true => Ok((format!("[{address}]{rest}"), Some(zone.into_owned()))),
        false => Err(wrong()),
    }
}

/// Creates `Basic` credentials (RFC 7617). In a URL, reserved characters are written as `%40`, for example (RFC 3986,
/// section 3.2.1).
fn authorization(userinfo: &str) -> Result<Option<HeaderValue>, Error> {
    if matches!(userinfo, "" | ":") {
        return Ok(None);
    }
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let user: Vec<u8> = percent_decode_str(user).collect();
    if user.contains(&b':') {
        return Err(Error::config("the URL's user contains a colon, which Basic authentication cannot represent"));
    }
    let credentials: Vec<u8> = user.into_iter().chain([b':']).chain(percent_decode_str(password)).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
        .map_err(|_| Error::config("the URL's user and password are not valid in a header"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Path and query are omitted: either may contain a token.
        f.debug_struct("Target")
            .field("secure", &self.secure)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(&uri(url).unwrap()).unwrap()
    }

    #[test]
    fn the_host_header_has_the_port_only_where_it_is_not_the_schemes_own() {
        assert_eq!(target("ws://example.com/feed").authority, "example.com");
        assert_eq!(target("ws://example.com:80/feed").authority, "example.com");
        assert_eq!(target("wss://example.com:443").authority, "example.com");
        assert_eq!(target("wss://example.com:80/").authority, "example.com:80");
    }

    #[test]
    fn an_ipv6_address_is_dialled_without_and_named_with_brackets() {
        let target = target("ws://[::1]:9000/a?b");
        assert_eq!((target.host.as_str(), target.port), ("::1", 9000));
        assert_eq!(target.authority, "[::1]:9000");
        assert_eq!(target.url().as_str(), "http://[::1]:9000/a?b");
        assert_eq!(target.path, "/a?b");
    }

    #[test]
    fn a_url_that_cannot_work_says_what_is_missing() {
        for (uri, says) in [("ftp://example.com/", "`ftp`"), ("/feed", "no scheme")] {
            let error = Target::parse(&Uri::from_static(uri)).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(says), "{error}");
        }
        let error = Target::parse(&Uri::from_static("/feed?token=tainted")).unwrap_err();
        assert!(error.to_string().contains("/feed") && !format!("{error} {error:?}").contains("tainted"), "{error:?}");
    }

    #[test]
    fn each_part_of_a_url_is_used_or_refused() {
        for (url, host, port, authority, path) in [
            ("WS://Example.COM/", "example.com", 80, "example.com", "/"),
            ("WSS://h", "h", 443, "h", "/"),
            ("http://h:/x", "h", 80, "h", "/x"),
            ("ws://h:65535/", "h", 65535, "h:65535", "/"),
            ("ws://h/\u{fc}?\u{fc}=a b#tail", "h", 80, "h", "/%C3%BC?%C3%BC=a%20b"),
            ("ws://h/a%20b/%7e?c=%2F'", "h", 80, "h", "/a%20b/%7e?c=%2F%27"),
            ("ws://h/a/./b/../c", "h", 80, "h", "/a/c"),
            ("ws://m\u{fc}nchen.example/", "xn--mnchen-3ya.example", 80, "xn--mnchen-3ya.example", "/"),
            ("ws://0x7f.1:9/", "127.0.0.1", 9, "127.0.0.1:9", "/"),
            ("ws://[0:0::1]/", "::1", 80, "[::1]", "/"),
            ("ws://[fe80::1%25eth0]:9/x", "fe80::1", 9, "[fe80::1]:9", "/x"),
            ("ws://h?q", "h", 80, "h", "/?q"),
            ("  ws://h/  ", "h", 80, "h", "/"),
        ] {
            let target = target(url);
            let found = (target.host.as_str(), target.port, target.authority.to_str().unwrap(), target.path.as_str());
            assert_eq!(found, (host, port, authority, path), "{url}");
        }
        for (url, says) in [
            ("ws://h:99999/", "port"),
            ("ws://h:65536/", "port"),
            ("ws://1.2.3.4.5/", "address"),
            ("ws://[fe80::1%25]/", "zone"),
            ("ws://[fe80::1%25a%2Fb]/", "zone"),
            ("ws://a%3Ab:c@h/", "colon"),
            ("ws://", "URL"),
            ("ws://a b/", "URL"),
            ("ws://[::1/", "URL"),
        ] {
            let error = uri(url).and_then(|uri| Target::parse(&uri)).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn the_zone_of_an_address_is_for_the_resolver_alone() {
        for url in ["ws://[fe80::1%25eth0]/", "ws://[fe80::1%eth0]/"] {
            let target = target(url);
            assert_eq!(target.dialled_host(), "fe80::1%eth0");
            assert!(!format!("{:?} {} {}", target.authority, target.url(), target.host).contains("eth0"));
        }
        assert_eq!(target("ws://[::1]/").dialled_host(), "::1");
    }

    #[test]
    fn a_user_and_a_password_become_basic_credentials_that_are_not_printed() {
        let header = |url| {
            let mut headers = HeaderMap::new();
            target(url).authorize(&mut headers).unwrap();
            headers.remove(header::AUTHORIZATION)
        };
        let basic = |text| HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(text))).unwrap();
        assert_eq!(header("ws://ada:p%40ss%3A%2F@h/").unwrap(), basic("ada:p@ss:/"));
        assert_eq!(header("ws://ada@h/").unwrap(), basic("ada:"));
        assert_eq!(header("ws://:pw@h/").unwrap(), basic(":pw"));
        assert_eq!((header("ws://@h/"), header("ws://h/")), (None, None));
        assert!(header("ws://ada:pw@h/").unwrap().is_sensitive());
        assert_eq!(target("ws://ada:pw@h/").authority, "h");

        let mut both: HeaderMap = [(header::AUTHORIZATION, basic("other:"))].into_iter().collect();
        assert!(target("ws://ada:pw@h/").authorize(&mut both).unwrap_err().is_config());
        let text = format!("{:?}", target("ws://ada:tainted@h/tainted?tainted"));
        assert!(!text.contains("tainted"), "{text}");
    }
}
