//! The recommended stack, unchanged, against the native one.

use std::{cell::Cell, rc::Rc};

use futures_util::StreamExt;
use tower_transport::{
    Message,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::Backoff,
        resume::{ResumeLayer, Verdict},
    },
    stack::{OptimizedTransport, WebSocketContext},
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{cuts, ms, open, sleep, url};

fn nth(number: u32) -> Message {
    // Bytes that no compression shrinks.
    let mut random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = (0..8 + number % 48).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    });
    Message::binary(bytes.collect::<Vec<u8>>())
}

#[wasm_bindgen_test]
async fn both_ends_agree_on_batches_compression_and_resume_and_the_page_measures_the_round_trip() {
    let transport = OptimizedTransport::builder()
        .heartbeat(HeartbeatLayer::new(ms(20), ms(2000)))
        .connect(&url("stack", "/"))
        .await
        .unwrap();
    let capabilities = transport.capabilities();
    assert!(capabilities.batch() && capabilities.compression() && capabilities.resume(), "{capabilities}");
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    let text = "a text that is worth compressing ".repeat(100);
    for _ in 0..100 {
        sender.send(Message::text(text.as_str())).await.unwrap();
    }
    for _ in 0..100 {
        assert_eq!(receiver.receive().await.unwrap().unwrap().as_text(), Some(text.as_str()));
    }
    let bytes = handle.compression().unwrap().sent();
    assert!(bytes.compressed_bytes * 10 < bytes.plain_bytes, "{bytes:?}");
    for _ in 0..100 {
        if handle.rtt().is_some() {
            break;
        }
        sleep(ms(20)).await;
    }
    assert!(handle.rtt().unwrap().smoothed < ms(500));
    assert_eq!(handle.reconnect().unwrap().connections(), 1);
}

#[wasm_bindgen_test]
async fn a_server_that_does_not_know_the_stack_gets_plain_messages_and_no_pings() {
    // It speaks only its own subprotocols, and the browser refuses a connection without a choice. Then the stack tries
    // again without its name.
    let heartbeat = HeartbeatLayer::new(ms(10), ms(50));
    let connecting = OptimizedTransport::builder().heartbeat(heartbeat).connect(&url("main", "/echo")).await;
    let transport = connecting.unwrap();
    assert!(!transport.capabilities().is_known());
    let (sender, mut receiver) = transport.split();
    sleep(ms(200)).await;
    sender.send(Message::text("plain")).await.unwrap();
    assert_eq!(receiver.receive().await.unwrap().unwrap(), Message::text("plain"));
}

/// The suite that runs natively: 1,000 connections are cut after some bytes, some in their handshake.
#[wasm_bindgen_test]
async fn a_session_over_1000_cuts_loses_and_doubles_nothing_of_100000_messages() {
    const EACH_WAY: u32 = 50_000;

    let before = cuts().await;
    let transport = OptimizedTransport::builder()
        .resume(ResumeLayer::new().replay_messages(100))
        .backoff(Backoff::exponential().base(ms(1)).cap(ms(4)))
        .connect_lazily(
            tower_transport::transport::websocket::WebSocketConnector::new(),
            url("stack-cutting", "/").as_str(),
        );
    let handle = transport.handle();
    let fresh = Rc::new(Cell::new(0));
    let (counted, mut verdicts) = (fresh.clone(), handle.resume().unwrap().verdicts());
    wasm_bindgen_futures::spawn_local(async move {
        while let Some(verdict) = verdicts.next().await {
            counted.set(counted.get() + u32::from(matches!(verdict, Verdict::Fresh { .. })));
        }
    });
    let (sender, mut receiver) = transport.split();
    let sending = sender.clone();
    wasm_bindgen_futures::spawn_local(async move {
        for number in 0..EACH_WAY {
            sending.send(nth(number)).await.unwrap();
        }
    });
    for number in 0..EACH_WAY {
        let message = receiver.receive().await.unwrap().unwrap();
        assert_eq!(message, nth(number), "a gap, a duplicate or another order at {number}");
    }
    let cuts = cuts().await - before;
    assert!(cuts >= 1000, "{cuts} connections were cut");
    assert_eq!(fresh.get(), 0, "sessions that were lost");
    drop(sender);
}

#[wasm_bindgen_test]
async fn a_server_that_was_killed_gives_an_honest_fresh_and_the_number_of_lost_messages() {
    let transport = OptimizedTransport::builder()
        .backoff(Backoff::exponential().base(ms(5)).cap(ms(50)))
        .connect(&url("victim", "/"))
        .await
        .unwrap();
    let handle = transport.handle();
    let mut verdicts = handle.resume().unwrap().verdicts();
    assert_eq!(handle.resume().unwrap().verdict(), Some(Verdict::New));
    let (sender, mut receiver) = transport.split();
    sender.send(Message::text("before")).await.unwrap();
    assert_eq!(receiver.receive().await.unwrap().unwrap(), Message::text("before"));
    // Time for the acknowledgement of what has arrived.
    sleep(ms(300)).await;
    let mut control = open("/stop").await;
    let stopped = tower_transport::TransportExt::receive_message(&mut control).await.unwrap().unwrap();
    assert!(stopped.as_text().unwrap().starts_with("stopped"), "{stopped:?}");
    // The connection takes these, and nobody reads them.
    for number in 0..3 {
        sender.send(Message::text(format!("lost {number}"))).await.unwrap();
    }
    sender.clone().flush().await.unwrap();
    let mut control = open("/kill").await;
    assert_eq!(
        tower_transport::TransportExt::receive_message(&mut control).await.unwrap().unwrap().as_text(),
        Some("killed")
    );
    let verdict = verdicts.next().await.unwrap();
    assert_eq!(verdict, Verdict::Fresh { lost: 3 });
    sender.send(Message::text("after")).await.unwrap();
    loop {
        match receiver.receive().await.unwrap() {
            Ok(message) => break assert_eq!(message, Message::text("after")),
            // The report of the loss.
            Err(error) => assert!(error.is_rejection(), "{error:?}"),
        }
    }
}

#[wasm_bindgen_test]
async fn the_context_of_the_replaced_library_connects_sends_receives_reconnects_and_closes() {
    let context = WebSocketContext::new_with_url(&url("stack", "/"));
    assert!(!context.is_connected());
    context.connect().await.unwrap();
    context.send_message(&("order", 17)).await.unwrap();
    let came: (String, u32) = context.receive_message().await.unwrap();
    assert_eq!(came, ("order".to_owned(), 17));
    context.reconnect_with_backoff().await.unwrap();
    assert!(context.is_connected());
    assert_eq!(context.handle().unwrap().reconnect().unwrap().connections(), 2);
    context.send_text("again").await.unwrap();
    assert_eq!(context.receive().await.unwrap().as_text(), Some("again"));
    context.close().await.unwrap();
    assert!(!context.is_connected());
    let refused = WebSocketContext::new_with_url("ws://127.0.0.1:1/");
    assert!(refused.connect().await.unwrap_err().is_io());
}
