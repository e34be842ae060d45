//! Name resolution, TCP, the Unix socket and the proxy.

use std::net::SocketAddr;

use http::{Method, Request, Response, StatusCode, header};
use tokio::net::TcpStream;

use super::{Proxy, Socket, Target, exchange::exchange};
use crate::{Error, transport::race};

/// Opens a TCP stream to `target`, through the proxy if there is one. All addresses of the name race (RFC 8305).
pub(super) async fn tcp(target: &Target, proxy: Option<&Proxy>) -> Result<Socket, Error> {
    let dialled = proxy.map_or(target, |proxy| &proxy.target);
    let socket = Socket::dialled(race::connect(&dialled.dialled_host(), dialled.port, connect).await?);
    match proxy {
        None => Ok(socket),
        Some(proxy) => tunnel(socket, target, proxy).await,
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let fail = |error| Error::from(error).context(format!("connecting to {address} failed"));
    let stream = TcpStream::connect(address).await.map_err(fail)?;
    // Messages are small, and the layers above decide when to flush.
    stream.set_nodelay(true).map_err(fail)?;
    Ok(stream)
}

#[cfg(unix)]
pub(super) async fn unix(path: &std::path::Path) -> Result<Socket, Error> {
    Ok(tokio::net::UnixStream::connect(path).await?.into())
}

/// Opens a tunnel with CONNECT (RFC 9110, section 9.3.6).
async fn tunnel(socket: Socket, target: &Target, proxy: &Proxy) -> Result<Socket, Error> {
    let authority = target.host_and_port();
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request
        .body(())
        .map_err(|error| Error::config("the host is not valid in a CONNECT request").with_source(error))?;
    // hyper treats 204 as a response without a body before it considers the method, and provides no tunnel for it.
    let opens_tunnel = |answer: &Response<_>| answer.status().is_success() && answer.status() != StatusCode::NO_CONTENT;
    let (_, socket, early) = exchange(socket, request, opens_tunnel).await.map_err(|error| {
        let what = match error.status() {
            Some(StatusCode::NO_CONTENT) => "the proxy answered CONNECT with 204, which opens no tunnel",
            Some(_) => "the proxy refused to connect to the server",
            None => "the proxy failed",
        };
        error.context(what)
    })?;
    // In TLS and in HTTP/1.1 the client sends first.
    if !early.is_empty() {
        return Err(Error::protocol("the proxy sent data before the client did"));
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpSocket, time::timeout};

    use super::*;

    /// The silent address is a listener whose backlog is full: Linux drops further connection attempts.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_that_keeps_silent_does_not_keep_the_others_from_being_tried() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            kept.push(connected.unwrap());
        }
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![address, good.local_addr().unwrap()];
        let stream = race::race(addresses, connect).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
    }
}
