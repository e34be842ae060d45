//! The page goes on while messages are moved: frames, input and timers have their turn.

use std::{cell::Cell, rc::Rc};

use tower_transport::{Message, Transport, TransportExt, transport::sse::SseDuplexConnector};
use wasm_bindgen::{JsCast, closure::Closure};
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::{Event, MessageChannel};

use crate::{http_url, ms, open, sleep};

const MESSAGES: u32 = 1_000;

/// Counts the tasks that the browser runs next to ours, each of which requests the next one.
fn count_tasks() -> (Rc<Cell<u32>>, impl Drop) {
    struct Stop(MessageChannel, #[allow(dead_code, reason = "it is called")] Closure<dyn FnMut(Event)>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.port1().set_onmessage(None);
        }
    }
    let (channel, tasks) = (MessageChannel::new().unwrap(), Rc::new(Cell::new(0)));
    let (counted, port) = (tasks.clone(), channel.port2());
    let listener = Closure::<dyn FnMut(Event)>::new(move |_: Event| {
        counted.set(counted.get() + 1);
        port.post_message(&wasm_bindgen::JsValue::NULL).unwrap();
    });
    channel.port1().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    channel.port2().post_message(&wasm_bindgen::JsValue::NULL).unwrap();
    (tasks, Stop(channel, listener))
}

/// The work of a page for a message: a tenth of a millisecond of work.
fn work() {
    let start = js_sys::Date::now();
    let until = start + 1.0;
    thread_local!(static CREDIT: Cell<u32> = const { Cell::new(0) });
    // `Date` counts milliseconds, so each tenth message works for a whole one.
    let due = CREDIT.with(|credit| {
        credit.set(credit.get() + 1);
        credit.get() % 10 == 0
    });
    while due && js_sys::Date::now() < until {}
}

async fn reads_in_turns<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = tower_transport::Error> + Unpin,
{
    // Everything is in the page before the first message is read.
    sleep(ms(1500)).await;
    let (tasks, stop) = count_tasks();
    for _ in 0..MESSAGES {
        transport.receive_message().await.unwrap().unwrap();
        work();
    }
    // 100 ms in turns of 5 ms.
    assert!(tasks.get() >= 8, "{} tasks had their turn", tasks.get());
    drop(stop);
}

#[wasm_bindgen_test]
async fn a_page_that_reads_a_thousand_waiting_messages_goes_on_meanwhile() {
    reads_in_turns(open(&format!("/flood?count={MESSAGES}&bytes=20")).await).await;
}

#[wasm_bindgen_test]
async fn a_page_that_reads_a_thousand_waiting_events_goes_on_meanwhile() {
    let mut session = SseDuplexConnector::new().connect(&http_url("sse", "/")).await.unwrap();
    for number in 0..MESSAGES {
        futures_util::SinkExt::feed(&mut session, Message::text(number.to_string())).await.unwrap();
    }
    futures_util::SinkExt::flush(&mut session).await.unwrap();
    reads_in_turns(session).await;
}

#[wasm_bindgen_test]
async fn a_page_that_sends_a_thousand_messages_goes_on_meanwhile() {
    let mut socket = open("/echo").await;
    let (tasks, stop) = count_tasks();
    for _ in 0..MESSAGES {
        // All of them fit into the browser's buffer.
        futures_util::SinkExt::feed(&mut socket, Message::text("few bytes")).await.unwrap();
        work();
    }
    assert!(tasks.get() >= 8, "{} tasks had their turn", tasks.get());
    drop(stop);
}
