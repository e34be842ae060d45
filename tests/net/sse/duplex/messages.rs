//! Any message arrives unchanged and in order.

use futures_util::{SinkExt, StreamExt, future::join};
use tower_transport::{Message, TransportExt};

use super::pair;

fn samples() -> Vec<Message> {
    let texts = [
        "",
        "a",
        " a",
        "a\nb\n",
        "\n",
        "a\rb",
        "\r\n",
        "\0",
        "\u{feff}x",
        "h\u{e9}llo \u{2713} \u{1d11e}",
        ": x\ndata: y\n\nid: 1\n",
    ];
    let sizes = [0, 1, 2, 3, 125, 126, 16_383, 16_384, 65_536, 1 << 20];
    let binaries = sizes.map(|size| Message::binary((0..size).map(|i| (i * 7) as u8).collect::<Vec<_>>()));
    let long = ["\n".repeat(10_000), "x".repeat(1 << 20)];
    texts.map(Message::text).into_iter().chain(binaries).chain(long.map(Message::text)).collect()
}

#[tokio::test]
async fn every_kind_of_text_and_binary_crosses_both_ways() {
    let (mut client, mut server) = pair().await;
    for message in samples() {
        let (sent, received) = join(client.send_message(message.clone()), server.next()).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "up: {} bytes", message.len());
        let (sent, received) = join(server.send_message(message.clone()), client.next()).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "down: {} bytes", message.len());
    }
}

#[tokio::test]
async fn order_holds_while_both_ends_write_and_read_at_once() {
    const MESSAGES: usize = 20_000;
    async fn talk(
        transport: impl tower_transport::Transport<Message, In = Message, TransportError = tower_transport::Error> + Unpin,
    ) {
        let (mut sink, mut stream) = StreamExt::split(transport);
        let write = async {
            for i in 0..MESSAGES {
                sink.feed(Message::text(i.to_string())).await.unwrap();
                if i % 97 == 0 {
                    sink.flush().await.unwrap();
                }
            }
            sink.flush().await.unwrap();
        };
        let read = async {
            for i in 0..MESSAGES {
                assert_eq!(stream.next().await.unwrap().unwrap(), Message::text(i.to_string()));
            }
        };
        join(write, read).await;
    }
    let (client, server) = pair().await;
    join(talk(client), talk(server)).await;
}
