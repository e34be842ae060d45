use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Weak},
};

use futures_util::future::{Either, select};
use quinn::{ClientConfig, ConnectError, Connecting, Connection, Endpoint};
use tokio::{
    net::UdpSocket,
    runtime::{Handle, Id},
};

use super::error;
use crate::{
    Error,
    sync::Mutex,
    transport::{race, target::Target},
};

/// The UDP sockets of the clients in one tokio runtime: one per address family, because a host may have only one of
/// the two. Connectors and sessions share them, because QUIC keeps a receive buffer of about 3 MB for each socket.
///
/// They are not shared across runtimes: a socket is driven by the runtime in which it was opened, and dies with it.
#[derive(Default)]
pub(super) struct Endpoints {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

/// The sockets of each runtime, as long as a connector or a session holds them.
static BY_RUNTIME: Mutex<Vec<(Id, Weak<Endpoints>)>> = Mutex::new(Vec::new());

impl Endpoints {
    /// Returns the sockets of the current runtime.
    pub(super) fn current() -> Result<Arc<Self>, Error> {
        let runtime = Handle::try_current()
            .map_err(|error| Error::other("WebTransport needs a tokio runtime").with_source(error))?
            .id();
        let mut all = BY_RUNTIME.lock();
        all.retain(|(_, endpoints)| endpoints.strong_count() > 0);
        if let Some(endpoints) = all.iter().find(|(id, _)| *id == runtime).and_then(|(_, found)| found.upgrade()) {
            return Ok(endpoints);
        }
        let endpoints = Arc::new(Self::default());
        all.push((runtime, Arc::downgrade(&endpoints)));
        Ok(endpoints)
    }

    fn connect(&self, config: &ClientConfig, to: SocketAddr, host: &str) -> Result<Connecting, Error> {
        let (slot, from) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        // Not under the lock: the TLS configuration may be the user's, and with it the store of TLS sessions.
        match open(slot, from, false)?.connect_with(config.clone(), to, host) {
            // The runtime that it belonged to is gone, and another one has its id.
            Err(ConnectError::EndpointStopping) => {
                open(slot, from, true)?.connect_with(config.clone(), to, host).map_err(unfit)
            }
            result => result.map_err(unfit),
        }
    }

    /// Changes the IPv4 address of this end, as a client does that moves to another network.
    #[cfg(all(test, feature = "dev-certificate"))]
    pub(super) fn move_to(&self, socket: std::net::UdpSocket) {
        let endpoint = self.v4.lock().clone();
        endpoint.unwrap().rebind(socket).unwrap();
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

/// Returns the socket in `slot`, or a new one if the slot is empty or its socket `is_stopping`.
fn open(slot: &Mutex<Option<Endpoint>>, from: SocketAddr, is_stopping: bool) -> Result<Endpoint, Error> {
    let mut slot = slot.lock();
    if let Some(endpoint) = slot.as_ref()
        && !is_stopping
    {
        return Ok(endpoint.clone());
    }
    let endpoint = Endpoint::client(from)?;
    let before = slot.replace(endpoint.clone());
    drop(slot);
    drop(before);
    Ok(endpoint)
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
