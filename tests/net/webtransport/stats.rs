//! The statistics of a session's connection.

use std::time::Duration;

use futures_util::SinkExt;
use tower_transport::{Message, TransportExt};

use crate::webtransport::support::sessions;

#[tokio::test]
async fn stats_follow_what_is_sent() {
    let (client, server) = sessions().await;
    let before = client.stats();
    assert!(before.rtt > Duration::ZERO && before.min_rtt <= before.rtt, "{before:?}");
    assert!(before.congestion_window >= 2 * 1200 && before.mtu >= 1200, "{before:?}");
    assert_eq!((before.datagrams_sent, before.path_challenges_sent), (0, 0));

    let (stream, accepted) = tokio::join!(client.open(), server.accept());
    let (mut stream, mut accepted) = (stream.unwrap(), accepted.unwrap());
    let send = async { stream.send(Message::binary(vec![7; 1 << 20])).await.unwrap() };
    let ((), received) = tokio::join!(send, accepted.receive_message());
    assert_eq!(received.unwrap().unwrap().len(), 1 << 20);
    let (mut out, mut incoming) = (client.datagrams(), server.datagrams());
    for _ in 0..3 {
        out.send_message(Message::text("now")).await.unwrap();
        incoming.receive_message().await.unwrap().unwrap();
    }

    let (sender, receiver) = (client.stats(), server.stats());
    assert!(sender.bytes_sent > before.bytes_sent + (1 << 20), "{sender:?}");
    assert!(receiver.bytes_received > 1 << 20, "{receiver:?}");
    // A message of a MiB is many packets, whatever the path carries.
    assert!(sender.packets_sent > before.packets_sent + 15, "{sender:?}");
    assert!(sender.udp_datagrams_sent >= receiver.udp_datagrams_received, "{sender:?} {receiver:?}");
    assert_eq!((sender.datagrams_sent, receiver.datagrams_received), (3, 3));
    assert!((0.0..0.5).contains(&sender.loss()), "{sender:?}");
}
