use http::{HeaderValue, Uri, uri::PathAndQuery};

use crate::Error;

/// Where a URL leads: pure, before anything is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Target {
    pub(in crate::transport) secure: bool,
    /// The name or address, an IPv6 address without brackets.
    pub(in crate::transport) host: String,
    pub(in crate::transport) port: u16,
    /// What the `Host` header says: the port only where it is not the scheme's own (RFC 6455, section 4.1).
    pub(in crate::transport) authority: HeaderValue,
    pub(in crate::transport) path: PathAndQuery,
}

impl Target {
    pub(in crate::transport) fn parse(uri: &Uri) -> Result<Self, Error> {
        let (secure, default_port) = match uri.scheme_str() {
            Some("ws" | "http") => (false, 80),
            Some("wss" | "https") => (true, 443),
            Some(other) => {
                return Err(Error::config(format!(
                    "`{other}` is not a scheme that is connected by; use http://, https://, ws:// or wss://"
                )));
            }
            None => {
                // Not the query: it may have a token in it.
                let (host, path) = (uri.host().unwrap_or_default(), uri.path());
                return Err(Error::config(format!(
                    "the URL `{host}{path}` has no scheme; use http://, https://, ws:// or wss://"
                )));
            }
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let Some(host) = host else { return Err(Error::config("the URL has no host")) };
        let port = uri.port_u16().unwrap_or(default_port);
        let authority = if port == default_port { host.to_owned() } else { format!("{host}:{port}") };
        let authority = HeaderValue::try_from(authority)
            .map_err(|error| Error::config("the URL's host does not fit a Host header").with_source(error))?;
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { secure, host: host.trim_matches(['[', ']']).to_owned(), port, authority, path })
    }

    /// `host:port`, as a CONNECT request and a resolver want it.
    pub(in crate::transport) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &'static str) -> Target {
        Target::parse(&Uri::from_static(uri)).unwrap()
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
        assert_eq!(target.host_and_port(), "[::1]:9000");
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
}
