use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::{Mutex, PoisonError},
};

use futures_util::future::{Either, select};
use quinn::{ClientConfig, ConnectError, Connecting, Connection, Endpoint};
use tokio::net::UdpSocket;

use crate::{
    Error,
    transport::{race, target::Target, webtransport::error},
};

/// The UDP sockets of a connector: one per address family, because a host may have only one of the two.
#[derive(Default)]
pub(super) struct Endpoints {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

impl Endpoints {
    fn connect(&self, config: &ClientConfig, to: SocketAddr, host: &str) -> Result<Connecting, Error> {
        let (slot, from) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = slot.as_ref() {
            match endpoint.connect_with(config.clone(), to, host) {
                // The runtime that it belonged to is gone.
                Err(ConnectError::EndpointStopping) => {}
                result => return result.map_err(unfit),
            }
        }
        let endpoint = Endpoint::client(from)?;
        let connecting = endpoint.connect_with(config.clone(), to, host).map_err(unfit)?;
        *slot = Some(endpoint);
        Ok(connecting)
    }

    /// Resolves the name and connects. All its addresses race.
    pub(super) async fn dial(&self, config: &ClientConfig, target: &Target) -> Result<Connection, Error> {
        race::connect(&target.dialled_host(), target.port, |address| self.attempt(config, address, &target.host)).await
    }

    async fn attempt(&self, config: &ClientConfig, address: SocketAddr, host: &str) -> Result<Connection, Error> {
        let connecting = self.connect(config, address, host)?;
        match select(pin!(connecting), pin!(refusal(address))).await {
            Either::Left((connection, _)) => connection.map_err(error::handshake),
            Either::Right((error, _)) => Err(error),
        }
    }
}

fn unfit(error: ConnectError) -> Error {
    match &error {
        ConnectError::InvalidServerName(name) => {
            Error::config(format!("`{}` is not a valid name for a certificate", name.escape_debug()))
        }
        ConnectError::InvalidRemoteAddress(address) => Error::config(format!("{address} cannot be connected to")),
        _ => Error::other("the UDP socket accepts no more connections"),
    }
    .with_source(error)
}

#[cfg(all(test, feature = "dev-certificate"))]
mod tests {
    use std::sync::Arc;

    use futures_util::{SinkExt, StreamExt};
    use http::Request;

    use crate::{
        Message,
        transport::webtransport::{Certificate, SessionLimits, WebTransportConnector, WebTransportServer},
    };

    #[test]
    fn whatever_is_set_on_a_clone_it_shares_the_sockets() {
        let connector = WebTransportConnector::new();
        let hashes = connector.clone().certificate_hashes([]).session_limits(SessionLimits::one_stream());
        assert!(Arc::ptr_eq(&connector.endpoints, &hashes.endpoints));
        assert!(!Arc::ptr_eq(&connector.quic, &hashes.quic), "and not what it trusts");
    }

    #[tokio::test]
    async fn a_session_goes_on_over_another_socket_and_loses_nothing() {
        const MESSAGES: usize = 600;

        let certificate = Certificate::development(&[]).unwrap();
        let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
        let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let request = Request::get(format!("https://{}/", server.local_addr().unwrap())).body(()).unwrap();
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let (client, server) = tokio::join!(connector.connect_session(request), accept);
        let client = client.unwrap().into_body();
        let (out, incoming) = tokio::join!(client.open(), server.accept());
        let (mut out, mut incoming) = (out.unwrap(), incoming.unwrap());

        let send = async {
            for number in 0..MESSAGES {
                if number % 200 == 199 {
                    let endpoint = connector.endpoints.v4.lock().unwrap().clone().unwrap();
                    endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
                }
                out.send(Message::binary(vec![number as u8; 5_000])).await.unwrap();
            }
        };
        let receive = async {
            let mut ports = std::collections::HashSet::new();
            for number in 0..MESSAGES {
                let message = incoming.next().await.unwrap().unwrap();
                assert_eq!(message, Message::binary(vec![number as u8; 5_000]));
                ports.insert(server.remote_address().port());
            }
            ports
        };
        let ((), ports) = tokio::join!(send, receive);
        assert!(ports.len() > 1, "the server saw no move: {ports:?}");
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
