//! The browser's WebTransport, with the semantics of the native one.

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::Response;
use tower::{Service, ServiceExt};
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, TransportExt,
    transport::webtransport::{CertificateHash, Session, WebTransportConnector, WebTransportStream},
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{ms, parameter, request, sleep};

pub(crate) fn https_url(listener: &str, path: &str) -> String {
    format!("https://{}{path}", parameter(listener))
}

pub(crate) fn connector() -> WebTransportConnector {
    let hashes = parameter("wt-hash");
    let hashes = hashes.split(',').map(|hash| hash.parse::<CertificateHash>().unwrap());
    WebTransportConnector::new().certificate_hashes(hashes).limits(Limits::new().message(5 << 20))
}

async fn answer(connector: WebTransportConnector, path: &str) -> Result<Response<WebTransportStream>, Error> {
    connector.oneshot(request(&https_url("wt", path))).await
}

async fn open(path: &str) -> WebTransportStream {
    answer(connector(), path).await.unwrap().into_body()
}

async fn session(path: &str) -> Session {
    connector().connect_session(request(&https_url("wt", path))).await.unwrap().into_body()
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame::new(CloseCode::new(code).unwrap(), reason)
}

/// Returns how the last session and its streams ended at the server.
async fn last_at_the_server() -> String {
    sleep(ms(100)).await;
    let mut stream = open("/last").await;
    stream.receive_message().await.unwrap().unwrap().as_text().unwrap().to_owned()
}

#[wasm_bindgen_test]
async fn text_and_binary_of_every_size_come_back_unchanged() {
    let mut stream = open("/echo").await;
    let text = |size: usize| Message::text("\u{e9}".repeat(size / 2));
    let binary = |size: usize| Message::binary((0..size).map(|i| i as u8).collect::<Vec<_>>());
    for message in [text(0), text(62), binary(0), binary(63), binary(64), text(16_384), binary(100_000)] {
        stream.send_message(message.clone()).await.unwrap();
        assert_eq!(stream.receive_message().await.unwrap().unwrap(), message);
    }
    for message in [text(4 << 20), binary(4 << 20)] {
        let (sender, receiver) = (&message, message.clone());
        stream.send_message(sender.clone()).await.unwrap();
        assert!(stream.receive_message().await.unwrap().unwrap() == receiver);
    }
    // Pings are answered by the other end, and seen by neither application.
    stream.send_message(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::Pong("are you there".into()));
}

#[wasm_bindgen_test]
async fn ten_thousand_messages_each_way_keep_their_order() {
    let (mut sender, mut receiver) = open("/echo").await.split();
    wasm_bindgen_futures::spawn_local(async move {
        for number in 0..10_000 {
            sender.feed(Message::text(format!("number {number}"))).await.unwrap();
        }
        sender.flush().await.unwrap();
    });
    for number in 0..10_000 {
        let message = receiver.next().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(format!("number {number}").as_str()));
    }
}

#[wasm_bindgen_test]
async fn the_response_has_the_status_and_the_servers_choice_of_a_subprotocol() {
    let offers = connector().subprotocol("chat.v0").unwrap().subprotocol("chat.v1").unwrap();
    let response = answer(offers, "/echo").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v1");
    assert_eq!(response.body().subprotocol(), Some("chat.v1"));
    let response = answer(connector(), "/echo").await.unwrap();
    assert!(response.headers().is_empty() && response.body().subprotocol().is_none());
}

#[wasm_bindgen_test]
async fn the_streams_of_a_session_are_transports_of_their_own() {
    let session = session("/echo").await;
    let mut streams = session.create_multiplexed_streams(5).await.unwrap();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.send_message(Message::text(number.to_string())).await.unwrap();
    }
    // One that is dropped does not matter to the others.
    drop(streams.remove(2));
    for (stream, number) in streams.iter_mut().zip(["0", "1", "3", "4"]) {
        assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::text(number));
    }
}

#[wasm_bindgen_test]
async fn streams_that_the_server_opens_are_accepted_and_none_is_lost_with_a_dropped_future() {
    let session = session("/opens").await;
    // It reads, and is dropped before there is anything.
    assert!(session.accept().now_or_never().is_none());
    let _asks = session.open().await.unwrap();
    let mut came = Vec::new();
    for _ in 0..3 {
        let mut stream = session.accept().await.unwrap();
        came.push(stream.receive_message().await.unwrap().unwrap().as_text().unwrap().to_owned());
    }
    came.sort();
    assert_eq!(came, ["number 0", "number 1", "number 2"]);
}

#[wasm_bindgen_test]
async fn unidirectional_streams_carry_messages_and_a_close_frame() {
    let session = session("/echo").await;
    let mut sender = session.open_uni().await.unwrap();
    sender.send(Message::text("one way")).await.unwrap();
    sender.close(Some(frame(4001, "all sent"))).await.unwrap();
    let mut receiver = session.accept_uni().await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), Message::text("one way"));
    assert_eq!(receiver.next().await.unwrap().unwrap(), Message::Close(Some(frame(4001, "all sent"))));
    assert!(receiver.next().await.is_none());
    assert_eq!(receiver.close_frame(), Some(&frame(4001, "all sent")));
}

