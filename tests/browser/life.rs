//! The client whose page is left, frozen and cut off by `life.mjs`: the recommended stack.

#![cfg(target_arch = "wasm32")]

use std::{cell::RefCell, time::Duration};

use futures_util::StreamExt;
use tower_transport::{
    Message, Sender,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, State},
    },
    stack::{OptimizedHandle, OptimizedTransport},
    transport::websocket::WebSocketConnector,
};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

/// A connection, and everything that happens to it.
struct Life {
    sender: Sender<Message>,
    handle: OptimizedHandle,
    received: Vec<String>,
    states: Vec<String>,
    verdicts: Vec<String>,
}

thread_local! {
    static LIFE: RefCell<Option<Life>> = const { RefCell::new(None) };
}

fn with<R>(read: impl FnOnce(&mut Life) -> R) -> R {
    LIFE.with_borrow_mut(|life| read(life.as_mut().expect("connect comes first")))
}

/// Connects to an echo server, with a heartbeat each `interval` ms that waits `timeout` ms for an answer.
#[wasm_bindgen]
pub fn connect(url: &str, interval: u32, timeout: u32) {
    let ms = |time| Duration::from_millis(u64::from(time));
    let transport = OptimizedTransport::builder()
        .heartbeat(HeartbeatLayer::new(ms(interval), ms(timeout)))
        .backoff(Backoff::exponential().base(ms(50)).cap(ms(400)))
        .connect_lazily(WebSocketConnector::new(), url);
    let handle = transport.handle();
    let mut states = handle.reconnect().expect("a client").states();
    let mut verdicts = handle.resume().expect("a client").verdicts();
    let (sender, mut receiver) = transport.split();
    let life = Life { sender, handle, received: Vec::new(), states: Vec::new(), verdicts: Vec::new() };
    LIFE.set(Some(life));
    spawn_local(async move {
        while let Some(state) = states.next().await {
            with(|life| {
                life.states.push(match state {
                    State::Reconnecting { cause, .. } => format!("Reconnecting: {cause}"),
                    state => format!("{state:?}"),
                });
            });
        }
    });
    spawn_local(async move {
        while let Some(verdict) = verdicts.next().await {
            with(|life| life.verdicts.push(format!("{verdict:?}")));
        }
    });
    spawn_local(async move {
        while let Some(message) = receiver.receive().await {
            let text = message.map(|message| message.as_text().unwrap_or_default().to_owned());
            with(|life| life.received.push(text.unwrap_or_else(|error| error.to_string())));
        }
    });
}

/// Sends a text.
#[wasm_bindgen]
pub fn send(text: &str) -> Result<(), JsError> {
    Ok(with(|life| life.sender.try_send(Message::text(text)))?)
}

/// Everything that has happened, as lines.
#[wasm_bindgen]
pub fn received() -> String {
    with(|life| life.received.join("\n"))
}

#[wasm_bindgen]
pub fn states() -> String {
    with(|life| life.states.join("\n"))
}

#[wasm_bindgen]
pub fn verdicts() -> String {
    with(|life| life.verdicts.join("\n"))
}

#[wasm_bindgen]
pub fn is_connected() -> bool {
    with(|life| life.handle.state().is_connected())
}

/// The number of connections so far.
#[wasm_bindgen]
pub fn connections() -> u32 {
    with(|life| life.handle.reconnect().map_or(0, |handle| handle.connections() as u32))
}
