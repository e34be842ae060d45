//! POSTs of one session, each a byte for its sequence number, a byte for its length, and its body. Whatever they are:
//! the handler gets as many messages as the server says it took, each within the limit, and then an error and the end
//! if one was bad.
#![no_main]

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tower_transport::{
    Limits, TransportExt,
    transport::sse::{SseDuplex, SseDuplexServer},
};

const MESSAGE: usize = 200;

/// Reads to the end; how many messages there were.
async fn read(mut session: SseDuplex) -> u64 {
    let mut messages = 0;
    let mut failed = false;
    while let Some(message) = session.receive_message().await {
        assert!(!failed, "an error of the stream is final");
        match message {
            Ok(message) => {
                assert!(message.len() <= MESSAGE);
                messages += 1;
            }
            Err(_) => failed = true,
        }
    }
    assert!(session.receive_message().await.is_none(), "the end is the end");
    messages
}

async fn run(mut input: &[u8]) {
    let (read_all, messages) = std::sync::mpsc::channel();
    let mut server = SseDuplexServer::new(move |session, _| async move {
        let _ = read_all.send(read(session).await);
    })
    .limits(Limits::new().message(MESSAGE));
    let request = Request::get("/").header("accept", "text/event-stream").body(Full::<Bytes>::default()).expect("a request");
    let mut stream = server.call(request).await.expect("infallible").into_body();
    let first = stream.frame().await.expect("an event").expect("infallible").into_data().expect("data");
    let first = String::from_utf8(first.to_vec()).expect("text");
    let token = first.trim().rsplit(' ').next().expect("a token").to_owned();
    let mut due = 0;
    while let [sequence, length, rest @ ..] = input {
        let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        let request = Request::post("/")
            .header("content-type", "application/vnd.tower-transport.messages")
            .header("tower-transport-session", &token)
            .header("tower-transport-sequence", u64::from(*sequence));
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let answer = server.call(request).await.expect("infallible");
        match answer.status().as_u16() {
            204 | 409 => {
                let now = answer.headers()["tower-transport-sequence"].to_str().expect("ASCII").parse().expect("a number");
                assert!(now >= due, "what was taken stays taken");
                due = now;
            }
            400 | 404 | 413 => {}
            other => panic!("an answer of {other}"),
        }
    }
    drop(stream);
    tokio::task::yield_now().await;
    while let Err(std::sync::mpsc::TryRecvError::Empty) = messages.try_recv().map(|read| assert!(read >= due)) {
        tokio::task::yield_now().await;
    }
}

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(run(input));
});
