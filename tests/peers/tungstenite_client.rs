//! tokio-tungstenite as the client of our server.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Message,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

use crate::{LIMIT, our_server::OurServer, within};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(server: &OurServer, path: &str) -> Client {
    connect_async(format!("{}{path}", server.base)).await.unwrap().0
}

#[tokio::test]
async fn is_echoed_from_empty_to_limit_sized() {
    within(async {
        let mut server = OurServer::start().await;
        let mut client = connect(&server, "/echo").await;
        let texts = ["", "a", "h\u{e9}llo \u{2713} \u{1d11e}", &"x".repeat(LIMIT)].map(Message::text);
        let bytes = [0, 1, 125, 126, 65_535, 65_536, LIMIT].map(|size| Message::binary(vec![3; size]));
        for message in texts.into_iter().chain(bytes) {
            client.send(message.clone()).await.unwrap();
            assert!(client.next().await.unwrap().unwrap() == message, "{} bytes", message.len());
        }
        client.close(None).await.unwrap();
        assert!(client.next().await.unwrap().unwrap().is_close());
        assert_eq!(server.end().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn may_send_in_fragments_with_pings_between() {
    within(async {
        let server = OurServer::start().await;
        let mut client = connect(&server, "/echo").await;
        // The sign is cut in the middle of a character.
        let parts: [(&[u8], Data); 4] =
            [(b"h\xc3", Data::Text), (b"\xa9", Data::Continue), (b"", Data::Continue), (b"!", Data::Continue)];
        for (i, (part, kind)) in parts.into_iter().enumerate() {
            let frame = Frame::message(part.to_vec(), OpCode::Data(kind), i == 3);
            client.send(Message::Frame(frame)).await.unwrap();
            client.send(Message::Ping(vec![i as u8].into())).await.unwrap();
            // The last pong comes before or after the echo.
            if i < 3 {
                assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(vec![i as u8].into()));
            }
        }
        let last = [client.next().await.unwrap().unwrap(), client.next().await.unwrap().unwrap()];
        assert!(last.contains(&Message::text("h\u{e9}!")) && last.contains(&Message::Pong(vec![3].into())), "{last:?}");
    })
    .await;
}

#[tokio::test]
async fn is_told_1009_for_what_is_over_the_limit() {
    within(async {
        let mut server = OurServer::start().await;
        let mut client = connect(&server, "/echo").await;
        client.send(Message::binary(vec![0; LIMIT + 1])).await.unwrap();
        match client.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1009),
            message => panic!("{message}"),
        }
        drop(client);
        assert!(server.end().await.unwrap_err().is_too_large());
    })
    .await;
}

#[tokio::test]
async fn learns_why_the_server_closed() {
    within(async {
        let mut server = OurServer::start().await;
        let mut client = connect(&server, "/close").await;
        let frame = CloseFrame { code: 4001.into(), reason: "enough".into() };
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(Some(frame)));
        assert!(client.next().await.is_none());
        assert_eq!(server.end().await.unwrap().unwrap().code().get(), 4001);
    })
    .await;
}

#[tokio::test]
async fn tells_the_server_why_it_closes() {
    within(async {
        let mut server = OurServer::start().await;
        let mut client = connect(&server, "/echo").await;
        client.close(Some(CloseFrame { code: 4002.into(), reason: "that is all".into() })).await.unwrap();
        while let Some(Ok(_)) = client.next().await {}
        assert_eq!(server.end().await.unwrap().unwrap().to_string(), "4002 \"that is all\"");
    })
    .await;
}
