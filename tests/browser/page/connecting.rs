//! The handshake, as far as a page can say and learn anything.

use tower::{Service, ServiceBuilder, ServiceExt};
use tower_transport::{
    Limits, Message, TransportExt,
    layer::auth::{AuthLayer, Tokens},
    transport::{sse::SseDuplexConnector, websocket::WebSocketConnector},
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{answer, http_url, ms, open, request, sleep, url};

#[wasm_bindgen_test]
async fn the_response_has_the_status_and_the_servers_choice_of_a_subprotocol() {
    let connector = WebSocketConnector::new().subprotocol("chat.v0").unwrap().subprotocol("chat.v1").unwrap();
    let response = answer(connector, "/echo").await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v1");
    assert_eq!(response.body().subprotocol(), Some("chat.v1"));
    let response = answer(WebSocketConnector::new(), "/echo").await.unwrap();
    assert!(response.headers().is_empty() && response.body().subprotocol().is_none());
}

#[wasm_bindgen_test]
async fn a_server_that_chooses_no_subprotocol_is_refused_by_the_browser() {
    let connector = WebSocketConnector::new().subprotocol("unknown").unwrap();
    assert!(answer(connector, "/echo").await.unwrap_err().is_io());
}

#[wasm_bindgen_test]
async fn a_token_as_a_subprotocol_opens_the_door_and_a_wrong_one_is_an_error_without_a_reason() {
    let with = |token: &str| {
        let auth = AuthLayer::new(Tokens::fixed(token)).as_subprotocol();
        ServiceBuilder::new().layer(auth).service(WebSocketConnector::new())
    };
    let response = with("6f1c").oneshot(request(&url("guarded", "/echo"))).await.unwrap();
    // The token is a secret, and no subprotocol.
    assert!(response.headers().is_empty() && response.body().subprotocol().is_none());
    let mut socket = response.into_body();
    socket.send_message(Message::text("hi")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("hi"));
    let error = with("wrong").oneshot(request(&url("guarded", "/echo"))).await.unwrap_err();
    assert!(error.is_io(), "{error:?}");
}

#[wasm_bindgen_test]
async fn a_server_that_does_not_allow_the_pages_origin_is_an_io_error_on_each_transport() {
    let error = WebSocketConnector::new().oneshot(request(&url("strict", "/"))).await.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("origin"), "{error:?}");
    let session = SseDuplexConnector::new().connect(&http_url("strict-sse", "/")).await;
    let error = session.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("origin"), "{error:?}");
}

#[wasm_bindgen_test]
async fn a_refused_port_is_an_io_error_that_says_where_the_reason_is() {
    let error = WebSocketConnector::new().oneshot(request("ws://127.0.0.1:1/")).await.unwrap_err();
    assert!(error.is_io(), "{error:?}");
    assert!(error.to_string().contains("console"), "{error}");
}

#[wasm_bindgen_test]
async fn a_url_or_a_header_that_cannot_work_is_a_config_error() {
    for url in ["ftp://example.com/", "/feed", "ws://user:secret@127.0.0.1/", "ws://127.0.0.1:99999/"] {
        let Ok(uri) = url.parse::<http::Uri>() else { continue };
        let error = WebSocketConnector::new().oneshot(http::Request::get(uri).body(()).unwrap()).await.unwrap_err();
        assert!(error.is_config(), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let mut request = request(&url("main", "/echo"));
    request.headers_mut().insert("authorization", "Bearer 6f1c".parse().unwrap());
    let error = WebSocketConnector::new().oneshot(request).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("`authorization`"), "{error:?}");
}

#[wasm_bindgen_test]
async fn a_server_that_does_not_answer_is_given_up() {
    let connector = WebSocketConnector::new().limits(Limits::new().handshake(ms(100)));
    let error = connector.oneshot(request(&url("silent", "/"))).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("Limits::handshake"), "{error:?}");
}

#[wasm_bindgen_test]
async fn an_attempt_that_is_dropped_is_closed_while_it_connects() {
    for path in ["main", "silent"] {
        let mut connecting = WebSocketConnector::new().call(request(&url(path, "/echo")));
        let polled = futures_util::poll!(&mut connecting);
        assert!(polled.is_pending());
        drop(connecting);
    }
    sleep(ms(50)).await;
    open("/echo").await.close(None).await.unwrap();
}
