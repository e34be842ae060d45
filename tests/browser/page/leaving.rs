//! Pages that leave, and tokens that end.

use js_sys::Function;
use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{
    Message, ServiceBuilderExt, TransportExt,
    layer::{
        auth::{FirstMessageLayer, Tokens},
        reconnect::{Class, classify},
    },
    transport::websocket::WebSocketConnector,
};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{ms, open, request, sleep, url};

/// Opens a page in this one, which sends messages of 64 KiB without a pause, and takes it away after 300 ms.
fn leave_in_the_middle(url: &str) {
    let leave = Function::new_with_args(
        "url",
        "const page = document.createElement('iframe');
         page.srcdoc = `<script>
             const socket = new WebSocket('${url}');
             socket.onopen = () => setInterval(() => {
                 for (let i = 0; i < 50; i++) socket.send(new Uint8Array(65536).fill(7));
             }, 1);
         </script>`;
         document.body.append(page);
         setTimeout(() => page.remove(), 300);",
    );
    leave.call1(&JsValue::NULL, &JsValue::from_str(url)).unwrap();
}

#[wasm_bindgen_test]
async fn a_page_that_closes_in_the_middle_of_sending_leaves_whole_messages_and_an_end_at_the_server() {
    leave_in_the_middle(&url("main", "/left"));
    for _ in 0..100 {
        sleep(ms(100)).await;
        let mut socket = open("/last").await;
        let last = socket.receive_message().await.unwrap().unwrap();
        let last = last.as_text().unwrap();
        if let Some((whole, end)) = last.split_once(" whole, ") {
            assert!(whole.parse::<u32>().unwrap() > 0, "{last}");
            assert!(end.ends_with("over: true"), "{last}");
            return assert!(end.starts_with("cut") || end.contains("1001"), "{last}");
        }
    }
    panic!("the server has seen no end");
}

#[wasm_bindgen_test]
async fn a_token_that_expires_ends_the_connection_with_a_code_that_a_page_can_read() {
    let stack = |token: &str| {
        let first = FirstMessageLayer::new(Tokens::fixed(token));
        let connector = ServiceBuilder::new().per_connection(first).service(WebSocketConnector::new());
        connector.oneshot(request(&url("main", "/expiring")))
    };
    let mut transport = Box::pin(stack("fresh").await.unwrap().into_body());
    transport.send_message(Message::text("hi")).await.unwrap();
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("hi"));
    let Message::Close(Some(frame)) = transport.receive_message().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(frame.code().get(), 4401);
    let error = transport.send_message(Message::text("late")).await.unwrap_err();
    assert_eq!(error.close_frame(), Some(&frame));
    assert_eq!(classify(&error), Class::Final, "a reconnect layer gives up");

    let mut transport = Box::pin(stack("stale").await.unwrap().into_body());
    let Message::Close(Some(frame)) = transport.receive_message().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(frame.code().get(), 4401);
}
