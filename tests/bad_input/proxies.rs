//! Proxies whose answers have no end, against our connector.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower_transport::{Error, transport::websocket::WebSocketConnector};

use crate::{allocator::Growth, within};

const KIB: usize = 1024;

/// Connects through a proxy that answers with `begin` and then with `more` again and again. Returns the error, what the
/// proxy could send, and the memory that the connector took. The proxy is a thread, whose memory is not counted.
fn endless(scheme: &str, begin: &'static [u8], more: &'static [u8]) -> (Error, usize, usize) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, listening) = std::sync::mpsc::channel();
    let proxy = std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 1024]).await;
            let mut sent = begin.len();
            let _ = tcp.write_all(begin).await;
            while sent < 64 << 20 && tcp.write_all(more).await.is_ok() {
                sent += more.len();
            }
            sent
        })
    });
    let url = format!("{scheme}://{}", listening.recv().unwrap());
    let (error, held) = runtime().block_on(within(async {
        let connector = WebSocketConnector::new().proxy(&url.parse().unwrap()).unwrap();
        let growth = Growth::start();
        let error = connector.connect("ws://example.com/").await.unwrap_err();
        (error, growth.peak())
    }));
    (error, proxy.join().unwrap(), held)
}

#[test]
fn a_head_without_an_end_is_too_large() {
    for (begin, more) in [
        (&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'x'; 4096][..]),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\nx: y\r\n"),
        (b"HTTP/1.1 407 ", &[b'x'; 4096]),
    ] {
        let (error, sent, held) = endless("http", begin, more);
        println!("an HTTP proxy's head without an end: {} KiB sent, {} KiB held", sent / KIB, held / KIB);
        assert!(error.is_too_large() && error.to_string().contains("the proxy"), "{error:?}");
        assert!(held < 320 * KIB, "{held}");
    }
}

#[test]
fn of_a_refusal_without_an_end_64_kib_are_kept() {
    let (error, _, held) = endless("http", b"HTTP/1.1 403 No\r\n\r\n", &[b'x'; 4096]);
    println!("an HTTP proxy's refusal without an end: {} KiB held", held / KIB);
    assert!(error.is_auth() && error.response_body().unwrap().len() == 64 * KIB, "{error:?}");
    assert!(held < 512 * KIB, "{held}");
}

#[test]
fn informational_answers_without_an_end_are_skipped_until_the_limit_of_the_handshakes_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (error, held) = runtime.block_on(within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 1024]).await;
            while tcp.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {}
        });
        let connector = WebSocketConnector::new().proxy(&url.parse().unwrap()).unwrap();
        let growth = Growth::start();
        let error = connector.connect("ws://example.com/").await.unwrap_err();
        let held = growth.peak();
        proxy.abort();
        (error, held)
    }));
    assert!(error.is_too_large(), "{error:?}");
    println!("100 Continue without an end: {} KiB held", held / KIB);
    assert!(held < 320 * KIB, "{held}");
}

#[test]
fn a_socks_server_that_sends_without_an_end_is_not_read_further() {
    for (begin, more) in [
        (&b"\x05\0\x05\x01\0\x01"[..], &[0; 4096][..]), // a refusal, and more
        (b"\x05\xff", &[0; 4096]),
        (b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]),
    ] {
        let (error, sent, held) = endless("socks5h", begin, more);
        println!("a SOCKS server without an end: {} KiB sent, {} KiB held", sent / KIB, held / KIB);
        assert!(error.to_string().contains("the proxy socks5h://"), "{error:?}");
        assert!(held < 32 * KIB, "{held}");
    }
}
