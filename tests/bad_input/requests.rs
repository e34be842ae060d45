//! Clients whose handshake is bad, against our server: refused with a status and a sentence, and no session begins.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_transport::Limits;

use crate::{
    attack::{REQUEST, our_server},
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

macro_rules! refused {
    ($($name:ident: $request:expr => $status:literal, $says:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let request = $request;
            let answer = answer(request.as_ref()).await;
            assert!(answer.starts_with(concat!("HTTP/1.1 ", $status)), "{answer}");
            assert!(answer.to_ascii_lowercase().contains($says), "{answer}");
        }
    )*};
}

refused! {
    garbage_is_a_bad_request: "\x16\x03\x01\0\0\r\n\r\n" => 400, "";
    a_plain_request_is_told_to_upgrade: "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" => 426, "upgrade: websocket";
    a_post_is_not_allowed: REQUEST.replacen("GET", "POST", 1) => 405, "get request";
    another_version_is_told_ours: REQUEST.replace("version: 13", "version: 8") => 426, "sec-websocket-version: 13";
    a_missing_key_is_refused: REQUEST.replace("key: ", "other: ") => 400, "sec-websocket-key";
    a_key_of_another_length_is_refused: REQUEST.replace("ZQ==", "") => 400, "16 bytes";
    two_keys_are_refused: REQUEST.replace("\r\n\r\n", "\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n") => 400, "one sec-websocket-key";
    two_versions_are_refused: REQUEST.replace("\r\n\r\n", "\r\nsec-websocket-version: 13\r\n\r\n") => 426, "13";
    a_page_of_another_origin_is_refused: REQUEST.replace("\r\n\r\n", "\r\norigin: https://evil.example\r\n\r\n") => 403, "origin";
    an_oversized_header_block_is_refused: REQUEST.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "x".repeat(1 << 20))) => 431, "";
    too_many_headers_are_refused: REQUEST.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: y\r\n".repeat(1000))) => 431, "";
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut() {
    let (address, mut sockets) = our_server(Limits::new()).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&REQUEST.as_bytes()[..40]).await.unwrap();
    // From here on nothing but the server's clock (hyper's, 30 s for a head) can end it.
    tokio::time::pause();
    assert_eq!(tcp.read(&mut [0; 1000]).await.unwrap(), 0);
    assert!(sockets.try_recv().is_err(), "a session began");
}