#[wasm_bindgen_test]
async fn datagrams_come_back_as_binary_and_what_has_no_form_or_is_too_large_is_rejected() {
    let session = session("/echo").await;
    let mut datagrams = session.datagrams();
    // A datagram may get lost; over loopback, one of a few arrives.
    let mut back = None;
    for _ in 0..50 {
        datagrams.send_message(Message::text("x=3 y=4")).await.unwrap();
        let waiting = futures_util::future::select(datagrams.receive_message(), Box::pin(sleep(ms(100))));
        if let futures_util::future::Either::Left((received, _)) = waiting.await {
            back = received;
            break;
        }
    }
    assert_eq!(back.unwrap().unwrap(), Message::binary("x=3 y=4"));
    let limit = datagrams.max_size();
    assert!((1_000..=65_535).contains(&limit), "{limit}");
    let error = datagrams.send_message(Message::binary(vec![0; limit + 1])).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    let error = datagrams.send_message(Message::Ping("no form".into())).await.unwrap_err();
    assert!(error.is_config() && error.is_rejection(), "{error:?}");
    assert!(datagrams.counts().sent() >= 1 && datagrams.counts().refused() == 2, "{:?}", datagrams.counts());
    // A second handle of the same session.
    session.datagrams().send_message(Message::text("again")).await.unwrap();
    session.close(frame(1000, ""));
    while let Some(Ok(_)) = datagrams.receive_message().await {}
    assert!(datagrams.send_message(Message::text("late")).await.unwrap_err().is_closed());
}

#[wasm_bindgen_test]
async fn the_code_and_the_reason_of_the_servers_close_end_all_of_the_session() {
    let session = session("/close").await;
    let mut datagrams = session.datagrams();
    let mut stream = session.open().await.unwrap();
    let error = stream.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.close_frame() == Some(&frame(4002, "enough")), "{error:?}");
    assert!(stream.receive_message().await.is_none());
    assert_eq!(stream.close_frame(), Some(&frame(4002, "enough")));
    let error = stream.send_message(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed() && error.close_frame() == Some(&frame(4002, "enough")), "{error:?}");
    let error = session.closed().await;
    assert!(error.is_closed() && error.close_frame() == Some(&frame(4002, "enough")), "{error:?}");
    assert_eq!(datagrams.receive_message().await.unwrap().unwrap(), Message::Close(Some(frame(4002, "enough"))));
    assert!(datagrams.receive_message().await.is_none());
    for error in [session.open().await.unwrap_err(), session.accept().await.unwrap_err()] {
        assert!(error.is_closed() && error.close_frame() == Some(&frame(4002, "enough")), "{error:?}");
    }
}

#[wasm_bindgen_test]
async fn the_code_and_the_reason_of_the_pages_close_arrive_at_the_server() {
    let stream = open("/echo").await;
    stream.session().close(frame(4003, "the page is done"));
    let error = stream.session().closed().await;
    assert!(error.is_closed() && error.close_frame().is_none(), "{error:?}");
    let last = last_at_the_server().await;
    assert!(last.contains("4003") && last.contains("the page is done"), "{last}");
}

#[wasm_bindgen_test]
async fn either_end_closes_a_stream_with_a_code_and_a_reason_and_the_session_goes_on() {
    let mut stream = open("/echo").await;
    for number in 0..100 {
        stream.feed(Message::binary(vec![number; 10_000])).await.unwrap();
    }
    let session = stream.session().clone();
    assert_eq!(stream.close(Some(frame(4001, "bye"))).await.unwrap(), Some(frame(4001, "bye")));
    assert!(stream.send_message(Message::text("late")).await.unwrap_err().is_closed());
    let mut other = session.open().await.unwrap();
    other.send_message(Message::text("still here")).await.unwrap();
    assert_eq!(other.receive_message().await.unwrap().unwrap(), Message::text("still here"));
    drop((stream, other, session));
    let last = last_at_the_server().await;
    assert!(last.contains("4001") && last.contains("bye"), "{last}");

    let mut stream = open("/close-stream").await;
    let end = stream.receive_message().await.unwrap().unwrap();
    assert_eq!(end, Message::Close(Some(frame(4001, "done"))));
    assert!(stream.receive_message().await.is_none());
    assert!(stream.session().open().await.is_ok());
}

#[wasm_bindgen_test]
async fn a_stream_that_the_server_drops_or_resets_is_an_error_of_a_closed_stream() {
    for path in ["/cut", "/reset"] {
        let mut stream = open(path).await;
        let error = stream.receive_message().await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert!(stream.receive_message().await.is_none());
        assert!(stream.session().open().await.is_ok(), "the session goes on");
    }
}

