//! Messages both ways, their limits, and what waits.

use std::{future::poll_fn, task::Poll};

use futures_util::{SinkExt, StreamExt};
use tower_transport::{Limits, Message, QueueConfig, TransportExt, transport::websocket::WebSocketConnector};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{connect, ms, open, sleep};

#[wasm_bindgen_test]
async fn text_and_binary_messages_are_echoed_up_to_4_mib() {
    let mut socket = open("/echo").await;
    let large: Vec<u8> = (0..4 << 20).map(|index: u32| (index * 31) as u8).collect();
    for message in [
        Message::text(""),
        Message::text("h\u{e9}llo \u{2713} \u{1d11e}"),
        Message::text("x".repeat(4 << 20)),
        Message::binary(vec![]),
        Message::binary(vec![0, 127, 255]),
        Message::binary(large),
    ] {
        socket.send_message(message.clone()).await.unwrap();
        let came = socket.receive_message().await.unwrap().unwrap();
        assert!(came == message, "{} bytes came in place of {}", came.len(), message.len());
    }
}

#[wasm_bindgen_test]
async fn ten_thousand_messages_each_way_arrive_in_order() {
    let (sender, mut receiver) = open("/echo").await.drive(QueueConfig::messages()).spawn();
    // The driver closes when the last sender is dropped, and the browser drops what comes after that.
    let sending = sender.clone();
    wasm_bindgen_futures::spawn_local(async move {
        for number in 0..10_000 {
            sending.send(Message::text(number.to_string())).await.unwrap();
        }
    });
    for number in 0..10_000 {
        let message = receiver.receive().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(number.to_string().as_str()));
    }
    drop(sender);
}

#[wasm_bindgen_test]
async fn an_outgoing_message_over_the_limit_is_rejected_and_the_connection_goes_on() {
    let mut socket = connect(WebSocketConnector::new().limits(Limits::new().message(100)), "/echo").await;
    let error = socket.send_message(Message::binary(vec![0; 101])).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    socket.send_message(Message::binary(vec![0; 100])).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap().len(), 100);
}

#[wasm_bindgen_test]
async fn an_incoming_message_over_the_limit_ends_the_connection() {
    let connector = WebSocketConnector::new().limits(Limits::new().message(4999));
    let mut socket = connect(connector, "/flood?count=3&bytes=5000").await;
    let error = socket.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_too_large() && !error.is_rejection(), "{error:?}");
    assert!(socket.receive_message().await.is_none());
    assert!(socket.send_message(Message::text("late")).await.unwrap_err().is_closed());
}

#[wasm_bindgen_test]
async fn a_ping_is_rejected_because_a_page_cannot_send_one() {
    let mut socket = open("/echo").await;
    let error = socket.send_message(Message::Ping("hi".into())).await.unwrap_err();
    assert!(error.is_config() && error.is_rejection(), "{error:?}");
    socket.send_message(Message::text("still here")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("still here"));
}

/// The server reads nothing for a while. The sink is pending, and goes on when it reads.
#[wasm_bindgen_test]
async fn the_sink_is_pending_while_the_browsers_buffer_is_full() {
    let mut socket = open("/late?ms=1500").await;
    let message = Message::binary(vec![1; 256 << 10]);
    let (mut sent, mut was_pending) = (0, false);
    while !was_pending {
        was_pending = poll_fn(|cx| Poll::Ready(socket.poll_ready_unpin(cx).is_pending())).await;
        if !was_pending {
            socket.start_send_unpin(message.clone()).unwrap();
            sent += 1;
        }
        assert!(sent < 1000, "250 MiB are taken without a wait");
    }
    // One task may fill no more than the limit and one message.
    assert!(sent <= 2, "{sent} messages are in the browser's buffer");
    for _ in 0..20 {
        socket.feed(message.clone()).await.unwrap();
        sent += 1;
    }
    for _ in 0..sent {
        assert_eq!(socket.next().await.unwrap().unwrap().len(), message.len());
    }
}

#[wasm_bindgen_test]
async fn a_page_that_does_not_read_gets_what_fits_and_then_an_error() {
    let connector = WebSocketConnector::new().incoming_bytes(10_000);
    let mut socket = connect(connector, "/flood?count=1000&bytes=1000").await;
    sleep(ms(500)).await;
    for _ in 0..9 {
        assert_eq!(socket.receive_message().await.unwrap().unwrap().len(), 1000);
    }
    let error = socket.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_full() && !error.is_rejection(), "{error:?}");
    assert!(error.to_string().contains("9576 bytes in 9 messages"), "{error}");
    assert!(socket.receive_message().await.is_none());
}
