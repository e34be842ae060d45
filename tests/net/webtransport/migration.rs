//! A client whose address changes under way, as behind a router that forgets: the connection moves with it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures_util::SinkExt;
use http::Request;
use tokio::{net::UdpSocket, sync::watch};
use tower_transport::{
    Message, TransportExt,
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer},
};

/// A router between a client and `server`: what the client sends leaves by a port of the router's, which is another one
/// after each change. Gives the address at which the client finds it.
async fn router(server: SocketAddr, mut changes: watch::Receiver<u32>) -> SocketAddr {
    let inside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let mut client = None;
        let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            // The old port is gone, with what was on its way back to it.
            let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            outside.connect(server).await.unwrap();
            loop {
                tokio::select! {
                    biased;
                    changed = changes.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    received = inside.recv_from(&mut out) => {
                        let (length, from) = received.unwrap();
                        client = Some(from);
                        let _ = outside.send(&out[..length]).await;
                    }
                    received = outside.recv(&mut back) => {
                        if let (Ok(length), Some(client)) = (received, client) {
                            let _ = inside.send_to(&back[..length], client).await;
                        }
                    }
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn a_session_follows_its_client_to_other_addresses_and_loses_nothing() {
    const MESSAGES: u32 = 600;
    const MOVES: u32 = 3;

    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let (moves, changes) = watch::channel(0);
    let router = router(server.local_addr().unwrap(), changes).await;

    let ours = async move {
        let session = server.accept().await.unwrap().accept().await.unwrap();
        let mut stream = session.accept().await.unwrap();
        let mut addresses = vec![session.remote_address()];
        for due in 0..MESSAGES {
            let message = stream.receive_message().await.unwrap().unwrap();
            assert_eq!(message, Message::text(due.to_string()), "in order, none lost");
            stream.send(message).await.unwrap();
            if session.remote_address() != addresses[addresses.len() - 1] {
                addresses.push(session.remote_address());
            }
        }
        // The client has read all before it closes.
        assert!(stream.receive_message().await.unwrap().unwrap().is_close());
        (addresses, session.stats())
    };
    let theirs = async move {
        let request = Request::get(format!("https://127.0.0.1:{}/", router.port())).body(()).unwrap();
        let mut stream = connector.connect_session(request).await.unwrap().into_body().open().await.unwrap();
        for number in 0..MESSAGES {
            if number % (MESSAGES / (MOVES + 1)) == 0 && number > 0 {
                moves.send_replace(number);
            }
            stream.send(Message::text(number.to_string())).await.unwrap();
            let echo = stream.receive_message().await.unwrap().unwrap();
            assert_eq!(echo, Message::text(number.to_string()));
        }
        stream.close(None).await.unwrap();
    };
    let both = async { tokio::join!(ours, theirs) };
    let ((addresses, stats), ()) =
        tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("it hangs");
    assert_eq!(addresses.len(), 1 + MOVES as usize, "{addresses:?}");
    assert!(stats.path_challenges_sent >= u64::from(MOVES), "{stats:?}");
}
