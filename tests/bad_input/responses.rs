//! Servers whose handshake is bad, against our connector: each is an error that says which.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;
use tower_transport::{Error, Limits, transport::websocket::WebSocketConnector};

use crate::{
    attack::{called, key, read_head, response},
    within,
};

/// The result of our connector with a server that answers with `answer(right answer)`.
async fn error(answer: impl FnOnce(String) -> Vec<u8>) -> Error {
    within(async {
        let (mut tcp, connecting) = called(Limits::new()).await;
        let right = response(&key(&read_head(&mut tcp).await));
        // A client may refuse, and hang up, before it has read all.
        let _ = tcp.write_all(&answer(right)).await;
        drop(tcp);
        connecting.await.unwrap().map(drop).unwrap_err()
    })
    .await
}

macro_rules! refused {
    ($($name:ident: |$right:ident| $answer:expr => $is:ident, $says:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            #[allow(unused_variables)]
            let error = error(|$right| $answer.into()).await;
            assert!(error.$is(), "{error:?}");
            assert!(error.to_string().contains($says), "{error}");
        }
    )*};
}

refused! {
    garbage_is_a_protocol_error: |right| "\x15\x03\x01\0\x02\x02\x16\r\n\r\n" => is_protocol, "HTTP/1.1";
    silence_is_a_closed_connection: |right| "" => is_closed, "handshake";
    half_a_head_is_a_closed_connection: |right| &right[..40] => is_closed, "handshake";
    a_wrong_accept_is_a_protocol_error: |right| right.replace("accept: ", "accept: x") => is_protocol, "Sec-WebSocket-Accept";
    a_missing_accept_is_a_protocol_error: |right| right.replace("accept: ", "other: ") => is_protocol, "Sec-WebSocket-Accept";
    two_accepts_are_a_protocol_error: |right| right.replace("\r\n\r\n", "\r\nsec-websocket-accept: x\r\n\r\n") => is_protocol, "Sec-WebSocket-Accept";
    a_missing_upgrade_is_a_protocol_error: |right| right.replace("upgrade: websocket\r\n", "") => is_protocol, "not to WebSocket";
    an_upgrade_to_something_else_is_a_protocol_error: |right| right.replace("websocket\r\n", "h2c\r\n") => is_protocol, "not to WebSocket";
    a_missing_connection_is_a_protocol_error: |right| right.replace("connection: upgrade\r\n", "") => is_protocol, "not to WebSocket";
    a_subprotocol_that_was_not_offered_is_a_protocol_error: |right| right.replace("\r\n\r\n", "\r\nsec-websocket-protocol: chat\r\n\r\n") => is_protocol, "`chat`";
    an_extension_that_was_not_offered_is_a_protocol_error: |right| right.replace("\r\n\r\n", "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n") => is_protocol, "extension";
    an_oversized_header_block_is_too_large: |right| right.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "x".repeat(1 << 20))) => is_too_large, "65536";
    too_many_headers_are_too_large: |right| right.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: y\r\n".repeat(1000))) => is_too_large, "";
    another_status_is_a_status: |right| "HTTP/1.1 503 Later\r\ncontent-length: 4\r\n\r\nbusy" => is_status, "503";
    a_redirect_is_a_status: |right| "HTTP/1.1 302 Found\r\nlocation: ws://localhost/\r\ncontent-length: 0\r\n\r\n" => is_status, "302";
    a_success_that_does_not_upgrade_is_a_status: |right| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" => is_status, "200";
    unauthorized_is_an_auth_error: |right| "HTTP/1.1 401 Who\r\ncontent-length: 0\r\n\r\n" => is_auth, "401";
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_body() {
    let error = error(|_| "HTTP/1.1 503 Later\r\ncontent-length: 4\r\n\r\nbusy".into()).await;
    assert_eq!((error.status().unwrap().as_u16(), &error.response_body().unwrap()[..]), (503, &b"busy"[..]));
}

#[tokio::test]
async fn of_an_endless_refusal_64_kib_are_kept() {
    let error = error(|_| {
        let mut answer = b"HTTP/1.1 500 Oh\r\n\r\n".to_vec();
        answer.resize(10 << 20, b'x');
        answer
    })
    .await;
    assert_eq!(error.response_body().unwrap().len(), 64 << 10);
}

#[tokio::test]
async fn a_server_that_does_not_answer_runs_into_the_handshake_limit() {
    let (mut tcp, connecting) = called(Limits::new().handshake(Duration::from_secs(7))).await;
    read_head(&mut tcp).await;
    tokio::time::pause();
    let error = within(connecting).await.unwrap().map(drop).unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert!(error.to_string().contains("7s") && error.to_string().contains("Limits::handshake"), "{error}");
}

#[tokio::test]
async fn a_server_that_trickles_its_answer_runs_into_the_handshake_limit() {
    let (mut tcp, connecting) = called(Limits::new()).await;
    let right = response(&key(&read_head(&mut tcp).await));
    tokio::time::pause();
    let trickle = tokio::spawn(async move {
        for byte in right.bytes() {
            if tcp.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let error = within(connecting).await.unwrap().map(drop).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("10s"), "{error:?}");
    trickle.abort();
}

#[tokio::test]
async fn nobody_at_the_address_is_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let request = http::Request::get(url).body(()).unwrap();
    let error = within(WebSocketConnector::new().oneshot(request)).await.map(drop).unwrap_err();
    assert!(error.is_refused(), "{error:?}");
}

#[tokio::test]
async fn a_reset_in_the_handshake_is_a_closed_connection() {
    let (mut tcp, connecting) = called(Limits::new()).await;
    read_head(&mut tcp).await;
    reset(tcp);
    let error = within(connecting).await.unwrap().map(drop).unwrap_err();
    assert!(error.is_closed(), "{error:?}");
}

/// Ends a connection by RST instead of FIN.
pub(crate) fn reset(tcp: TcpStream) {
    tcp.set_zero_linger().unwrap();
}
