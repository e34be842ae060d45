//! The browser's `WebSocket` against our upgrade.

use axum::Router;
use serde_json::json;
use tokio::sync::mpsc;
use tower_transport::{
    CloseFrame, Error, TransportExt,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketService},
};

use crate::{browser::run, site::serve};

type End = Result<Option<CloseFrame>, Error>;

async fn echo(mut socket: WebSocket) -> End {
    while let Some(message) = socket.receive_message().await {
        let message = message?;
        if message.is_data() {
            socket.send_message(message).await?;
        }
    }
    Ok(socket.close_frame().cloned())
}

/// A site with an echo at `/ws`, and how the sessions there end.
async fn site() -> (String, mpsc::Receiver<End>) {
    let (ended, ends) = mpsc::channel(1);
    let upgrade = WebSocketService::new(move |socket, _| async move {
        let _ = ended.send(echo(socket).await).await;
    });
    (serve(Router::new().route_service("/ws", upgrade)).await, ends)
}

#[tokio::test]
async fn a_page_is_echoed_by_its_own_site_and_each_end_learns_how_it_ended() {
    let (host, mut ends) = site().await;
    let messages = json!(["", "h\u{e9}llo \u{2713} \u{1d11e}", [], [0, 127, 255], "x".repeat(100_000)]);
    let argument = json!({ "url": format!("ws://{host}/ws"), "messages": messages });
    let Some(report) = run(&format!("http://{host}/"), "websocket.js", argument).await else { return };
    let end = json!({ "came": messages, "code": 4000, "reason": "that is all", "wasClean": true });
    assert_eq!(report.value, end, "{:?}", report.log);
    assert_eq!(ends.recv().await.unwrap().unwrap().unwrap().to_string(), "4000 \"that is all\"");
}

/// A page cannot ask for compression: the browser always offers it.
#[tokio::test]
async fn a_page_has_its_messages_compressed_with_and_without_context_takeover() {
    let messages = json!([
        "",
        "{\"price\":101,\"side\":\"b\u{fc}y\"}".repeat(500),
        (0..1000).map(|i| i * i % 251).collect::<Vec<_>>(),
        "x".repeat(70_000),
    ]);
    for (takes_over, negotiated) in [
        (false, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        (true, "permessage-deflate"),
    ] {
        let (ended, mut ends) = mpsc::channel(1);
        let upgrade = WebSocketService::new(move |socket: WebSocket, _| async move {
            let extensions = socket.extensions().unwrap().to_owned();
            let _ = ended.send(echo(socket).await.map(|_| extensions)).await;
        });
        let config =
            PerMessageDeflate::new().min_size(0).context_takeover(takes_over).peer_context_takeover(takes_over);
        let host = serve(Router::new().route_service("/ws", upgrade.per_message_deflate(config))).await;
        let argument = json!({ "url": format!("ws://{host}/ws"), "messages": messages, "withExtensions": true });
        let Some(report) = run(&format!("http://{host}/"), "websocket.js", argument).await else { return };
        assert!(report.value["came"] == messages, "{:?}", report.log);
        assert_eq!((&report.value["extensions"], &report.value["code"]), (&json!(negotiated), &json!(4000)));
        assert_eq!(ends.recv().await.unwrap().unwrap(), negotiated);
    }
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_with_403() {
    let (host, mut ends) = site().await;
    let other = serve(Router::new()).await;
    let argument = json!({ "url": format!("ws://{host}/ws"), "messages": ["steal"] });
    let Some(report) = run(&format!("http://{other}/"), "websocket.js", argument).await else { return };
    assert_eq!(report.value, json!({ "came": [], "code": 1006, "reason": "", "wasClean": false }));
    assert!(report.log.iter().any(|line| line.contains("403")), "{:?}", report.log);
    assert!(ends.try_recv().is_err(), "there was a session");
}

/// The subprotocols are the one thing that a page can say in the handshake.
#[tokio::test]
async fn a_page_gets_in_by_a_token_as_a_subprotocol_alone_or_behind_another() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use tower_transport::{handshake::auth::AuthGuardLayer, layer::auth::StaticTokens};

    let upgrade = WebSocketService::new(|socket, _| async move {
        let _ = echo(socket).await;
    });
    let guard = AuthGuardLayer::new(StaticTokens::new().token("6f1c", "ada"));
    let app = Router::new().route_service("/ws", upgrade.subprotocol("chat.v1").unwrap()).route_layer(guard);
    let host = serve(app).await;
    let token = |token: &str| format!("bearer.{}", BASE64_URL_SAFE_NO_PAD.encode(token));
    for (protocols, code) in [
        (json!([token("6f1c")]), 4000),
        (json!(["chat.v1", token("6f1c")]), 4000),
        (json!([token("wrong")]), 1006),
        (json!([]), 1006),
    ] {
        let argument = json!({ "url": format!("ws://{host}/ws"), "messages": ["hi"], "protocols": protocols });
        let Some(report) = run(&format!("http://{host}/"), "websocket.js", argument).await else { return };
        assert_eq!(report.value["code"], code, "{protocols}: {:?} {:?}", report.value, report.log);
    }
}
