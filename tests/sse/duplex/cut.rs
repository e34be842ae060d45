//! The server's end of a session whose client is gone, or reads nothing: no sink waits for ever, and the place is free again.

use futures_util::{SinkExt, StreamExt};
use tower_transport::{Limits, Message};

use super::{
    called::{server, whole},
    within,
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
