//! The PROXY protocol: how a proxy of TCP tells the client's address.
//!
//! HAProxy, nginx (`proxy_protocol on`), Envoy and network load balancers write a short header in front of a
//! connection's own bytes, [versions 1 and 2](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//! [`accept_proxied`] reads it. Put the address into the extensions of the connection's requests, where this crate
//! looks for it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use http::Request;
//! use hyper::body::Incoming;
//! use hyper_util::rt::{TokioIo, TokioTimer};
//! use tokio::{net::TcpListener, time::timeout};
//! use tower::ServiceExt;
//! use tower_transport::{
//!     TransportExt,
//!     handshake::proxy_protocol::accept_proxied,
//!     transport::{accept, websocket::WebSocketService},
//! };
//!
//! # async fn serve() -> Result<(), tower_transport::BoxError> {
//! let service = WebSocketService::new(|mut socket, _parts| async move {
//!     while let Some(Ok(message)) = socket.receive_message().await {
//!         println!("{message:?}");
//!     }
//! });
//! let listener = TcpListener::bind("10.0.0.5:3000").await?; // where only the proxy can connect
//! loop {
//!     let (mut tcp, proxy) = accept(|| listener.accept()).await;
//!     let service = service.clone();
//!     tokio::spawn(async move {
//!         let client = match timeout(Duration::from_secs(5), accept_proxied(&mut tcp)).await {
//!             Ok(Ok(client)) => client.unwrap_or(proxy),
//!             Ok(Err(error)) => return eprintln!("{proxy}: {error}"),
//!             Err(_) => return, // nothing came
//!         };
//!         let service = service.map_request(move |mut request: Request<Incoming>| {
//!             request.extensions_mut().insert(client);
//!             request
//!         });
//!         let service = hyper_util::service::TowerToHyperService::new(service);
//!         let mut server = hyper::server::conn::http1::Builder::new();
//!         let connection = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
//!         let _ = connection.with_upgrades().await;
//!     });
//! }
//! # }
//! ```

use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Error;

/// The length of the beginning that tells the version, in bytes. No header is shorter.
const BEGINNING: usize = 12;
/// The length of the fixed part of a header of version 2, in bytes.
const FIXED: usize = 16;
/// The maximum length of a header of version 1, in bytes, with its line end.
const MAX_V1: usize = 107;
/// The maximum length of a header of version 2 that is read, in bytes. One with addresses and a few fields has less
/// than 536, the minimum that the protocol asks of receivers.
const MAX_V2: usize = 4096;

/// Reads the header of the PROXY protocol from the start of a connection, and returns the client's address.
///
/// Returns `None` if the proxy speaks for itself (a health check: `LOCAL`, `UNKNOWN`) or for a client without an IP
/// address. Not one byte behind the header is read: hand the connection on as it is.
///
/// **A header is what the connection's peer says.** Use this only on a listener that clients cannot reach around the
/// proxy.
///
/// # Errors
///
/// Returns an error for which [`is_protocol`](Error::is_protocol) is true if the connection does not begin with a
/// header that is valid and at most 4 KiB long, and the error of the stream if it fails or ends before. The connection
/// cannot be used then.
///
/// # Cancel safety
///
/// Not cancel safe: what was read of the header is lost. There is no limit in time. Put a timeout around it, and drop
/// the connection when it runs out.
pub async fn accept_proxied(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Error> {
    let mut header = vec![0; BEGINNING];
    stream.read_exact(&mut header).await?;
    if header == *v2::PROTOCOL_PREFIX {
        header.resize(FIXED, 0);
        stream.read_exact(&mut header[BEGINNING..]).await?;
        let length = FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > MAX_V2 {
            return Err(Error::protocol(format!("a PROXY header of {length} bytes; at most {MAX_V2} are read")));
        }
        header.resize(length, 0);
        stream.read_exact(&mut header[FIXED..]).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        // Its length is not known, and no byte behind it must be taken from the stream.
        while !header.ends_with(b"\r\n") && header.len() < MAX_V1 {
            header.push(stream.read_u8().await?);
        }
    }
    let refused = |error: &dyn std::fmt::Display| {
        Err(Error::protocol(format!(
            "the connection does not begin with a header of the PROXY protocol ({error}): \
             does the proxy send one, and can clients connect around it?"
        )))
    };
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
        HeaderResult::V1(Err(error)) => refused(&error),
        HeaderResult::V2(Err(error)) => refused(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (Result<Option<SocketAddr>, Error>, Vec<u8>) {
        let mut stream = bytes;
        let result = accept_proxied(&mut stream).await;
        (result, stream.to_vec())
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        header.extend(addresses);
        header
    }

    #[tokio::test]
    async fn both_versions_give_the_client_and_leave_what_follows() {
        let mut v4 = v2(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80]);
        // A field behind the addresses (a connection id), which is skipped.
        v4[15] += 5;
        v4.extend([0x05, 0, 2, 1, 2]);
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x12, 0x67, 0, 80]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), Some("192.0.2.7:4711")),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), Some("[2001:db8::7]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
            (v4, Some("192.0.2.7:4711")),
            (v2(1, 0x21, &v6), Some("[2001:db8::7]:4711")),
            (v2(0, 0, &[]), None),
            (v2(0, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80]), None),
            (v2(1, 0, &[]), None),
        ] {
            let (result, rest) = read(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(result.unwrap(), client.map(|client| client.parse().unwrap()), "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error_of_the_protocol() {
        let too_long = [&v2(1, 0x11, &[])[..14], &[0xff, 0xff]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 nobody 4711 80\r\n".to_vec(),
            [b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
            v2(1, 0x11, &[1, 2, 3]),
            v2(7, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80]),
            too_long,
        ] {
            let error = read(&bytes).await.0.unwrap_err();
            assert!(error.is_protocol(), "{bytes:?}: {error}");
        }
    }

    #[tokio::test]
    async fn every_truncation_is_the_end_of_the_stream() {
        let v2 = v2(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80]);
        for header in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"[..], &v2] {
            for length in 0..header.len() {
                assert!(read(&header[..length]).await.0.unwrap_err().is_closed(), "{length}");
            }
        }
    }
}
