//! Clients whose handshake is bad, against our server: refused with a status and a sentence, and no session begins.

use std::io::ErrorKind;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_transport::{Error, Limits, Message};

use crate::{
    attack::{REQUEST, our_server, read_head},
    wire::{CLOSE, FIN, From, TEXT, close_code, frame},
    within,
};

/// Sends `request`, and gives all that comes back until the server hangs up.
async fn answer(request: &[u8]) -> String {
    within(async {
        let (address, mut sockets) = our_server(Limits::new()).await;
        let mut tcp = TcpStream::connect(address).await.unwrap();
        // A server may refuse, and hang up, before it has read all.
        let _ = tcp.write_all(request).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        if let Err(error) = tcp.read_to_end(&mut answer).await {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert!(sockets.try_recv().is_err(), "a session began");
        String::from_utf8(answer).unwrap()
    })
    .await
}

/// A good request with one more line.
fn with(line: &str) -> String {
    REQUEST.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

macro_rules! refused {
    ($($name:ident: $request:expr => $status:literal, $says:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let request = $request;
            let answer = answer(request.as_ref()).await;
            assert!(answer.starts_with(concat!("HTTP/1.1 ", $status)), "{answer}");
            assert!(answer.to_ascii_lowercase().contains($says), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer to one request: {answer}");
            assert!(!answer.to_ascii_lowercase().contains("set-cookie"), "{answer}");
        }
    )*};
}

refused! {
    garbage_is_a_bad_request: "\x16\x03\x01\0\0\r\n\r\n" => 400, "";
    a_plain_request_is_told_to_upgrade: "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" => 426, "upgrade: websocket";
    a_post_is_not_allowed: REQUEST.replacen("GET", "POST", 1) => 405, "get request";
    another_version_is_told_ours: REQUEST.replace("version: 13", "version: 8") => 426, "sec-websocket-version: 13";
    no_host_is_refused: REQUEST.replace("host: localhost\r\n", "") => 400, "host";
    a_missing_key_is_refused: REQUEST.replace("key: ", "other: ") => 400, "sec-websocket-key";
    a_key_of_another_length_is_refused: REQUEST.replace("ZQ==", "") => 400, "16 bytes";
    two_keys_are_refused: with("sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==") => 400, "one sec-websocket-key";
    two_versions_are_refused: with("sec-websocket-version: 13") => 426, "13";
    a_page_of_another_origin_is_refused: with("origin: https://evil.example") => 403, "origin";
    a_header_line_of_8_mib_is_refused: with(&format!("x: {}", "x".repeat(8 << 20))) => 431, "";
    two_thousand_headers_are_refused: REQUEST.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: y\r\n".repeat(2000))) => 431, "";
    two_hosts_are_refused: with("host: other") => 400, "host";
    a_subprotocol_that_is_not_ascii_is_refused: with("sec-websocket-protocol: caf\u{e9}") => 400, "ascii";
    a_subprotocol_over_two_lines_is_refused: with("sec-websocket-protocol: a\r\n b") => 400, "";
    a_subprotocol_with_half_a_line_end_is_refused: with("sec-websocket-protocol: a\rset-cookie: b=c") => 400, "";
    a_subprotocol_with_a_line_of_its_own_is_refused: with("sec-websocket-protocol: a\r\nno header") => 400, "";
    a_body_is_refused: with("content-length: 33") + "GET /admin HTTP/1.1\r\nhost: a\r\n\r\n" => 400, "no body";
    a_body_in_chunks_is_refused: with("transfer-encoding: chunked") + "3\r\nGET\r\n0\r\n\r\n" => 400, "no body";
    a_body_of_two_lengths_is_refused: with("content-length: 3\r\ncontent-length: 4") + "GET " => 400, "";
}

#[tokio::test]
async fn the_preface_of_http2_gets_no_session_and_an_end() {
    let answer = answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"), "{answer}");
}

/// The response to a client that does not wait for it, and the messages that the session gets.
async fn pipelined(behind: &[u8]) -> (Vec<u8>, Vec<Result<Message, Error>>) {
    within(async {
        let (address, mut sockets) = our_server(Limits::new()).await;
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&[REQUEST.as_bytes(), behind].concat()).await.unwrap();
        assert!(read_head(&mut tcp).await.starts_with("HTTP/1.1 101"));
        let socket = sockets.recv().await.unwrap();
        let attacker = async {
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer).await.unwrap();
            drop(tcp);
            answer
        };
        tokio::join!(attacker, socket.collect())
    })
    .await
}

#[tokio::test]
async fn frames_that_do_not_wait_for_the_answer_are_the_first_of_the_session() {
    let frames = [frame(FIN | TEXT, "early"), frame(FIN | CLOSE, "")].map(|frame| frame.bytes(From::Client));
    let (_, seen) = pipelined(&frames.concat()).await;
    let seen: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
    assert_eq!(seen, [Message::text("early"), Message::Close(None)]);
}

#[tokio::test]
async fn a_request_behind_a_handshake_is_a_broken_frame_and_gets_no_answer() {
    let (answer, seen) = pipelined(b"GET /admin HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let [Err(error)] = &seen[..] else { panic!("{seen:?}") };
    assert!(error.is_protocol(), "{error}");
    assert_eq!(close_code(&answer), Some(1002));
}
