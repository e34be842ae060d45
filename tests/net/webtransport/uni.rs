//! Unidirectional streams: send-only and receive-only, by type.

use std::convert::Infallible;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, Transport,
    transport::webtransport::{ReceiveStream, SendStream, SessionLimits},
};

use crate::webtransport::support::{sessions, sessions_with};

fn frame() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4001).unwrap(), "enough")
}

async fn pair() -> (SendStream, ReceiveStream) {
    let (client, server) = sessions().await;
    let (send, receive) = tokio::join!(client.open_uni(), server.accept_uni());
    (send.unwrap(), receive.unwrap())
}

#[test]
fn each_is_a_transport_of_one_direction() {
    fn sends<T: Transport<Message, In = Infallible, TransportError = Error>>() {}
    fn receives<T: Transport<Infallible, In = Message, TransportError = Error>>() {}
    sends::<SendStream>();
    receives::<ReceiveStream>();
}

#[tokio::test]
async fn messages_cross_and_the_close_says_why_and_is_acknowledged() {
    let (mut send, mut receive) = pair().await;
    let sending = async {
        for i in 0..1000 {
            send.send(Message::binary(vec![i as u8; i * 10])).await.unwrap();
        }
        send.close(Some(frame())).await.unwrap();
        assert!(send.next().await.is_none(), "all was acknowledged");
        assert!(send.send("late".into()).await.unwrap_err().is_closed());
    };
    let receiving = async {
        for i in 0..1000 {
            assert_eq!(receive.next().await.unwrap().unwrap(), Message::binary(vec![i as u8; i * 10]));
        }
        assert_eq!(receive.next().await.unwrap().unwrap(), Message::Close(Some(frame())));
        assert!(receive.next().await.is_none());
        assert_eq!(receive.close_frame(), Some(&frame()));
    };
    tokio::join!(sending, receiving);
}

#[tokio::test]
async fn both_ends_may_open_them() {
    let (client, server) = sessions().await;
    let (send, receive) = tokio::join!(server.open_uni(), client.accept_uni());
    let mut send = send.unwrap();
    send.send("from the server".into()).await.unwrap();
    assert_eq!(receive.unwrap().next().await.unwrap().unwrap(), "from the server".into());
}

#[tokio::test]
async fn a_reader_that_stops_is_seen_by_the_sender_with_its_code() {
    let (mut send, receive) = pair().await;
    receive.stop(CloseCode::POLICY);
    let error = send.next().await.unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::POLICY);
    assert!(send.next().await.is_none());
    assert!(send.send("late".into()).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_sender_that_resets_is_seen_by_the_reader_with_its_code() {
    let (send, mut receive) = pair().await;
    send.reset(CloseCode::INTERNAL);
    let error = receive.next().await.unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::INTERNAL);
    assert!(receive.next().await.is_none());
}

#[tokio::test]
async fn what_was_sent_before_a_close_arrives_though_everything_is_dropped_at_once() {
    let (mut send, mut receive) = pair().await;
    send.send(Message::binary(vec![7; 500_000])).await.unwrap();
    SinkExt::close(&mut send).await.unwrap();
    drop(send);
    assert_eq!(receive.next().await.unwrap().unwrap().len(), 500_000);
    assert!(receive.next().await.unwrap().unwrap().is_close());
    assert!(receive.next().await.is_none());
}

#[tokio::test]
async fn the_limit_of_a_message_holds_both_ways() {
    let (client, server) =
        sessions_with([Limits::new().message(100), Limits::new().message(10)], SessionLimits::default()).await;
    let (send, receive) = tokio::join!(client.open_uni(), server.accept_uni());
    let (mut send, mut receive) = (send.unwrap(), receive.unwrap());
    assert!(send.send(Message::binary(vec![0; 101])).await.unwrap_err().is_too_large());
    send.send(Message::binary(vec![0; 11])).await.unwrap();
    assert!(receive.next().await.unwrap().unwrap_err().is_too_large());
    assert_eq!(send.next().await.unwrap().unwrap_err().close_frame().unwrap().code(), CloseCode::TOO_BIG);
}
