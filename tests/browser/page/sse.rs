//! Server-sent events by `fetch`: both ways with POSTs, and receive-only. The page is of another origin than the server.

use futures_util::{SinkExt, StreamExt};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, ServiceBuilderExt, TransportExt,
    layer::reconnect::{Backoff, Class, classify},
    stack::OptimizedTransport,
    transport::sse::{SseConnector, SseDuplex, SseDuplexConnector},
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{http_url, ms, request, sleep};

async fn open(path: &str) -> SseDuplex {
    SseDuplexConnector::new().connect(&http_url("sse", path)).await.unwrap()
}

#[wasm_bindgen_test]
async fn a_session_carries_text_binary_and_pings_both_ways_up_to_4_mib() {
    let connector = SseDuplexConnector::new().subprotocol("chat.v1").unwrap();
    let response = connector.oneshot(request(&http_url("sse", "/echo"))).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut session = response.into_body();
    assert_eq!(session.subprotocol(), Some("chat.v1"));
    let large = vec![7; 4 << 20];
    for message in [Message::text("gr\u{fc}\u{df}e \u{1F980}\r\n"), Message::text(""), Message::binary(large)] {
        session.send_message(message.clone()).await.unwrap();
        assert!(session.receive_message().await.unwrap().unwrap() == message, "another message came back");
    }
    session.send_message(Message::Ping("alive?".into())).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), Message::Pong("alive?".into()));
}

#[wasm_bindgen_test]
async fn ten_thousand_messages_each_way_over_posts_arrive_in_order() {
    let (mut sink, mut stream) = open("/echo").await.into_split();
    let sending = async {
        for number in 0..10_000 {
            sink.feed(Message::text(number.to_string())).await.unwrap();
        }
        sink.flush().await.unwrap();
    };
    let receiving = async {
        for number in 0..10_000 {
            assert_eq!(stream.next().await.unwrap().unwrap(), Message::text(number.to_string()));
        }
    };
    futures_util::future::join(sending, receiving).await;
}

#[wasm_bindgen_test]
async fn either_end_of_a_session_closes_and_a_cut_is_an_error_of_a_closed_connection() {
    let frame = CloseFrame::new(CloseCode::new(4000).unwrap(), "done");
    let answer = open("/echo").await.close(Some(frame.clone())).await.unwrap();
    assert_eq!(answer, Some(frame));
    let mut session = open("/close").await;
    let closed = session.receive_message().await.unwrap().unwrap();
    assert!(matches!(closed, Message::Close(Some(frame)) if frame.code().get() == 4001));
    assert!(session.receive_message().await.is_none());
    let mut session = open("/echo").await;
    session.send_message(Message::text("cut")).await.unwrap();
    assert!(session.receive_message().await.unwrap().unwrap_err().is_closed());
    assert!(session.receive_message().await.is_none());
}

#[wasm_bindgen_test]
async fn a_message_over_the_limit_is_rejected_and_the_session_goes_on() {
    let limits = Limits::new().message(1000);
    let connector = SseDuplexConnector::new().limits(limits);
    let mut session = connector.connect(&http_url("sse", "/echo")).await.unwrap();
    let error = session.send_message(Message::binary(vec![7; 1001])).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    session.send_message(Message::text("small")).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), Message::text("small"));
}

#[wasm_bindgen_test]
async fn a_page_that_does_not_read_slows_the_server_down() {
    let mut session = open("/flood").await;
    session.receive_message().await.unwrap().unwrap();
    sleep(ms(500)).await;
    let sent = open("/flooded").await.receive_message().await.unwrap().unwrap();
    let sent: u32 = sent.as_text().unwrap().parse().unwrap();
    assert!(sent < 900, "the server has sent {sent} of 1,000 messages of 64 KiB");
    for number in 1..1000_u32 {
        let message = session.receive_message().await.unwrap().unwrap();
        assert_eq!(message.as_bytes()[..4], number.to_le_bytes());
    }
}

