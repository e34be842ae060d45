//! The page: the browser's WebSocket and the layers on it. `tests/browser/run.mjs` opens it in Chromium.

#![cfg(target_arch = "wasm32")]

use std::time::Duration;

use http::{Request, Response};
use tower::ServiceExt;
use tower_transport::{
    Error, TransportExt,
    transport::websocket::{WebSocket, WebSocketConnector},
};
use wasm_bindgen_test::wasm_bindgen_test_configure;

mod adaptive;
mod closing;
mod connecting;
mod layers;
mod leaks;
mod leaving;
mod messages;
mod presence;
mod sse;
mod stack;
mod transports;
mod turns;
mod web_transport;

wasm_bindgen_test_configure!(run_in_browser);

/// Returns the URL of `path` at one of the server's listeners, which the query of the page names.
fn url(listener: &str, path: &str) -> String {
    format!("ws://{}{path}", parameter(listener))
}

/// Returns a parameter of the query of the page.
fn parameter(name: &str) -> String {
    let query = web_sys::window().unwrap().location().search().unwrap();
    let mut pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).expect("run.mjs names the listeners").1.to_owned()
}

fn http_url(listener: &str, path: &str) -> String {
    url(listener, path).replacen("ws", "http", 1)
}

fn request(url: &str) -> Request<()> {
    Request::get(url).body(()).unwrap()
}

async fn answer(connector: WebSocketConnector, path: &str) -> Result<Response<WebSocket>, Error> {
    connector.oneshot(request(&url("main", path))).await
}

async fn connect(connector: WebSocketConnector, path: &str) -> WebSocket {
    answer(connector, path).await.unwrap().into_body()
}

async fn open(path: &str) -> WebSocket {
    connect(WebSocketConnector::new(), path).await
}

/// Asks the server.
async fn ask(path: &str) -> String {
    let answer = open(path).await.receive_message().await.unwrap().unwrap();
    answer.as_text().unwrap().to_owned()
}

/// Returns how many connections the server's proxies have cut.
async fn cuts() -> u32 {
    ask("/cuts").await.parse().unwrap()
}

async fn sleep(time: Duration) {
    gloo_timers::future::sleep(time).await;
}

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}
