//! A relay of UDP datagrams in front of a QUIC server, in which connections die.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use tokio::net::UdpSocket;

use crate::transports::carrier::Cuts;

/// The connection ID that a client gives itself, which all datagrams of its handshake name (RFC 9000, section 17.2).
fn source(datagram: &[u8]) -> Option<&[u8]> {
    let [first, _, _, _, _, length, rest @ ..] = datagram else { return None };
    if first & 0x80 == 0 {
        return None;
    }
    let (&length, rest) = rest.get(usize::from(*length)..)?.split_first()?;
    rest.get(..usize::from(length))
}

/// The remaining budget of each connection of one client, and its current connection.
struct Connections {
    budgets: std::vec::IntoIter<usize>,
    left: HashMap<Vec<u8>, usize>,
    current: Vec<u8>,
    cuts: Cuts,
}

impl Connections {
    /// Whether a datagram passes.
    fn passes(&mut self) -> bool {
        match self.left.get_mut(&self.current) {
            None | Some(0) => false,
            Some(left) => {
                *left -= 1;
                self.cuts.fetch_add(usize::from(*left == 0), Relaxed);
                true
            }
        }
    }

    /// One of the client's.
    fn passes_from_client(&mut self, datagram: &[u8]) -> bool {
        match source(datagram) {
            Some(source) if !self.left.contains_key(source) => {
                self.left.insert(source.to_vec(), self.budgets.next().unwrap_or(usize::MAX));
                self.current = source.to_vec();
            }
            Some(source) if *source != self.current => return false,
            _ => {}
        }
        self.passes()
    }
}

/// Relays datagrams between one client and `server`. Each connection goes silent, both ways, after its budget of
/// datagrams; connections after the last budget never do.
pub(crate) async fn relay(server: SocketAddr, budgets: Vec<usize>) -> (SocketAddr, Cuts) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (near, far) = (Arc::new(bind().await.unwrap()), Arc::new(bind().await.unwrap()));
    far.connect(server).await.unwrap();
    let (address, cuts) = (near.local_addr().unwrap(), Cuts::default());
    let budgets = budgets.into_iter();
    let connections = Connections { budgets, left: HashMap::new(), current: Vec::new(), cuts: cuts.clone() };
    let client = Arc::new(Mutex::new((connections, None)));
    let (back_client, back_near, back_far) = (client.clone(), near.clone(), far.clone());
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = near.recv_from(&mut datagram).await {
            // The connector's question whether anybody listens, from another port; nobody answers that.
            if length == 0 {
                continue;
            }
            let passes = {
                let (connections, client) = &mut *client.lock().unwrap();
                *client = Some(from);
                connections.passes_from_client(&datagram[..length])
            };
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
                let (connections, client) = &mut *back_client.lock().unwrap();
                client.filter(|_| connections.passes())
            };
            if let Some(to) = to {
                let _ = back_near.send_to(&datagram[..length], to).await;
            }
        }
    });
    (address, cuts)
}
