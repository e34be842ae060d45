//! The browser's `WebSocket` within an HTTP/2 connection (RFC 8441), over TLS.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{Router, response::Html, routing::get};
use http::{Version, request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::json;
use support::{echo, tls::localhost};
use tokio::net::TcpListener;
use tower_transport::transport::websocket::{PerMessageDeflate, WebSocket, WebSocketService};

use crate::browser::run_with;

/// The versions of the handshakes.
type Versions = Arc<Mutex<Vec<Version>>>;

/// A site over TLS, the versions of its WebSockets, and the number of its connections.
async fn site(announces: bool) -> (String, Versions, Arc<AtomicUsize>) {
    let (versions, connections) = (Versions::default(), Arc::new(AtomicUsize::new(0)));
    let (seen, counted) = (versions.clone(), connections.clone());
    let upgrade = WebSocketService::new(move |socket: WebSocket, parts: request::Parts| {
        seen.lock().unwrap().push(parts.version);
        echo(socket)
    });
    let app = Router::new()
        .route("/", get(async || Html("<!doctype html><meta charset=utf-8><title>test</title>")))
        .route_service("/ws", upgrade.per_message_deflate(PerMessageDeflate::new()));
    let (acceptor, _) = localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, app, counted) = (acceptor.clone(), app.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                counted.fetch_add(1, SeqCst);
                let mut http = auto::Builder::new(TokioExecutor::new());
                if announces {
                    http.http2().enable_connect_protocol();
                }
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tls), TowerToHyperService::new(app)).await;
            });
        }
    });
    (format!("localhost:{port}"), versions, connections)
}

#[tokio::test]
async fn a_page_has_its_websockets_within_the_http_2_connection_of_its_site_where_that_announces_them() {
    for (announces, version) in [(true, Version::HTTP_2), (false, Version::HTTP_11)] {
        let (host, versions, connections) = site(announces).await;
        let messages = json!(["", "h\u{e9}llo \u{2713} \u{1d11e}", [0, 127, 255], "x".repeat(100_000)]);
        let argument = json!({
            "url": format!("wss://{host}/ws"),
            "messages": messages,
            "count": 5,
        });
        let flags = ["--ignore-certificate-errors"];
        let page = format!("https://{host}/");
        let Some(report) = run_with(&flags, &page, "websockets.js", argument).await else { return };
        let end = json!({
            "came": messages,
            "code": 4000,
            "reason": "that is all",
            "wasClean": true,
            "extensions": "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        });
        assert_eq!(report.value, json!(vec![end; 5]), "{:?}", report.log);
        assert_eq!(*versions.lock().unwrap(), [version; 5]);
        let connections = connections.load(SeqCst);
        // A browser may have a second one in reserve.
        assert!(if announces { connections <= 2 } else { connections >= 6 }, "{connections} connections");
    }
}
