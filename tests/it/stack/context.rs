//! The promises of the simple client, against an echo that does not know this crate and one that does.

use std::{net::SocketAddr, time::Duration};

use tower_transport::{
    Message, TransportExt,
    layer::reconnect::{Backoff, State},
    stack::{OptimizedTransport, WebSocketContext},
    transport::websocket::WebSocketService,
};

use crate::serve::serve;
use support::within;

async fn echo() -> SocketAddr {
    serve(WebSocketService::new(|mut socket, _| async move {
        while let Some(Ok(message)) = socket.receive_message().await {
            let _ = socket.send_message(message).await;
        }
    }))
    .await
}

fn context(server: SocketAddr) -> WebSocketContext {
    let builder = OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)));
    WebSocketContext::new(&format!("ws://{server}/"), builder)
}

#[tokio::test]
async fn values_text_and_bytes_come_back_as_they_were_sent() {
    let context = context(echo().await);
    assert!(matches!(context.state(), State::Disconnected));
    within(context.connect()).await.unwrap();
    assert!(context.is_connected() && !context.capabilities().is_known());
    within(context.send_message(&vec![(1u8, "one"), (2, "two")])).await.unwrap();
    let back: Vec<(u8, String)> = within(context.receive_message()).await.unwrap();
    assert_eq!(back, [(1, "one".to_owned()), (2, "two".to_owned())]);
    within(context.send_text("text")).await.unwrap();
    within(context.send_binary(&b"bytes"[..])).await.unwrap();
    assert_eq!(within(context.receive()).await.unwrap(), Message::text("text"));
    assert_eq!(within(context.receive()).await.unwrap(), Message::binary(&b"bytes"[..]));
}

#[tokio::test]
async fn without_a_connection_it_says_so_and_closing_is_no_error() {
    let context = WebSocketContext::new_with_url("ws://localhost:1/");
    assert_eq!(context.url(), "ws://localhost:1/");
    assert!(context.send_text("x").await.unwrap_err().is_closed());
    assert!(context.receive().await.unwrap_err().is_closed());
    context.close().await.unwrap();
    assert!(within(context.connect()).await.is_err());
    assert!(matches!(context.state(), State::Disconnected));
    assert!(within(context.reconnect_with_backoff()).await.is_err());
}

#[tokio::test]
async fn what_is_no_value_is_an_error_of_that_message_alone() {
    let context = context(echo().await);
    within(context.connect()).await.unwrap();
    within(context.send_text("not a number")).await.unwrap();
    within(context.send_text("17")).await.unwrap();
    assert!(within(context.receive_message::<u32>()).await.unwrap_err().is_codec());
    assert_eq!(within(context.receive_message::<u32>()).await.unwrap(), 17);
}

#[tokio::test]
async fn it_is_used_again_after_a_close_and_a_reconnect_makes_another_connection() {
    let context = context(echo().await);
    for round in 0..3 {
        within(context.connect()).await.unwrap();
        within(context.send_message(&round)).await.unwrap();
        assert_eq!(within(context.receive_message::<u32>()).await.unwrap(), round);
        within(context.reconnect_with_backoff()).await.unwrap();
        assert_eq!(context.handle().unwrap().reconnect().unwrap().connections(), 2);
        within(context.send_message(&"again")).await.unwrap();
        assert_eq!(within(context.receive_message::<String>()).await.unwrap(), "again");
        within(context.close()).await.unwrap();
        assert!(!context.is_connected());
    }
}

#[tokio::test]
async fn what_the_peer_sent_before_it_closed_is_received_after_a_close() {
    let context = context(echo().await);
    within(context.connect()).await.unwrap();
    within(context.send_text("last words")).await.unwrap();
    within(context.close()).await.unwrap();
    assert_eq!(within(context.receive()).await.unwrap(), Message::text("last words"));
    assert!(within(context.receive()).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_second_connect_is_not_held_up_by_a_task_that_receives_and_that_task_goes_on_with_it() {
    let context = std::sync::Arc::new(context(echo().await));
    within(context.connect()).await.unwrap();
    let receives = tokio::spawn({
        let context = context.clone();
        async move { context.receive().await }
    });
    tokio::task::yield_now().await;
    within(context.connect()).await.unwrap();
    within(context.send_text("anew")).await.unwrap();
    assert_eq!(within(receives).await.unwrap().unwrap(), Message::text("anew"));
}
