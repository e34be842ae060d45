//! Name resolution, TCP, the Unix socket and the proxy.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Uri, header};
use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiAddrs, GaiFuture, GaiResolver, Name},
};
use tower_service::Service;

use super::{Proxy, Socket, by_cause, exchange::exchange, target::Target};
use crate::Error;

/// A TCP stream to `target`, by way of the proxy if there is one. Addresses of both families race (RFC 8305).
pub(super) async fn tcp(target: &Target, proxy: Option<&Proxy>) -> Result<Socket, Error> {
    let dialled = proxy.map_or(target, |proxy| &proxy.target);
    let address = Uri::try_from(format!("http://{}/", dialled.host_and_port()))
        .map_err(|error| Error::config("the host is not one that can be dialled").with_source(error))?;
    let mut connector = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    connector.set_nodelay(true);
    let connecting = connector.call(address);
    let stream = connecting.await.map_err(|error| by_cause(error, "connecting failed"))?.into_inner();
    match proxy {
        None => Ok(stream.into()),
        Some(proxy) => tunnel(stream.into(), target, proxy).await,
    }
}

#[cfg(unix)]
pub(super) async fn unix(path: &std::path::Path) -> Result<Socket, Error> {
    Ok(tokio::net::UnixStream::connect(path).await?.into())
}

/// RFC 9110, section 9.3.6.
async fn tunnel(socket: Socket, target: &Target, proxy: &Proxy) -> Result<Socket, Error> {
    let authority = target.host_and_port();
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request
        .body(())
        .map_err(|error| Error::config("the host does not fit a CONNECT request").with_source(error))?;
    let (_, socket, early) =
        exchange(socket, request, |answer| answer.status().is_success()).await.map_err(|error| {
            let what = match error.status() {
                Some(_) => "the proxy refused to connect to the server",
                None => "the proxy failed",
            };
            error.context(what)
        })?;
    // In TLS and in HTTP/1.1 the client speaks first.
    if !early.is_empty() {
        return Err(Error::protocol("the proxy sent data before the server was spoken to"));
    }
    Ok(socket)
}

/// The operating system's resolver, whose failures are told apart from others.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        Resolving { host: name.to_string(), future: self.0.call(name) }
    }
}

struct Resolving {
    host: String,
    future: GaiFuture,
}

impl Future for Resolving {
    type Output = Result<GaiAddrs, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let resolved = ready!(Pin::new(&mut self.future).poll(cx));
        let fail = |error| Error::dns(format!("the name `{}` did not resolve", self.host)).with_source(error);
        Poll::Ready(resolved.map_err(fail))
    }
}
