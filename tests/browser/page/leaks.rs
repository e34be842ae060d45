//! Nothing stays behind in the browser.

use js_sys::{Array, Function};
use tower::Service;
use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{ms, open, request, sleep, url};

/// Counts the listeners of WebSockets from now on. Returns `() => [added, removed]`.
fn count_listeners() -> Function {
    let counter = Function::new_no_args(
        "const counts = [0, 0];
         for (const [index, name] of ['addEventListener', 'removeEventListener'].entries()) {
             const original = WebSocket.prototype[name];
             WebSocket.prototype[name] = function (...args) { counts[index]++; return original.apply(this, args); };
         }
         return () => counts;",
    );
    counter.call0(&wasm_bindgen::JsValue::NULL).unwrap().into()
}

fn listeners(counts: &Function) -> (f64, f64) {
    let counts: Array = counts.call0(&wasm_bindgen::JsValue::NULL).unwrap().into();
    (counts.get(0).as_f64().unwrap(), counts.get(1).as_f64().unwrap())
}

/// One connection, which ends in one of four ways.
async fn live(number: u32) {
    match number % 4 {
        0 => drop(open("/echo").await),
        1 => drop(open("/echo").await.close(None).await.unwrap()),
        2 => {
            let mut socket = open("/echo").await;
            socket.send_message(Message::text("hi")).await.unwrap();
            socket.receive_message().await.unwrap().unwrap();
        }
        _ => {
            let mut connecting = WebSocketConnector::new().call(request(&url("main", "/echo")));
            assert!(futures_util::poll!(&mut connecting).is_pending());
        }
    }
}

#[wasm_bindgen_test]
async fn a_thousand_connections_leave_no_listener_and_no_object_behind() {
    for number in 0..40 {
        live(number).await;
    }
    sleep(ms(100)).await;
    let counts = count_listeners();
    let objects = wasm_bindgen::externref_heap_live_count();
    let memory = core::arch::wasm32::memory_size(0);
    for number in 0..1000 {
        live(number).await;
    }
    sleep(ms(100)).await;
    let (added, removed) = listeners(&counts);
    assert_eq!((added, removed), (4000.0, 4000.0));
    let left = wasm_bindgen::externref_heap_live_count().saturating_sub(objects);
    assert!(left < 10, "{left} objects of the browser are still held");
    let grown = core::arch::wasm32::memory_size(0) - memory;
    assert!(grown <= 4, "the memory has grown by {grown} pages");
}
