//! The native WebSocket, both ends.

mod accept;
mod close;
mod connect;
mod control;
mod deflate;
mod differential;
mod http2;
mod http2_client;
mod senders;
mod slow;
mod tungstenite;
mod upgrade;

use futures_util::{SinkExt, StreamExt};
use tower_transport::transport::websocket::WebSocket;
use tower_transport::{CloseCode, CloseFrame, Limits, Message};

#[tokio::test]
async fn messages_of_every_size_cross_both_ways() {
    let (a, b) = tokio::io::duplex(10_000);
    let mut client = WebSocket::client(a, Limits::default());
    let mut server = WebSocket::server(b, Limits::default());
    let task = tokio::spawn(async move {
        while let Some(m) = server.next().await {
            let m = m.unwrap();
            if m.is_data() {
                server.send(m).await.unwrap();
            }
        }
        server
    });
    for n in [0usize, 1, 125, 126, 65535, 65536, 1 << 20, (1 << 20) + 1, 4 << 20] {
        let m = Message::binary((0..n).map(|i| i as u8).collect::<Vec<u8>>());
        let (mut s, mut r) = (&mut client).split();
        let (_, got) = tokio::join!(async { s.send(m.clone()).await.unwrap() }, r.next());
        assert!(got.unwrap().unwrap() == m, "{n}");
    }
    let f = client.close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))).await.unwrap();
    assert_eq!(f.unwrap().reason(), "bye");
    let server = task.await.unwrap();
    assert_eq!(server.close_frame().unwrap().reason(), "bye");
}
