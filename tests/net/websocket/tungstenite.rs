//! A `WebSocketStream` of tokio-tungstenite as a transport, over a real socket.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use support::within;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{
        self,
        protocol::{CloseFrame as TheirFrame, Role, WebSocketConfig, frame::coding::CloseCode as TheirCode},
    },
};
use tower_transport::{
    CloseCode, CloseFrame, Message, QueueConfig, ServiceBuilderExt, Transport, TransportExt,
    codec::JsonCodec,
    layer::heartbeat::HeartbeatLayer,
    transport::websocket::{TungsteniteTransport, WebSocketConnector},
};

type Theirs = WebSocketStream<TcpStream>;

async fn pair() -> (Theirs, Theirs) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        client_async(format!("ws://{address}/"), tcp).await.unwrap().0
    };
    let server = async { accept_async(listener.accept().await.unwrap().0).await.unwrap() };
    tokio::join!(client, server)
}

fn is_transport<T: Transport<Message, In = Message> + Send + Unpin>(transport: T) -> T {
    transport
}

#[tokio::test]
async fn messages_of_every_kind_cross_both_ways() {
    let (near, far) = pair().await;
    let mut near = is_transport(TungsteniteTransport::from(near));
    let mut far = is_transport(TungsteniteTransport::new(far));
    for message in [
        Message::text("hello \u{2713}"),
        Message::binary(vec![7; 1 << 20]),
        Message::text(""),
        Message::Pong("p".into()),
    ] {
        for _ in 0..2 {
            let (sent, came) = within(async { tokio::join!(near.send(message.clone()), far.next()) }).await;
            sent.unwrap();
            assert!(came.unwrap().unwrap() == message);
            std::mem::swap(&mut near, &mut far);
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_though_nobody_flushes() {
    let (near, mut far) = pair().await;
    let mut near = TungsteniteTransport::from(near);
    far.send(tungstenite::Message::Ping("p".into())).await.unwrap();
    assert_eq!(within(near.next()).await.unwrap().unwrap(), Message::Ping("p".into()));
    assert!(near.next().now_or_never().is_none());
    assert_eq!(within(far.next()).await.unwrap().unwrap(), tungstenite::Message::Pong("p".into()));
}

#[tokio::test]
async fn close_codes_cross_both_ways() {
    let frame = CloseFrame::new(CloseCode::new(4001).unwrap(), "enough");
    let theirs = TheirFrame { code: TheirCode::from(4001), reason: "enough".into() };
    let (near, mut far) = pair().await;
    let mut near = TungsteniteTransport::from(near);
    let (closed, told) = within(async {
        tokio::join!(near.close(Some(frame.clone())), async {
            let told = far.next().await.unwrap().unwrap();
            assert!(far.next().await.is_none());
            told
        })
    })
    .await;
    assert_eq!((closed.unwrap(), told), (Some(frame.clone()), tungstenite::Message::Close(Some(theirs.clone()))));

    let (near, mut far) = pair().await;
    let mut near = TungsteniteTransport::from(near);
    far.close(Some(theirs.clone())).await.unwrap();
    assert_eq!(within(near.next()).await.unwrap().unwrap(), Message::Close(Some(frame.clone())));
    assert!(within(near.next()).await.is_none());
    assert_eq!(near.close_frame(), Some(&frame));
    let error = near.send(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed() && error.close_frame() == Some(&frame), "{error:?}");
    assert_eq!(within(far.next()).await.unwrap().unwrap(), tungstenite::Message::Close(Some(theirs)));
    assert!(within(far.next()).await.is_none());
}

#[tokio::test]
async fn the_other_end_may_be_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let stream = accept_async(listener.accept().await.unwrap().0).await.unwrap();
        support::echo(TungsteniteTransport::from(stream)).await;
    });
    let mut ours = within(WebSocketConnector::new().connect(&format!("ws://{address}/"))).await.unwrap();
    ours.send(Message::text("hello")).await.unwrap();
    assert_eq!(within(ours.next()).await.unwrap().unwrap(), Message::text("hello"));
    let frame = CloseFrame::new(CloseCode::NORMAL, "bye");
    assert_eq!(within(ours.close(Some(frame.clone()))).await.unwrap(), Some(frame));
}

#[tokio::test]
async fn a_peer_that_vanishes_is_an_error_and_one_that_breaks_a_limit_is_told() {
    let (near, far) = pair().await;
    let mut near = TungsteniteTransport::from(near);
    drop(far);
    let error = within(near.next()).await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_none(), "{error:?}");
    assert!(within(near.next()).await.is_none());

    let (mut near, mut far) = pair().await;
    let config = WebSocketConfig::default().max_message_size(Some(1000));
    near = WebSocketStream::from_raw_socket(near.into_inner(), Role::Client, Some(config)).await;
    let mut near = TungsteniteTransport::from(near);
    far.send(tungstenite::Message::Binary(vec![0; 1001].into())).await.unwrap();
    let error = within(near.next()).await.unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("max_message_size"), "{error:?}");
    match within(far.next()).await.unwrap().unwrap() {
        tungstenite::Message::Close(Some(frame)) => assert_eq!(frame.code, TheirCode::Size),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_error_is_an_error_and_a_large_ping_is_refused() {
    let (near, far) = pair().await;
    let mut near = TungsteniteTransport::from(near);
    let error = near.send(Message::Ping(vec![0; 126].into())).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    near.send(Message::text("goes on")).await.unwrap();
    drop(far);
    while within(near.next()).await.is_some() {}
    for _ in 0..3 {
        assert!(near.send(Message::text("late")).await.unwrap_err().is_closed());
    }
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_close_ends_after_the_time() {
    let (near, _far) = pair().await;
    let mut near = TungsteniteTransport::new(near).close_within(Duration::from_millis(50));
    assert!(within(near.close(None)).await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_full_write_buffer_of_theirs_is_an_error_of_one_message() {
    let (near, mut far) = pair().await;
    let config = WebSocketConfig::default().write_buffer_size(0).max_write_buffer_size(2 << 20);
    let near = WebSocketStream::from_raw_socket(near.into_inner(), Role::Client, Some(config)).await;
    let mut near = TungsteniteTransport::from(near);
    let mut sent = 0;
    // `start_send` without waiting for room, as far as the buffer goes.
    let error = loop {
        match near.start_send_unpin(Message::binary(vec![0; 1 << 20])) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100);
    };
    assert!(error.is_full() && error.is_rejection(), "{error:?}");
    let (flushed, received) = within(async {
        tokio::join!(near.flush(), async {
            for _ in 0..sent {
                far.next().await.unwrap().unwrap();
            }
        })
    })
    .await;
    assert_eq!((flushed.unwrap(), received), ((), ()));
}

#[tokio::test]
async fn the_layers_go_on_top_of_it() {
    let (near, far) = pair().await;
    let stack = |stream: Theirs| {
        tower::ServiceBuilder::new()
            .codec(JsonCodec::<String>::new())
            .layer(HeartbeatLayer::new(Duration::from_secs(20), Duration::from_secs(20)))
            .service(TungsteniteTransport::from(stream))
    };
    let (sender, _receiver, driver) = stack(near).drive(QueueConfig::values()).into_parts();
    tokio::spawn(driver);
    let mut far = stack(far);
    sender.send("hello".to_owned()).await.unwrap();
    assert_eq!(within(far.receive_message()).await.unwrap().unwrap(), "hello");
}
