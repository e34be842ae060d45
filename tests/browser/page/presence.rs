//! A page that is offline, hidden or comes back.

use std::{cell::Cell, rc::Rc};

use js_sys::Function;
use tower::{ServiceBuilder, service_fn};
use tower_transport::{
    Error, Message, QueueConfig, ServiceBuilderExt, TransportExt,
    layer::reconnect::Backoff,
    transport::websocket::{WebSocket, WebSocketConnector},
};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{ms, sleep, url};

/// Runs JavaScript.
fn run(script: &str) -> JsValue {
    Function::new_no_args(script).call0(&JsValue::NULL).unwrap()
}

/// The browser's answers about the page.
fn pretend(object: &str, property: &str, value: bool) {
    run(&format!("Object.defineProperty({object}, '{property}', {{ configurable: true, get: () => {value} }});"));
}

fn tell(target: &str, event: &str) {
    run(&format!("{target}.dispatchEvent(new Event('{event}'));"));
}

/// A transport whose attempts fail and are counted.
fn failing() -> (impl Drop, Rc<Cell<u32>>) {
    struct Held<T>(#[allow(dead_code, reason = "it is dropped")] T);
    impl<T> Drop for Held<T> {
        fn drop(&mut self) {}
    }
    let attempts = Rc::new(Cell::new(0));
    let counted = attempts.clone();
    let connector = service_fn(move |_: http::Request<()>| {
        counted.set(counted.get() + 1);
        std::future::ready(Err::<http::Response<WebSocket>, _>(Error::refused("nobody listens")))
    });
    let transport = ServiceBuilder::new().reconnect("ws://localhost/", Backoff::fixed(ms(20))).service(connector);
    (Held(transport.drive(QueueConfig::messages()).spawn()), attempts)
}

#[wasm_bindgen_test]
async fn a_page_that_is_offline_makes_no_attempt_and_connects_at_once_when_it_is_online() {
    let (held, attempts) = failing();
    sleep(ms(300)).await;
    assert!(attempts.get() >= 3, "{} attempts", attempts.get());
    pretend("navigator", "onLine", false);
    tell("window", "offline");
    sleep(ms(50)).await;
    let before = attempts.get();
    sleep(ms(500)).await;
    assert_eq!(attempts.get(), before);
    pretend("navigator", "onLine", true);
    tell("window", "online");
    sleep(ms(10)).await;
    assert!(attempts.get() > before, "no attempt after the network came back");
    drop(held);
}

#[wasm_bindgen_test]
async fn a_hidden_page_makes_no_attempt_for_a_minute_and_connects_at_once_when_it_is_seen() {
    let (held, attempts) = failing();
    for (event, target) in [("visibilitychange", "document"), ("resume", "document"), ("pageshow", "window")] {
        pretend("document", "hidden", true);
        tell("document", "visibilitychange");
        sleep(ms(100)).await;
        let before = attempts.get();
        sleep(ms(300)).await;
        assert_eq!(attempts.get(), before);
        pretend("document", "hidden", false);
        tell(target, event);
        sleep(ms(10)).await;
        assert!(attempts.get() > before, "no attempt after `{event}`");
    }
    drop(held);
}

#[wasm_bindgen_test]
async fn a_connection_that_works_is_left_alone_when_the_page_is_hidden_and_seen() {
    let transport = ServiceBuilder::new()
        .reconnect(url("main", "/echo").as_str(), Backoff::exponential())
        .service(WebSocketConnector::new());
    let handle = transport.handle();
    let mut transport = Box::pin(transport);
    transport.send_message(Message::text("1")).await.unwrap();
    pretend("document", "hidden", true);
    tell("document", "visibilitychange");
    pretend("document", "hidden", false);
    tell("document", "visibilitychange");
    tell("window", "online");
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("1"));
    assert_eq!(handle.connections(), 1);
}

#[wasm_bindgen_test]
async fn a_thousand_transports_leave_no_listener_behind() {
    drop(failing());
    sleep(ms(50)).await;
    let counts: Function = run("const counts = [0, 0];
         for (const [index, name] of ['addEventListener', 'removeEventListener'].entries()) {
             const original = EventTarget.prototype[name];
             EventTarget.prototype[name] = function (...args) { counts[index]++; return original.apply(this, args); };
         }
         return () => counts.join();")
    .into();
    for _ in 0..1000 {
        let connector = service_fn(|_: http::Request<()>| {
            std::future::ready(Err::<http::Response<WebSocket>, _>(Error::refused("nobody listens")))
        });
        drop(ServiceBuilder::new().reconnect::<Message>("ws://localhost/", Backoff::exponential()).service(connector));
    }
    assert_eq!(counts.call0(&JsValue::NULL).unwrap(), "6000,6000");
}
