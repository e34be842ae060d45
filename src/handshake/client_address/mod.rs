//! The address of the client behind proxies: for limits, guards and logs.
//!
//! # Why
//!
//! Behind a proxy, every connection comes from the proxy. Its address is in the request's extensions, and a limit by
//! address then counts all clients as one. Proxies write the client's address into a header, to which a client can
//! write, too: [`ClientAddressLayer`] believes only what trusted proxies have added.
//!
//! # What it does
//!
//! The layer looks for the peer's address in the extensions of the request: a [`SocketAddr`], or else an [`IpAddr`]. If
//! that is a trusted proxy, it reads the header from its end, over the addresses of trusted proxies, to the first
//! address that is not one of them. That is the client. The layer then removes the `SocketAddr`, and inserts the client's
//! `IpAddr`: everything in this crate that looks for an address finds that one.
//!
//! | the request | the client is |
//! |---|---|
//! | does not come from a trusted proxy, or nothing says from where | left as it is |
//! | has no such header | the proxy |
//! | names a client | that client |
//! | names trusted proxies only | the first one of the list |
//! | has an entry that is no address (`unknown`, a hidden name) | the proxy that wrote this entry |
//!
//! # Position in the stack
//!
//! Outermost, above [`ConnectionLimitLayer`](super::limit::ConnectionLimitLayer) and guards, below whatever puts the
//! peer's address into the extensions.
//!
//! # Backpressure, errors, cancel safety, on the wire
//!
//! The layer passes each request on at once, and sends and refuses nothing. The future is the inner service's own.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "limit")]
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use std::net::{IpAddr, SocketAddr};
//!
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::handshake::client_address::{ClientAddressLayer, subnet};
//!
//! let service = ServiceBuilder::new()
//!     .layer(ClientAddressLayer::x_forwarded_for(["10.0.0.0/8".parse()?]))
//!     .service(service_fn(async |request: Request<()>| {
//!         let client = request.extensions().get::<IpAddr>().copied();
//!         Ok::<_, tower_transport::Error>(client.map(subnet))
//!     }));
//!
//! let mut request = Request::get("/").header("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2").body(())?;
//! request.extensions_mut().insert(SocketAddr::from(([10, 0, 0, 1], 4711)));
//! // The client itself wrote 6.6.6.6.
//! assert_eq!(service.oneshot(request).await?, Some(IpAddr::from([192, 0, 2, 7])));
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```

mod forwarded;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, header::FORWARDED};
use ipnet::IpNet;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that puts the address of the client behind trusted proxies into the extensions of a request. See the
/// [module](self) for the complete documentation.
#[derive(Clone, Debug)]
pub struct ClientAddressLayer {
    trusted: Arc<[IpNet]>,
    header: Header,
}

/// The header that the proxies write. Only one is read: a proxy passes on the others as the client wrote them.
#[derive(Clone, Copy, Debug)]
enum Header {
    XForwardedFor,
    Forwarded,
}

impl ClientAddressLayer {
    /// Creates a layer that reads `X-Forwarded-For`, as nginx, HAProxy, Envoy and cloud balancers write it.
    ///
    /// `trusted` are the networks of the proxies. Every one of them must append the address of its own peer to the
    /// header or replace the header.
    #[must_use]
    pub fn x_forwarded_for(trusted: impl IntoIterator<Item = IpNet>) -> Self {
        Self { trusted: trusted.into_iter().collect(), header: Header::XForwardedFor }
    }

    /// Creates a layer that reads `Forwarded` ([RFC 7239](https://www.rfc-editor.org/rfc/rfc7239)). `trusted` are the
    /// networks of the proxies.
    #[must_use]
    pub fn forwarded(trusted: impl IntoIterator<Item = IpNet>) -> Self {
        Self { trusted: trusted.into_iter().collect(), header: Header::Forwarded }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns the client of a request that came from `peer`.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = match self.header {
            Header::XForwardedFor => headers.get_all("x-forwarded-for"),
            Header::Forwarded => headers.get_all(FORWARDED),
        };
        for line in lines.iter().rev() {
            let Ok(line) = line.to_str() else { return client };
            let addresses = match self.header {
                Header::XForwardedFor => forwarded::x_forwarded_for(line),
                Header::Forwarded => forwarded::forwarded(line),
            };
            for entry in addresses {
                // `client` wrote this entry.
                match entry {
                    Some(address) if self.trusts(client) => client = address,
                    _ => return client,
                }
            }
        }
        client
    }
}

impl<S> Layer<S> for ClientAddressLayer {
    type Service = ClientAddress<S>;

    fn layer(&self, service: S) -> ClientAddress<S> {
        ClientAddress { service, layer: self.clone() }
    }
}

/// A service whose requests have the client's address, created by [`ClientAddressLayer`].
#[derive(Clone, Debug)]
pub struct ClientAddress<S> {
    service: S,
    layer: ClientAddressLayer,
}

impl<S> ClientAddress<S> {
    accessors! {
        service: S, "service",
        get_mut: "Requests sent to it directly keep the address of their peer.",
        into_inner: ".",
    }
}

impl<S, B> Service<Request<B>> for ClientAddress<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let socket = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
        let peer = socket.or_else(|| request.extensions().get::<IpAddr>().copied()).map(|peer| peer.to_canonical());
        if let Some(peer) = peer
            && self.layer.trusts(peer)
        {
            let client = self.layer.client(peer, request.headers());
            request.extensions_mut().remove::<SocketAddr>();
            request.extensions_mut().insert(client);
        }
        self.service.call(request)
    }
}

/// Returns the network of a client, as a key for limits: an IPv4 address as it is, and the first 64 bits of an IPv6
/// address.
///
/// A customer of an internet provider has at least a /64 network, and so 2^64 addresses, any of which it can use for
/// the next connection. An IPv4 address inside of an IPv6 address is an IPv4 address.
#[must_use]
pub fn subnet(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn layer(make: fn([IpNet; 2]) -> ClientAddressLayer) -> ClientAddressLayer {
        make(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()))
    }

    fn client(peer: &str, lines: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        layer(ClientAddressLayer::x_forwarded_for).client(ip(peer), &headers)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.7, 10.0.0.2"]), ip("192.0.2.7"));
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "192.0.2.7", "10.0.0.3, 10.0.0.2"]), ip("192.0.2.7"));
        assert_eq!(client("fd00::1", &["2001:db8::1, ::ffff:10.0.0.2"]), ip("2001:db8::1"));
    }

    #[test]
    fn without_the_header_the_client_is_the_proxy() {
        assert_eq!(client("10.0.0.1", &[]), ip("10.0.0.1"));
    }

    #[test]
    fn a_list_of_trusted_proxies_alone_gives_the_first_of_them() {
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), ip("10.0.0.3"));
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_walk_at_the_proxy_that_wrote_it() {
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown, 10.0.0.2"]), ip("10.0.0.2"));
        assert_eq!(client("10.0.0.1", &["192.0.2.7", ""]), ip("10.0.0.1"));
        assert_eq!(client("10.0.0.1", &["192.0.2.7", "\u{fc}"]), ip("10.0.0.1"));
    }

    #[test]
    fn only_the_chosen_header_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        headers.insert(FORWARDED, "for=192.0.2.2;proto=https".parse().unwrap());
        let proxy = ip("10.0.0.1");
        assert_eq!(layer(ClientAddressLayer::x_forwarded_for).client(proxy, &headers), ip("192.0.2.1"));
        assert_eq!(layer(ClientAddressLayer::forwarded).client(proxy, &headers), ip("192.0.2.2"));
    }

    /// Records the extensions of its request.
    async fn seen(peer: Option<SocketAddr>, forwarded: &str) -> (Option<SocketAddr>, Option<IpAddr>) {
        let service = tower::service_fn(async |request: Request<()>| {
            let extensions = request.extensions();
            Ok::<_, crate::Error>((extensions.get().copied(), extensions.get().copied()))
        });
        let mut request = Request::get("/").header("x-forwarded-for", forwarded).body(()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        tower::ServiceExt::oneshot(layer(ClientAddressLayer::x_forwarded_for).layer(service), request).await.unwrap()
    }

    #[tokio::test]
    async fn the_address_of_the_client_replaces_that_of_the_proxy() {
        let proxy = SocketAddr::from(([10, 0, 0, 1], 4711));
        assert_eq!(seen(Some(proxy), "192.0.2.7").await, (None, Some(ip("192.0.2.7"))));
    }

    #[tokio::test]
    async fn a_client_that_is_no_proxy_cannot_choose_its_address() {
        let stranger = SocketAddr::from(([192, 0, 2, 9], 4711));
        assert_eq!(seen(Some(stranger), "127.0.0.1").await, (Some(stranger), None));
        assert_eq!(seen(None, "127.0.0.1").await, (None, None));
    }

    #[test]
    fn a_key_is_an_ipv4_address_or_half_of_an_ipv6_address() {
        assert_eq!(subnet(ip("192.0.2.7")), ip("192.0.2.7"));
        assert_eq!(subnet(ip("::ffff:192.0.2.7")), ip("192.0.2.7"));
        assert_eq!(subnet(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }
}
