//! The layers, unchanged on top of it.

use std::{cell::Cell, rc::Rc};

use futures_util::StreamExt;
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    BoxTransport, Message, QueueConfig, TransportExt,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, ReconnectLayer, WhenLost},
        resume::{ResumeHandle, ResumeLayer, Verdict},
    },
    transport::websocket::WebSocketConnector,
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{ms, open, sleep, url};

#[wasm_bindgen_test]
async fn the_client_of_both_targets_talks_through_codec_batch_and_compression() {
    assert_eq!(browser::talk(&url("main", "/stack")).await.unwrap(), 500);
}

#[wasm_bindgen_test]
async fn a_cut_connection_is_made_again() {
    // Nothing in a page has to be `Send`.
    let connections = Rc::new(Cell::new(0));
    let counted = connections.clone();
    let layer = ReconnectLayer::new(url("main", "/echo"), Backoff::exponential().base(ms(5)))
        .when_lost(WhenLost::Fail)
        .on_connect(move |_| {
            counted.set(counted.get() + 1);
            vec![Message::text("hello again")]
        });
    let stack = ServiceBuilder::new().layer(layer).service(WebSocketConnector::new());
    let mut transport = BoxTransport::new(stack);
    for connection in 1..=5 {
        assert_eq!(transport.next().await.unwrap().unwrap(), Message::text("hello again"));
        assert_eq!(connections.get(), connection);
        transport.send_message(Message::text("cut")).await.unwrap();
    }
}

#[wasm_bindgen_test]
async fn a_heartbeat_of_the_application_measures_the_round_trip_and_detects_a_dead_peer() {
    let heartbeat = HeartbeatLayer::new(ms(50), ms(500)).application_level();
    let mut alive = heartbeat.layer(open("/heartbeat").await);
    let monitor = alive.monitor();
    let waiting = alive.receive_message();
    futures_util::pin_mut!(waiting);
    let woken = futures_util::future::select(waiting, Box::pin(sleep(ms(400)))).await;
    assert!(matches!(woken, futures_util::future::Either::Right(_)));
    assert!(monitor.rtt().unwrap().smoothed < ms(400));

    let mut dead = HeartbeatLayer::new(ms(50), ms(100)).application_level().layer(open("/late?ms=3000").await);
    assert!(dead.receive_message().await.unwrap().unwrap_err().is_timeout());
}

/// 25 connections are cut after some kilobytes, in the middle of messages of both directions.
#[wasm_bindgen_test]
async fn a_session_goes_on_over_cuts_without_a_gap_or_a_duplicate() {
    const MESSAGES: u32 = 20_000;

    let handle = ResumeHandle::new();
    let mut verdicts = handle.verdicts();
    let transport = ServiceBuilder::new()
        .layer(ReconnectLayer::new(url("cutting", "/resume"), Backoff::exponential().base(ms(2)).cap(ms(20))))
        .layer(ResumeLayer::new().handle(handle.clone()))
        .service(WebSocketConnector::new());
    let (sender, mut receiver) = Box::pin(transport).drive(QueueConfig::messages()).spawn();
    let sending = sender.clone();
    wasm_bindgen_futures::spawn_local(async move {
        for number in 0..MESSAGES {
            let text = format!("{number} {}", "x".repeat(number as usize * 31 % 97));
            sending.send(Message::text(text)).await.unwrap();
        }
    });
    let (fresh, resumed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let counts = (fresh.clone(), resumed.clone());
    wasm_bindgen_futures::spawn_local(async move {
        while let Some(verdict) = verdicts.next().await {
            match verdict {
                Verdict::Resumed { .. } => counts.1.set(counts.1.get() + 1),
                _ => counts.0.set(counts.0.get() + 1),
            }
        }
    });
    for number in 0..MESSAGES {
        let message = receiver.receive().await.unwrap().unwrap();
        let text = format!("{number} {}", "x".repeat(number as usize * 31 % 97));
        assert_eq!(message.as_text(), Some(text.as_str()));
    }
    assert!(fresh.get() <= 1, "{} sessions", fresh.get());
    assert!(resumed.get() >= 20, "{} connections were resumed", resumed.get());
    drop(sender);
}
