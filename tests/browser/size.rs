//! The clients whose sizes `tests/run page_sizes` prints: one for each `--cfg client="NAME"`, each with what the one
//! before has.

#![cfg(target_arch = "wasm32")]
#![allow(dead_code, unused_imports, reason = "which of them are used depends on the client")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;
use tower_transport::{
    Error, Message, QueueConfig, ServiceBuilderExt, Transport, TransportExt,
    codec::JsonCodec,
    layer::{
        batch::BatchPolicy,
        compression::{CompressionLayer, Deflate},
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, ReconnectLayer},
        resume::ResumeLayer,
    },
    stack::{OptimizedTransport, WebSocketContext},
    transport::{sse::SseDuplexConnector, websocket::WebSocketConnector},
};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};

#[derive(Serialize, Deserialize)]
struct Value {
    number: u32,
    text: String,
}

/// Sends a text and receives one.
async fn messages<T>(mut transport: T, text: &str) -> Result<String, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    transport.send_message(Message::text(text)).await?;
    let answer = transport.receive_message().await.ok_or_else(|| Error::closed("no answer"))??;
    Ok(answer.as_text().unwrap_or_default().to_owned())
}

/// Sends a value and receives one, in a task.
async fn values<T>(transport: T, text: &str) -> Result<String, Error>
where
    T: Transport<Value, In = Value> + 'static,
{
    let (sender, mut receiver) = Box::pin(transport).drive(QueueConfig::values()).spawn();
    sender.send(Value { number: 1, text: text.to_owned() }).await?;
    Ok(receiver.receive().await.ok_or_else(|| Error::closed("no answer"))??.text)
}

macro_rules! clients {
    ($($name:literal = |$url:ident, $text:ident| $talk:expr;)*) => {
        $(
            #[cfg(client = $name)]
            #[wasm_bindgen]
            pub async fn talk($url: &str, $text: &str) -> Result<String, JsError> {
                Ok($talk.await?)
            }
        )*
    };
}

clients! {
    "websocket" = |url, text| messages(WebSocketConnector::new().connect(url).await?, text);
    "sse" = |url, text| messages(SseDuplexConnector::new().connect(url).await?, text);
    "json" = |url, text| values(
        ServiceBuilder::new().codec(JsonCodec::<Value>::new()).service(WebSocketConnector::new().connect(url).await?),
        text,
    );
    "reconnect" = |url, text| values(
        ServiceBuilder::new()
            .codec(JsonCodec::<Value>::new())
            .layer(ReconnectLayer::new(url, Backoff::exponential()))
            .service(WebSocketConnector::new()),
        text,
    );
    "resume" = |url, text| values(
        ServiceBuilder::new()
            .codec(JsonCodec::<Value>::new())
            .layer(ReconnectLayer::new(url, Backoff::exponential()))
            .layer(ResumeLayer::new())
            .service(WebSocketConnector::new()),
        text,
    );
    "heartbeat" = |url, text| values(
        ServiceBuilder::new()
            .codec(JsonCodec::<Value>::new())
            .layer(ReconnectLayer::new(url, Backoff::exponential()))
            .layer(ResumeLayer::new())
            .per_connection(HeartbeatLayer::default().application_level())
            .service(WebSocketConnector::new()),
        text,
    );
    "batch" = |url, text| values(
        ServiceBuilder::new()
            .codec(JsonCodec::<Value>::new())
            .layer(ReconnectLayer::new(url, Backoff::exponential()))
            .layer(ResumeLayer::new())
            .per_connection(
                ServiceBuilder::new()
                    .batch(BatchPolicy::new(64, Duration::from_millis(2)))
                    .layer(HeartbeatLayer::default().application_level()),
            )
            .service(WebSocketConnector::new()),
        text,
    );
    "compression" = |url, text| values(
        ServiceBuilder::new()
            .codec(JsonCodec::<Value>::new())
            .layer(ReconnectLayer::new(url, Backoff::exponential()))
            .layer(ResumeLayer::new())
            .per_connection(
                ServiceBuilder::new()
                    .batch(BatchPolicy::new(64, Duration::from_millis(2)))
                    .compress(Deflate::new())
                    .layer(HeartbeatLayer::default().application_level()),
            )
            .service(WebSocketConnector::new()),
        text,
    );
    "optimized" = |url, text| values(
        ServiceBuilder::new().codec(JsonCodec::<Value>::new()).service(OptimizedTransport::connect(url).await?),
        text,
    );
    "context" = |url, text| async {
        let context = WebSocketContext::new_with_url(url);
        context.connect().await?;
        context.send_message(&Value { number: 1, text: text.to_owned() }).await?;
        Ok::<_, Error>(context.receive_message::<Value>().await?.text)
    };
}
