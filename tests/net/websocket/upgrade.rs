//! The server's end: hyper and axum, guards and refusals.

use axum::{Router, extract::Path, routing::any};
use http::{HeaderValue, Request, StatusCode, header};
use support::serve::serve_axum;
use tower::ServiceExt;
use tower_transport::{
    Error, Limits, Message, TransportExt,
    transport::websocket::{Http2, WebSocket, WebSocketConnector, WebSocketHandshake, WebSocketService},
};

async fn say(mut socket: WebSocket, what: String) {
    socket.send_message(Message::text(what)).await.unwrap();
    let _ = socket.close(None).await;
}

fn upgrade() -> WebSocketService<
    impl FnOnce(WebSocket, http::request::Parts) -> futures_util::future::BoxFuture<'static, ()> + Clone + Send + 'static,
> {
    WebSocketService::new(|socket, parts: http::request::Parts| {
        Box::pin(say(socket, format!("by service at {}", parts.uri.path()))) as _
    })
}

async fn app() -> String {
    let by_extractor = |Path(name): Path<String>, handshake: WebSocketHandshake| async move {
        let handshake = handshake.limits(Limits::new()).subprotocol("v1").unwrap();
        handshake.on_upgrade(move |socket| say(socket, format!("by extractor for {name}")))
    };
    let open = upgrade().allow_origin(HeaderValue::from_static("https://app.example"));
    serve_axum(
        Router::new()
            .route_service("/service", upgrade())
            .route_service("/allowed", open)
            .route_service("/any", upgrade().allow_any_origin())
            .route_service("/https", upgrade().https_pages_only())
            .route("/extractor/{name}", any(by_extractor)),
    )
    .await
    .to_string()
}

/// The answer, which is the same over HTTP/1.1 and HTTP/2.
async fn hear(url: &str, origin: Option<&str>) -> Result<String, Error> {
    let plain = WebSocketConnector::new();
    let heard = hear_over(plain.clone(), url, origin).await;
    let over_http2 = hear_over(plain.http2(Http2::new().prior_knowledge()), url, origin).await;
    let [first, second] =
        [&heard, &over_http2].map(|heard| heard.as_ref().map_err(|e| (e.status(), e.response_body())));
    assert_eq!(first, second);
    heard
}

async fn hear_over(connector: WebSocketConnector, url: &str, origin: Option<&str>) -> Result<String, Error> {
    let mut request = Request::get(url);
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    let mut socket = connector.oneshot(request.body(()).unwrap()).await?.into_body();
    let said = socket.receive_message().await.unwrap()?;
    socket.close(None).await?;
    Ok(said.as_text().unwrap().to_owned())
}

#[tokio::test]
async fn in_axum_by_route_service_and_by_extractor() {
    let address = app().await;
    assert_eq!(hear(&format!("ws://{address}/service"), None).await.unwrap(), "by service at /service");
    assert_eq!(hear(&format!("ws://{address}/extractor/me"), None).await.unwrap(), "by extractor for me");
    let connector = WebSocketConnector::new().subprotocol("v1").unwrap();
    let request = Request::get(format!("ws://{address}/extractor/me")).body(()).unwrap();
    assert_eq!(connector.oneshot(request).await.unwrap().body().subprotocol(), Some("v1"));
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_by_default_and_allowed_by_name() {
    let address = app().await;
    let own = format!("http://{address}");
    let evil = Some("https://evil.example");
    for path in ["service", "extractor/me", "allowed"] {
        let url = format!("ws://{address}/{path}");
        let error = hear(&url, evil).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::FORBIDDEN), "{path}");
        assert!(hear(&url, Some(&own)).await.is_ok(), "{path}");
    }
    assert!(hear(&format!("ws://{address}/allowed"), Some("https://app.example")).await.is_ok());
    assert!(hear(&format!("ws://{address}/any"), evil).await.is_ok());
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_a_status_and_a_sentence() {
    let good = || {
        Request::get("/")
            .header(header::HOST, "a.example")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let refusal = async |request: Request<()>| {
        let response = upgrade().oneshot(request).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert!(refusal(Request::post("/").body(()).unwrap()).await.contains("GET"));
    assert!(refusal(Request::get("/").body(()).unwrap()).await.contains("WebSocket endpoint"));
    // A good handshake, in a server that was not told to upgrade.
    assert!(refusal(good().body(()).unwrap()).await.contains("with_upgrades"));
}

#[tokio::test]
async fn a_page_over_http_is_refused_where_pages_must_be_of_https() {
    let address = app().await;
    let (plain, secure) = (format!("http://{address}"), format!("https://{address}"));
    assert!(hear(&format!("ws://{address}/service"), Some(&plain)).await.is_ok());
    assert!(hear(&format!("ws://{address}/https"), Some(&secure)).await.is_ok());
    let error = hear(&format!("ws://{address}/https"), Some(&plain)).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
}