#[wasm_bindgen_test]
async fn a_refusal_has_its_status_and_what_a_page_cannot_send_is_a_config_error() {
    let mut unknown = request(&http_url("events", "/secret"));
    let error = SseDuplexConnector::new().oneshot(unknown.clone()).await.unwrap_err();
    assert!(error.is_auth() && error.status().unwrap() == 401, "{error:?}");
    let offering = SseDuplexConnector::new().subprotocol("chat.v1").unwrap();
    let error = offering.oneshot(unknown.clone()).await.unwrap_err();
    assert!(error.is_io(), "the server does not permit the header: {error:?}");
    let error = SseConnector::new().oneshot(unknown.clone()).await.unwrap_err();
    assert!(error.is_auth() && error.response_body().is_some_and(|body| &body[..] == b"who are you?"), "{error:?}");
    assert_eq!(classify(&error), Class::Final);
    unknown.headers_mut().insert("authorization", "Bearer 6f1c".parse().unwrap());
    SseConnector::new().oneshot(unknown.clone()).await.unwrap();
    unknown.headers_mut().insert("cookie", "a=b".parse().unwrap());
    let error = SseConnector::new().oneshot(unknown).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("`cookie`"), "{error:?}");
    let error = SseConnector::new().connect("http://127.0.0.1:1/").await.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("console"), "{error:?}");
    let limits = Limits::new().handshake(ms(100));
    let error = SseDuplexConnector::new().limits(limits).connect(&http_url("silent", "/")).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[wasm_bindgen_test]
async fn an_event_source_continues_from_the_last_id_after_the_servers_delay_and_ends_with_204() {
    let source = SseConnector::new();
    let backoff = Backoff::fixed(ms(1));
    let events = ServiceBuilder::new().reconnect(http_url("events", "/").as_str(), backoff).service(source.clone());
    let mut events = Box::pin(events);
    for id in 1..=9 {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.event_type(), &**event.data()), ("count", id.to_string().as_str()));
    }
    assert_eq!((source.last_event_id().as_str(), source.retry()), ("9", Some(ms(20))));
    assert_eq!(events.next().await.unwrap().unwrap_err().status().unwrap(), 204);
    assert!(events.next().await.is_none());
}

#[wasm_bindgen_test]
async fn the_stack_runs_over_a_session_and_resumes_it() {
    let mut transport = OptimizedTransport::builder()
        .backoff(Backoff::fixed(ms(5)))
        .connect_with(SseDuplexConnector::new(), http_url("sse-stack", "/").as_str())
        .await
        .unwrap();
    assert!(transport.capabilities().resume() && transport.capabilities().batch());
    let handle = transport.handle();
    for number in 0..3 {
        transport.send_message(Message::text(number.to_string())).await.unwrap();
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text(number.to_string()));
        handle.reconnect().unwrap().reconnect_now();
    }
    assert!(handle.reconnect().unwrap().connections() >= 3);
    assert_eq!(handle.reconnect().unwrap().lost(), 0);
}

/// One session, which ends in one of four ways.
async fn live(number: u32) {
    match number % 4 {
        0 => drop(open("/echo").await),
        1 => drop(open("/echo").await.close(None).await.unwrap()),
        2 => {
            let mut session = open("/echo").await;
            session.send_message(Message::text("hi")).await.unwrap();
            session.receive_message().await.unwrap().unwrap();
        }
        _ => {
            let mut connecting = SseDuplexConnector::new().call(request(&http_url("sse", "/echo")));
            assert!(futures_util::poll!(&mut connecting).is_pending());
            sleep(ms(1)).await;
        }
    }
}

#[wasm_bindgen_test]
async fn a_thousand_sessions_leave_no_object_behind() {
    for number in 0..40 {
        live(number).await;
    }
    sleep(ms(200)).await;
    let objects = wasm_bindgen::externref_heap_live_count();
    let memory = core::arch::wasm32::memory_size(0);
    for number in 0..1000 {
        live(number).await;
    }
    sleep(ms(200)).await;
    let left = wasm_bindgen::externref_heap_live_count().saturating_sub(objects);
    assert!(left < 10, "{left} objects of the browser are still held");
    let grown = core::arch::wasm32::memory_size(0) - memory;
    assert!(grown <= 8, "the memory has grown by {grown} pages");
}
