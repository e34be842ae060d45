//! From a host to a QUIC connection: the name, the addresses, the handshake.

use std::{
    future::{Future, pending},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use quinn::{ClientConfig, Connection};
use tokio::net::{UdpSocket, lookup_host};

use super::endpoints::Endpoints;
use crate::{Error, rt, transport::webtransport::fault};

/// How long the next address waits for the one before it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send + 'a>>;

pub(super) async fn dial(
    endpoints: &Endpoints,
    config: &ClientConfig,
    host: &str,
    port: u16,
) -> Result<Connection, Error> {
    let fail = |error| Error::dns(format!("the name `{host}` did not resolve")).with_source(error);
    let found = lookup_host((host, port)).await.map_err(fail)?.collect::<Vec<_>>();
    let mut addresses = alternate(found).into_iter();
    let mut attempts = FuturesUnordered::<Attempt<'_>>::new();
    let mut failed = None;
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(Box::pin(attempt(endpoints, config, address, host)));
        }
        let turn = pin!(async {
            match addresses.len() {
                0 => pending().await,
                _ => rt::sleep(STAGGER).await,
            }
        });
        let done = match select(attempts.next(), turn).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => continue,
        };
        match done {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(error)) => failed = Some(worse(failed, error)),
            None => {
                return Err(failed.unwrap_or_else(|| Error::dns(format!("the name `{host}` has no address"))));
            }
        }
    }
}

/// Of two failures the one that says more: that a family is not there, or that nobody listens, says the least.
fn worse(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if error.is_refused() => before,
        _ => error,
    }
}

/// The families by turns, the resolver's order kept in each (RFC 8305, section 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second) = addresses.into_iter().partition::<Vec<_>, _>(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            turns.truncate(MAX_ADDRESSES);
            return turns;
        }
    }
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

/// Waits for the host's word that nobody listens. The socket of QUIC is not connected to one address, and is not told: an empty
/// datagram from one that is asks the same question. A server of QUIC passes it over (RFC 9000, section 5.2.2).
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
        // Nothing was learnt: QUIC will see.
        _ => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns_and_the_resolvers_first_goes_first() {
        let parse = |addresses: &[&str]| addresses.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(alternate(found), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]));
        let found = parse(&["1.1.1.1:1", "[::1]:1"]);
        assert_eq!(alternate(found.clone()), found);
        assert!(alternate(Vec::new()).is_empty());
        assert_eq!(alternate(vec!["1.1.1.1:1".parse().unwrap(); 100]).len(), MAX_ADDRESSES);
    }

    #[test]
    fn of_several_failures_the_one_that_says_the_most_is_given() {
        let worse = |a: Error, b: Error| worse(Some(a), b);
        assert!(worse(Error::tls(""), Error::refused("")).is_tls());
        assert!(worse(Error::refused(""), Error::tls("")).is_tls());
        assert!(worse(Error::refused(""), Error::refused("")).is_refused());
    }
}