#[wasm_bindgen_test]
async fn a_message_over_the_limit_is_rejected_on_the_way_out_and_fatal_on_the_way_in() {
    let mut stream = answer(connector().limits(Limits::new().message(1000)), "/echo").await.unwrap().into_body();
    let error = stream.send_message(Message::binary(vec![0; 1001])).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    stream.send_message(Message::binary(vec![0; 1000])).await.unwrap();
    assert_eq!(stream.receive_message().await.unwrap().unwrap().len(), 1000);
    let mut stream = answer(connector().limits(Limits::new().message(1000)), "/flood").await.unwrap().into_body();
    let error = stream.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_too_large() && !error.is_rejection(), "{error:?}");
    assert!(stream.receive_message().await.is_none());
}

#[wasm_bindgen_test]
async fn a_server_that_reads_late_makes_the_sink_wait_and_loses_nothing() {
    let mut stream = open("/late").await;
    let message = Message::binary(vec![9; 256 << 10]);
    let mut accepted = 0;
    // The windows of QUIC and the browser's buffers take some megabytes.
    for _ in 0..200 {
        let sent = futures_util::future::select(Box::pin(stream.send(message.clone())), Box::pin(sleep(ms(150))));
        if matches!(sent.await, futures_util::future::Either::Right(_)) {
            break;
        }
        accepted += 1;
    }
    assert!(accepted < 100, "{accepted} messages of 256 KiB are not held back");
    for _ in 0..accepted {
        let back = stream.receive_message().await.unwrap().unwrap();
        assert_eq!(back.len(), 256 << 10);
    }
}

#[wasm_bindgen_test]
async fn a_page_that_does_not_read_holds_the_server_back() {
    let mut stream = open("/flood").await;
    sleep(ms(300)).await;
    // All of the 64 MB come, in order, as fast as they are read.
    for number in 0..1000_u32 {
        let message = stream.receive_message().await.unwrap().unwrap();
        assert_eq!(message.as_bytes()[..4], number.to_le_bytes());
    }
}

#[wasm_bindgen_test]
async fn a_session_that_is_not_established_is_an_io_error_that_says_where_the_reason_is() {
    let refused = connector().connect(&https_url("wt", "/nowhere")).await.unwrap_err();
    let origin = connector().connect(&https_url("wt-strict", "/echo")).await.unwrap_err();
    let untrusted = WebTransportConnector::new().certificate_hashes([CertificateHash::from([7; 32])]);
    let untrusted = untrusted.connect(&https_url("wt", "/echo")).await.unwrap_err();
    let closed = connector().connect("https://127.0.0.1:9/").await.unwrap_err();
    for error in [refused, origin, untrusted, closed] {
        assert!(error.is_io() && error.to_string().contains("console"), "{error:?}");
    }
    let connector = connector().limits(Limits::new().handshake(ms(100)));
    let error = connector.connect(&https_url("wt-silent", "/")).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("Limits::handshake"), "{error:?}");
}

#[wasm_bindgen_test]
async fn a_url_or_a_header_that_cannot_work_is_a_config_error() {
    for url in ["http://127.0.0.1/", "ws://127.0.0.1/", "ftp://example.com/", "https://user:secret@127.0.0.1/"] {
        let error = connector().connect(url).await.unwrap_err();
        assert!(error.is_config() && !error.to_string().contains("secret"), "{url}: {error:?}");
    }
    let mut request = request(&https_url("wt", "/echo"));
    request.headers_mut().insert("authorization", "Bearer 6f1c".parse().unwrap());
    let error = connector().oneshot(request).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("`authorization`"), "{error:?}");
}

/// One session, which ends in one of five ways.
async fn live(number: u32) {
    match number % 5 {
        0 => drop(open("/echo").await),
        1 => drop(open("/echo").await.close(None).await.unwrap()),
        2 => {
            let mut stream = open("/echo").await;
            stream.send_message(Message::text("hi")).await.unwrap();
            stream.receive_message().await.unwrap().unwrap();
            let mut datagrams = stream.session().datagrams();
            datagrams.send_message(Message::text("hi")).await.unwrap();
            assert!(datagrams.receive_message().now_or_never().is_none());
        }
        3 => {
            let mut connecting = connector().call(request(&https_url("wt", "/echo")));
            assert!(futures_util::poll!(&mut connecting).is_pending());
        }
        _ => {
            let session = session("/close").await;
            let _stream = session.open().await.unwrap();
            session.closed().await;
        }
    }
}

#[wasm_bindgen_test]
async fn sessions_leave_no_object_behind() {
    for number in 0..20 {
        live(number).await;
    }
    sleep(ms(600)).await;
    let objects = wasm_bindgen::externref_heap_live_count();
    let memory = core::arch::wasm32::memory_size(0);
    for number in 0..500 {
        live(number).await;
    }
    sleep(ms(600)).await;
    let left = wasm_bindgen::externref_heap_live_count().saturating_sub(objects);
    assert!(left < 10, "{left} objects of the browser are still held");
    let grown = core::arch::wasm32::memory_size(0) - memory;
    assert!(grown <= 8, "the memory has grown by {grown} pages");
}
