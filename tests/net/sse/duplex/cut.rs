//! The server's end of a session whose client is gone, or reads nothing: no sink waits forever, and the place is free
//! again.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{Limits, Message, TransportExt};

use super::{
    called::{next_frame, server, whole},
    pair_with, within,
};

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_and_hangs_up_at_once_leaves_no_sink_waiting_and_no_session() {
    let mut server = server(Limits::new());
    let (stream, token, mut session) = server.open().await;
    assert_eq!(server.post(&token, 0, whole(&b"\x04\x00"[..])).await, (204, Some(1)));
    drop(stream);
    assert_eq!(session.next().await.unwrap().unwrap(), Message::Close(None));
    assert!(within(session.flush()).await.unwrap_err().is_closed(), "the answer cannot be sent");
    assert!(within(session.next()).await.is_none());
    within(SinkExt::close(&mut session)).await.unwrap();
    drop(session);
    assert_eq!(server.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pong_behind_a_close_is_passed_over() {
    let mut server = server(Limits::new());
    let (_stream, token, mut session) = server.open().await;
    assert_eq!(server.post(&token, 0, whole(&b"\x04\x00\x03\x00"[..])).await, (204, Some(2)));
    assert_eq!(server.post(&token, 2, whole(&b"\x00\x01a"[..])).await.0, 404, "a message is not");
    assert_eq!(session.next().await.unwrap().unwrap(), Message::Close(None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_up_a_close_no_longer_than_the_limit_and_its_place_neither() {
    let mut server = server(Limits::new());
    let (mut stream, token, mut session) = server.open().await;
    session.feed(Message::text("x")).await.unwrap();
    assert!(session.close(None).await.unwrap_err().is_timeout());
    assert!(within(session.flush()).await.unwrap_err().is_closed());
    within(SinkExt::close(&mut session)).await.unwrap();
    drop(session);
    assert_eq!(server.count(), 1, "it may still read");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(server.count(), 0);
    assert_eq!(server.post(&token, 0, whole("")).await.0, 404);
    assert_eq!(next_frame(&mut stream).await, None, "nothing is kept for it");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_gone_leaves_its_client_the_same_time() {
    let mut server = server(Limits::new());
    let (mut stream, _token, mut session) = server.open().await;
    session.feed(Message::text("x")).await.unwrap();
    drop(session);
    assert_eq!(next_frame(&mut stream).await.unwrap(), "data: x\n\n");
    assert_eq!((next_frame(&mut stream).await, server.count()), (None, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.count(), 0, "though the stream is not dropped");
}

#[tokio::test(start_paused = true)]
async fn the_sink_alone_gives_a_close_up_after_the_limit() {
    let mut server = server(Limits::new());
    let (_stream, _token, mut session) = server.open().await;
    assert!(SinkExt::close(&mut session).await.unwrap_err().is_timeout());
    assert!(within(session.flush()).await.unwrap_err().is_timeout(), "and says so again");
}

#[tokio::test]
async fn a_clients_sink_alone_gives_a_close_up_too() {
    let limits = Limits::new().close(Duration::from_millis(50)).write_buffer(8);
    let (mut client, _server) = pair_with(limits).await;
    // The handler reads nothing: its inbox is full.
    client.send_message(Message::text("12345678")).await.unwrap();
    let error = within(SinkExt::close(&mut client)).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("Limits::close"), "{error:?}");
}
