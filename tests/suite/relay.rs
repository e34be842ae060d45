//! A relay of UDP datagrams in front of a QUIC server, in which connections die.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::net::UdpSocket;

/// The connection ID that a client gives itself, which all datagrams of its handshake name (RFC 9000, section 17.2).
fn source(datagram: &[u8]) -> Option<&[u8]> {
    let [first, _, _, _, _, length, rest @ ..] = datagram else { return None };
    if first & 0x80 == 0 {
        return None;
    }
    let (&length, rest) = rest.get(usize::from(*length)..)?.split_first()?;
    rest.get(..usize::from(length))
}

/// The client's address of a connection, and the connection ID that the client gave itself. The connections of quinn
/// share an address; those of Chromium have an address each, and an empty ID.
type Name = (SocketAddr, Vec<u8>);

/// The remaining budget of each connection of one client, and its current connection.
struct Connections<B> {
    budgets: B,
    left: HashMap<Name, usize>,
    current: Option<Name>,
    cuts: Arc<AtomicUsize>,
}

impl<B: Iterator<Item = usize>> Connections<B> {
    /// Whether a datagram passes.
    fn passes(&mut self) -> bool {
        match self.current.as_ref().and_then(|current| self.left.get_mut(current)) {
            None | Some(0) => false,
            Some(left) => {
                *left -= 1;
                self.cuts.fetch_add(usize::from(*left == 0), Relaxed);
                true
            }
        }
    }

    /// One of the client's.
    fn passes_from_client(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_current = match source(datagram) {
            Some(source) => {
                let name = (from, source.to_vec());
                if !self.left.contains_key(&name) {
                    self.left.insert(name.clone(), self.budgets.next().unwrap_or(usize::MAX));
                    self.current = Some(name.clone());
                }
                self.current == Some(name)
            }
            // After the handshake, only the address tells.
            None => self.client() == Some(from),
        };
        is_current && self.passes()
    }

    /// Returns the client's address of the current connection.
    fn client(&self) -> Option<SocketAddr> {
        self.current.as_ref().map(|(client, _)| *client)
    }
}

/// Relays datagrams between one client and `server`. Each connection goes silent, both ways, after its budget of
/// datagrams; connections after the last budget never do. `cuts` counts those that went silent.
pub async fn relay<B>(server: SocketAddr, budgets: B, cuts: Arc<AtomicUsize>) -> SocketAddr
where
    B: Iterator<Item = usize> + Send + 'static,
{
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (near, far) = (Arc::new(bind().await.unwrap()), Arc::new(bind().await.unwrap()));
    far.connect(server).await.unwrap();
    let address = near.local_addr().unwrap();
    let connections = Arc::new(Mutex::new(Connections { budgets, left: HashMap::new(), current: None, cuts }));
    let (back_connections, back_near, back_far) = (connections.clone(), near.clone(), far.clone());
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = near.recv_from(&mut datagram).await {
            // The connector's question whether anybody listens, from another port; nobody answers that.
            if length == 0 {
                continue;
            }
            let passes = connections.lock().unwrap().passes_from_client(from, &datagram[..length]);
            if passes {
                let _ = far.send(&datagram[..length]).await;
            }
        }
    });
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            // The server's port may be closed.
            let Ok(length) = back_far.recv(&mut datagram).await else { continue };
            let to = {
                let mut connections = back_connections.lock().unwrap();
                connections.client().filter(|_| connections.passes())
            };
            if let Some(to) = to {
                let _ = back_near.send_to(&datagram[..length], to).await;
            }
        }
    });
    address
}
