//! The client whose size and speed `tests/run page_goals` measures: JSON, reconnect, resume and heartbeat.

#![cfg(target_arch = "wasm32")]

use futures_util::future::join;
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;
use tower_transport::{
    Error, QueueConfig, Receiver, Sender, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, ReconnectLayer},
        resume::ResumeLayer,
    },
    transport::websocket::WebSocketConnector,
};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};

#[derive(Serialize, Deserialize)]
struct Value {
    number: u32,
    text: String,
}

fn connect(url: &str) -> (Sender<Value>, Receiver<Value>) {
    let transport = ServiceBuilder::new()
        .codec(JsonCodec::<Value>::new())
        .layer(ReconnectLayer::new(url, Backoff::exponential()))
        .layer(ResumeLayer::new())
        .per_connection(HeartbeatLayer::default().application_level())
        .service(WebSocketConnector::new());
    Box::pin(transport).drive(QueueConfig::values()).spawn()
}

fn ended() -> Error {
    Error::closed("the stream ended")
}

/// Returns the mean time of a round trip through all layers, in milliseconds.
#[wasm_bindgen]
pub async fn round_trip(url: &str, count: u32, bytes: usize) -> Result<f64, JsError> {
    let (sender, mut receiver) = connect(url);
    let mut start = 0.0;
    for number in 0..=count {
        // The first one connects.
        if number == 1 {
            start = js_sys::Date::now();
        }
        sender.send(Value { number, text: "x".repeat(bytes) }).await?;
        receiver.receive().await.ok_or_else(ended)??;
    }
    Ok((js_sys::Date::now() - start) / f64::from(count))
}

/// Returns the mean time of a round trip over the transport alone, in milliseconds.
#[wasm_bindgen]
pub async fn bare_round_trip(url: &str, count: u32, bytes: usize) -> Result<f64, JsError> {
    let mut socket = WebSocketConnector::new().connect(url).await?;
    let start = js_sys::Date::now();
    for _ in 0..count {
        socket.send_message(tower_transport::Message::text("x".repeat(bytes))).await?;
        socket.receive_message().await.ok_or_else(ended)??;
    }
    Ok((js_sys::Date::now() - start) / f64::from(count))
}

/// Sends values through all layers while it receives as many. Returns the time in milliseconds.
#[wasm_bindgen]
pub async fn both_ways(url: &str, count: u32) -> Result<f64, JsError> {
    let (sender, mut receiver) = connect(url);
    let start = js_sys::Date::now();
    let sending = async {
        for number in 0..count {
            sender.send(Value { number, text: "x".repeat(50) }).await?;
        }
        Ok::<_, Error>(())
    };
    let receiving = async {
        for number in 0..count {
            let value = receiver.receive().await.ok_or_else(ended)??;
            if value.number != number {
                return Err(Error::other("another order"));
            }
        }
        Ok(())
    };
    let (sent, received) = join(sending, receiving).await;
    sent.and(received)?;
    Ok(js_sys::Date::now() - start)
}
