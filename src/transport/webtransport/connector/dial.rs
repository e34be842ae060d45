//! From a host to a QUIC connection: name resolution, addresses, handshake.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
};

use futures_util::future::{Either, select};
use quinn::{ClientConfig, Connection};
use tokio::net::UdpSocket;

use super::endpoints::Endpoints;
use crate::{
    Error,
    transport::{race, target::Target, webtransport::fault},
};

pub(super) async fn dial(endpoints: &Endpoints, config: &ClientConfig, target: &Target) -> Result<Connection, Error> {
    race::connect(&target.dialled_host(), target.port, |address| attempt(endpoints, config, address, &target.host))
        .await
}

async fn attempt(
    endpoints: &Endpoints,
    config: &ClientConfig,
    address: SocketAddr,
    host: &str,
) -> Result<Connection, Error> {
    let connecting = endpoints.connect(config, address, host)?;
    match select(pin!(connecting), pin!(refusal(address))).await {
        Either::Left((connection, _)) => connection.map_err(fault::handshake),
        Either::Right((error, _)) => Err(error),
    }
}

/// Waits until the host reports that the port is closed. QUIC's socket is not connected to one address, so it does not
/// receive such reports. An empty datagram from a connected socket triggers the same report. A QUIC server ignores it
/// (RFC 9000, section 5.2.2).
async fn refusal(address: SocketAddr) -> Error {
    let from: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asked = async {
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(address).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0]).await
    };
    match asked.await.map_err(Error::from) {
        Err(error) if error.is_refused() => error,
        // The result is inconclusive; the QUIC attempt decides.
        _ => pending().await,
    }
}
