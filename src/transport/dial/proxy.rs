use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use super::{Socket, dialer::connect, exchange};
use crate::{
    Error, Limits,
    transport::{race, target::Target},
};

/// A proxy for connections to servers.
#[derive(Clone)]
pub(super) struct Proxy {
    /// The proxy's own host and port.
    target: Target,
    protocol: Protocol,
}

#[derive(Clone)]
enum Protocol {
    /// HTTP's CONNECT (RFC 9110, section 9.3.6).
    Http { authorization: Option<HeaderValue> },
    /// SOCKS version 5 (RFC 1928).
    #[cfg(feature = "proxy")]
    Socks { names: Names, credentials: Option<(String, String)> },
}

/// The end that resolves the names of servers for a SOCKS proxy.
#[cfg(feature = "proxy")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// This machine: `socks5://`.
    Here,
    /// The proxy: `socks5h://`.
    AtProxy,
}

impl Proxy {
    /// Parses the URL of a proxy. Errors do not repeat it, because it may contain a password.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Error> {
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let (target, protocol) = match &*scheme {
            "https" | "wss" => {
                return Err(Error::config("https:// to a proxy is not supported; use http:// or socks5://"));
            }
            "socks5" | "socks5h" => Self::parse_socks(uri, scheme == "socks5h")?,
            "socks4" | "socks4a" => return Err(Error::config("SOCKS 4 is not supported; use socks5:// or http://")),
            _ => {
                let target = Target::parse(uri)?;
                let authorization = target.authorization().cloned();
                (target, Protocol::Http { authorization })
            }
        };
        if target.path != "/" {
            return Err(Error::config("the URL of a proxy must not have a path or a query; use scheme://host:port"));
        }
        Ok(Self { target, protocol })
    }

    #[cfg(feature = "proxy")]
    fn parse_socks(uri: &Uri, resolves_names: bool) -> Result<(Target, Protocol), Error> {
        use percent_encoding::percent_decode_str;

        const PORT: u16 = 1080;

        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (userinfo, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let has_port = place.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port { String::new() } else { format!(":{PORT}") };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // `Target` knows HTTP's schemes only.
        let place = format!("http://{place}{port}{path}");
        let invalid = |error| Error::config("the URL of the proxy has no valid host").with_source(error);
        let target = Target::parse(&place.parse().map_err(invalid)?)?;
        let credentials = match userinfo {
            "" | ":" => None,
            _ => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                let decode = |part| {
                    let decoded = percent_decode_str(part).decode_utf8().ok()?;
                    (1..=255).contains(&decoded.len()).then(|| decoded.into_owned())
                };
                let both = decode(user).zip(decode(password)).ok_or_else(|| {
                    Error::config("SOCKS requires a user and a password of 1 to 255 bytes each (RFC 1929), in UTF-8")
                })?;
                Some(both)
            }
        };
        let names = if resolves_names { Names::AtProxy } else { Names::Here };
        Ok((target, Protocol::Socks { names, credentials }))
    }

    #[cfg(not(feature = "proxy"))]
    fn parse_socks(_: &Uri, _: bool) -> Result<(Target, Protocol), Error> {
        Err(Error::config("SOCKS proxies need the feature `proxy` of tower-transport"))
    }

    /// Returns the URL of the proxy without its user and password.
    pub(super) fn name(&self) -> String {
        let scheme = match &self.protocol {
            Protocol::Http { .. } => "http",
            #[cfg(feature = "proxy")]
            Protocol::Socks { names: Names::Here, .. } => "socks5",
            #[cfg(feature = "proxy")]
            Protocol::Socks { names: Names::AtProxy, .. } => "socks5h",
        };
        format!("{scheme}://{}", self.target.host_and_port())
    }

    /// Opens a stream to `target` through the proxy.
    pub(super) async fn connect(&self, target: &Target) -> Result<Socket, Error> {
        match &self.protocol {
            Protocol::Http { authorization } => self.tunnel(self.reach().await?, target, authorization.as_ref()).await,
            #[cfg(feature = "proxy")]
            Protocol::Socks { names, credentials } => {
                let credentials = credentials.as_ref().map(|(user, password)| (&**user, &**password));
                if *names == Names::AtProxy || target.host.parse::<std::net::IpAddr>().is_ok() {
                    return self.ask_socks((&*target.host, target.port), credentials).await;
                }
                // The addresses race as they do without a proxy. Each attempt has its own connection to the proxy.
                race::connect(&target.dialled_host(), target.port, |address| self.ask_socks(address, credentials)).await
            }
        }
    }

    /// Connects to the proxy itself.
    async fn reach(&self) -> Result<Socket, Error> {
        let connected = race::connect(&self.target.dialled_host(), self.target.port, connect).await;
        let tcp = connected.map_err(|error| error.context(format!("the proxy {} is not reachable", self.name())))?;
        Ok(Socket::dialled(tcp))
    }

    /// Opens a tunnel with CONNECT.
    async fn tunnel(
        &self,
        socket: Socket,
        target: &Target,
        authorization: Option<&HeaderValue>,
    ) -> Result<Socket, Error> {
        let authority = target.host_and_port();
        let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
        if let Some(authorization) = authorization {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request
            .body(())
            .map_err(|error| Error::config("the host is not valid in a CONNECT request").with_source(error))?;
        // hyper treats 204 as a response without a body before it considers the method, and provides no tunnel for it.
        let opens_tunnel =
            |answer: &Response<_>| answer.status().is_success() && answer.status() != StatusCode::NO_CONTENT;
        let (_, socket, early) = exchange(socket, request, &Limits::new(), opens_tunnel).await.map_err(|error| {
            let proxy = self.name();
            let what = match error.status() {
                Some(StatusCode::NO_CONTENT) => {
                    format!("the proxy {proxy} answered CONNECT with 204, which opens no tunnel")
                }
                Some(status) => format!("the proxy {proxy} refused to connect to {authority}: {status}"),
                None => format!("the proxy {proxy} failed to connect to {authority}"),
            };
            error.context(what)
        })?;
        // In TLS and in HTTP/1.1 the client sends first.
        if !early.is_empty() {
            return Err(Error::protocol(format!("the proxy {} sent data before the client did", self.name())));
        }
        Ok(socket)
    }

    /// Asks a SOCKS proxy for a stream to `server`. The handshake reads no byte past its end.
    #[cfg(feature = "proxy")]
    async fn ask_socks<'t>(
        &self,
        server: impl tokio_socks::IntoTargetAddr<'t>,
        credentials: Option<(&str, &str)>,
    ) -> Result<Socket, Error> {
        use tokio_socks::tcp::Socks5Stream;

        let socket = self.reach().await?;
        let stream = match credentials {
            None => Socks5Stream::connect_with_socket(socket, server).await,
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(socket, server, user, password).await
            }
        };
        Ok(stream.map_err(|error| self.socks_error(error))?.into_inner())
    }

    #[cfg(feature = "proxy")]
    fn socks_error(&self, error: tokio_socks::Error) -> Error {
        use tokio_socks::Error as Socks;

        let proxy = self.name();
        let refusal = |cause: &Socks| format!("the proxy {proxy} refused to connect to the server: {cause}");
        match error {
            Socks::Io(error) => super::exchange::by_cause(error, "the handshake failed")
                .context(format!("the proxy {proxy} failed in the SOCKS handshake")),
            Socks::NoAcceptableAuthMethods | Socks::AuthorizationRequired => {
                Error::auth(format!("the proxy {proxy} requires other credentials")).with_source(error)
            }
            Socks::PasswordAuthFailure(_) => {
                Error::auth(format!("the proxy {proxy} rejected the user and the password")).with_source(error)
            }
            Socks::ConnectionNotAllowedByRuleset => Error::auth(refusal(&error)).with_source(error),
            Socks::GeneralSocksServerFailure
            | Socks::NetworkUnreachable
            | Socks::HostUnreachable
            | Socks::ConnectionRefused
            | Socks::TtlExpired => Error::refused(refusal(&error)).with_source(error),
            Socks::CommandNotSupported
            | Socks::AddressTypeNotSupported
            | Socks::InvalidTargetAddress(_)
            | Socks::InvalidAuthValues(_) => Error::config(refusal(&error)).with_source(error),
            _ => Error::protocol(format!("the proxy {proxy} does not speak SOCKS 5: {error}")).with_source(error),
        }
    }
}

