//! Messages in the streams of a session.

use futures_util::{SinkExt, StreamExt};
use tower_transport::Message;

use crate::support::streams;

#[tokio::test]
async fn messages_of_every_size_cross_both_ways() {
    let (mut client, mut server) = streams().await;
    let echo = tokio::spawn(async move {
        while let Some(message) = server.next().await {
            let message = message.unwrap();
            if message.is_data() {
                server.send(message).await.unwrap();
            }
        }
    });
    for size in [0usize, 1, 63, 64, 1024, 1025, 16_383, 16_384, 1 << 20, 4 << 20] {
        let message = Message::binary((0..size).map(|i| i as u8).collect::<Vec<u8>>());
        let (mut sink, mut stream) = (&mut client).split();
        let (_, got) = tokio::join!(async { sink.send(message.clone()).await.unwrap() }, stream.next());
        assert!(got.unwrap().unwrap() == message, "{size}");
    }
    client.close(None).await.unwrap();
    echo.await.unwrap();
}