/// Returns whether a SOCKS proxy caused this error, and not the server behind it.
#[cfg(all(feature = "adaptive", feature = "proxy"))]
pub(crate) fn is_of_socks_proxy(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(this) = cause {
        if this.is::<tokio_socks::Error>() {
            return true;
        }
        cause = this.source();
    }
    false
}

/// The proxies that the environment names.
#[cfg(feature = "proxy")]
pub(super) struct Environment {
    /// For `http://` and `ws://`.
    plain: Option<Proxy>,
    /// For `https://` and `wss://`.
    secure: Option<Proxy>,
    /// Intercepts the servers that `NO_PROXY` does not exempt.
    exempt: hyper_util::client::proxy::matcher::Matcher,
}

#[cfg(feature = "proxy")]
impl Environment {
    /// Reads the variables by `variable`. The first of two names that is set counts, even if it is empty.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        use hyper_util::client::proxy::matcher::Matcher;

        let first = |names: &[&'static str]| {
            names.iter().find_map(|&name| Some((name, variable(name)?))).filter(|(_, value)| !value.is_empty())
        };
        let proxy = |names: &[&'static str]| {
            let Some((name, value)) = first(names) else { return Ok(None) };
            let url = if value.contains("://") { value } else { format!("http://{value}") };
            // The cause is not kept for a URL that does not parse, because it could quote a password.
            let uri = url.parse().map_err(|_| Error::config(format!("`{name}` is not the URL of a proxy")))?;
            Proxy::parse(&uri).map(Some).map_err(|error| error.context(format!("`{name}` cannot be used")))
        };
        let all = proxy(&["ALL_PROXY", "all_proxy"])?;
        // A CGI program gets the header `Proxy` of its client as HTTP_PROXY (CVE-2016-5385).
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let plain = proxy(if is_cgi { &["http_proxy"] } else { &["HTTP_PROXY", "http_proxy"] })?;
        let secure = proxy(&["HTTPS_PROXY", "https_proxy"])?;
        let exempt = first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        Ok(Self {
            plain: plain.or_else(|| all.clone()),
            secure: secure.or(all),
            exempt: Matcher::builder().all("http://some.proxy").no(exempt).build(),
        })
    }

    /// Returns the proxy for a server, or `None` if it is dialed directly.
    pub(super) fn proxy(&self, target: &Target, is_secure: bool) -> Option<&Proxy> {
        let proxy = if is_secure { &self.secure } else { &self.plain };
        proxy.as_ref().filter(|_| target.dialed().is_ok_and(|uri| self.exempt.intercept(&uri).is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_the_password_of_a_proxy_are_those_that_the_url_means() {
        use base64::{Engine as _, prelude::BASE64_STANDARD};

        let proxy = Proxy::parse(&Uri::from_static("http://bob:p%40ss%3A%2F@proxy:3128")).unwrap();
        let expected = format!("Basic {}", BASE64_STANDARD.encode("bob:p@ss:/"));
        assert!(matches!(proxy.protocol, Protocol::Http { authorization: Some(value) } if value == expected));
    }

    #[test]
    fn a_part_of_a_proxys_url_that_means_nothing_is_refused() {
        for url in [
            "http://proxy:99999",
            "https://proxy:3128",
            "http://proxy:3128/path",
            "http://proxy/?query",
            "proxy:3128",
            "socks4://proxy",
            "ftp://proxy",
        ] {
            let error = Proxy::parse(&url.parse().unwrap()).map(|proxy| proxy.name()).unwrap_err();
            assert!(error.is_config(), "{url}: {error:?}");
        }
    }

    #[cfg(feature = "proxy")]
    mod with_feature {
        use std::{collections::HashMap, net::IpAddr};

        use proptest::prelude::*;

        use super::*;

        fn socks(url: &str) -> Result<Proxy, Error> {
            Proxy::parse(&url.parse().unwrap())
        }

        #[test]
        fn the_url_of_a_socks_proxy_says_who_resolves_names_and_has_its_own_port() {
            for (url, name, names) in [
                ("socks5://proxy", "socks5://proxy:1080", Names::Here),
                ("SOCKS5H://proxy:9", "socks5h://proxy:9", Names::AtProxy),
                ("socks5h://ada:p%40ss@[::1]", "socks5h://[::1]:1080", Names::AtProxy),
                ("socks5://[::1]:7/", "socks5://[::1]:7", Names::Here),
            ] {
                let proxy = socks(url).unwrap();
                assert_eq!(proxy.name(), name, "{url}");
                assert!(matches!(proxy.protocol, Protocol::Socks { names: found, .. } if found == names), "{url}");
            }
            let Protocol::Socks { credentials, .. } = socks("socks5://ada:p%40ss%3A@proxy").unwrap().protocol else {
                panic!("not a SOCKS proxy");
            };
            assert_eq!(credentials, Some(("ada".to_owned(), "p@ss:".to_owned())));
            let long = format!("socks5://ada:{}@proxy", "x".repeat(256));
            for url in ["socks5://proxy:99999", "socks5://proxy/path", "socks5://ada@proxy", "socks5://%FF:x@p", &long]
            {
                let error = socks(url).map(|proxy| proxy.name()).unwrap_err();
                assert!(error.is_config() && !format!("{error:?}").contains("xxx"), "{url}: {error:?}");
            }
        }

        /// The proxy of the environment `variables` for `url`.
        fn chosen(variables: &[(&str, &str)], url: &str) -> Result<Option<String>, Error> {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            let environment = Environment::read(|name| variables.get(name).map(|&value| value.to_owned()))?;
            let target = Target::parse(&url.parse().unwrap()).unwrap();
            Ok(environment.proxy(&target, target.secure).map(Proxy::name))
        }

        #[test]
        fn each_scheme_has_its_variable_and_all_proxy_is_for_the_others() {
            let all = &[("ALL_PROXY", "socks5h://a"), ("HTTP_PROXY", "b:1"), ("https_proxy", "http://c:2")];
            for (variables, url, proxy) in [
                (&all[..], "ws://h/", Some("http://b:1")),
                (&all[..], "http://h:443/", Some("http://b:1")),
                (&all[..], "wss://h/", Some("http://c:2")),
                (&all[..], "https://h:80/", Some("http://c:2")),
                (&all[..2], "wss://h/", Some("socks5h://a:1080")),
                (&all[1..2], "wss://h/", None),
                (&[], "wss://h/", None),
                // The first name that is set counts, even if it is empty.
                (&[("HTTP_PROXY", ""), ("http_proxy", "b:1")], "ws://h/", None),
                (&[("HTTP_PROXY", "a:1"), ("http_proxy", "b:1")], "ws://h/", Some("http://a:1")),
                // A client of a CGI program chooses its HTTP_PROXY.
                (&[("HTTP_PROXY", "a:1"), ("REQUEST_METHOD", "GET")], "ws://h/", None),
                (&[("http_proxy", "a:1"), ("REQUEST_METHOD", "GET")], "ws://h/", Some("http://a:1")),
            ] {
                assert_eq!(chosen(variables, url).unwrap().as_deref(), proxy, "{variables:?} {url}");
            }
        }

        #[test]
        fn a_variable_that_is_no_proxy_is_named_and_not_repeated() {
            for value in [
                "ftp://u:tainted@h",
                "https://u:tainted@h",
                "http://u:tainted@h/x",
                "http://u:tainted@h:99999",
                "u:tainted@ h",
            ] {
                let error = chosen(&[("HTTPS_PROXY", value)], "ws://h/").unwrap_err();
                let shown = format!("{error} {error:?}");
                assert!(error.is_config() && shown.contains("HTTPS_PROXY") && !shown.contains("tainted"), "{shown}");
            }
        }

        #[test]
        fn the_table_of_no_proxy() {
            for (list, host, is_exempt) in [
                ("example.com", "example.com", true),
                ("example.com", "EXAMPLE.com", true),
                ("example.com", "a.b.example.com", true),
                ("example.com", "notexample.com", false),
                ("example.com", "example.com.evil", false),
                (".example.com", "example.com", true),
                (".example.com", "a.example.com", true),
                ("a, b ,c", "b", true),
                ("*", "anything", true),
                ("*.example.com", "a.example.com", false),
                ("10.0.0.0/8", "10.255.0.1", true),
                ("10.0.0.0/8", "11.0.0.1", false),
                ("10.1.2.3", "10.1.2.3", true),
                ("::1", "[::1]", true),
                ("fd00::/8", "[fd12::1]", true),
                ("fd00::/8", "[fe80::1]", false),
                ("", "localhost", false),
                (",, ,", "h", false),
                ("127.0.0.1", "localhost", false),
            ] {
                let proxy = chosen(&[("ALL_PROXY", "p:1"), ("NO_PROXY", list)], &format!("ws://{host}:9/")).unwrap();
                assert_eq!(proxy.is_none(), is_exempt, "{list:?} {host}");
            }
        }

        fn name() -> impl Strategy<Value = String> {
            proptest::string::string_regex("[a-c]{1,2}(\\.[a-c]{1,2}){0,3}").unwrap()
        }

        proptest! {
            #[test]
            fn a_name_is_exempt_if_it_or_a_parent_is_listed(
                host in name(),
                list in proptest::collection::vec((any::<bool>(), any::<bool>(), name()), 0..5),
            ) {
                let listed = list.iter().map(|(dot, upper, name)| {
                    let name = if *upper { name.to_uppercase() } else { name.clone() };
                    format!("{}{name}", if *dot { "." } else { "" })
                });
                let listed = listed.collect::<Vec<_>>().join(", ");
                let is_exempt = list.iter().any(|(_, _, name)| host == *name || host.ends_with(&format!(".{name}")));
                let variables = [("ALL_PROXY", "p:1"), ("NO_PROXY", &*listed)];
                let other = chosen(&variables, &format!("ws://{host}.test/")).unwrap();
                prop_assert_eq!(other, Some("http://p:1".to_owned()));
                prop_assert_eq!(chosen(&variables, &format!("ws://{host}/")).unwrap().is_none(), is_exempt);
            }

            #[test]
            fn an_address_is_exempt_if_a_listed_network_has_its_prefix(
                address: u32, listed: u32, prefix in 0_u32..=32, in_network: bool,
            ) {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                let address = if in_network { listed & mask | address & !mask } else { address };
                let network = format!("{}/{prefix}", IpAddr::from(listed.to_be_bytes()));
                let url = format!("ws://{}/", IpAddr::from(address.to_be_bytes()));
                let is_exempt = address & mask == listed & mask;
                let proxy = chosen(&[("ALL_PROXY", "p:1"), ("NO_PROXY", &network)], &url).unwrap();
                prop_assert_eq!(proxy.is_none(), is_exempt);
            }

            #[test]
            fn no_text_of_a_variable_is_a_panic(proxy in ".{0,40}", list in ".{0,40}") {
                let _ = chosen(&[("ALL_PROXY", &proxy), ("NO_PROXY", &list)], "ws://example.com/");
                let _ = chosen(&[("ALL_PROXY", "p:1"), ("NO_PROXY", &list)], "ws://[fe80::1%25eth0]/");
            }
        }
    }
}
