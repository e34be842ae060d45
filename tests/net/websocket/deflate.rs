//! permessage-deflate (RFC 7692): what is negotiated, and what is on the wire.

use axum::{Router, routing::any};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use futures_util::{SinkExt, StreamExt, future::join};
use http::{HeaderMap, Request, header::SEC_WEBSOCKET_EXTENSIONS};
use support::serve::{serve, serve_axum};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::ServiceExt;
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, TransportExt,
    stack::OptimizedTransport,
    transport::websocket::{
        Level, PerMessageDeflate, WebSocket, WebSocketAcceptor, WebSocketConnector, WebSocketHandshake,
        WebSocketService,
    },
};
use tungstenite::handshake::derive_accept_key;

type Ends = (WebSocket<DuplexStream>, WebSocket<DuplexStream>);

async fn connect(
    client: Option<PerMessageDeflate>,
    server: Option<PerMessageDeflate>,
    limits: Limits,
) -> Result<Ends, Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut connector, mut acceptor) =
        (WebSocketConnector::new().limits(limits), WebSocketAcceptor::new().limits(limits));
    if let Some(client) = client {
        connector = connector.per_message_deflate(client);
    }
    if let Some(server) = server {
        acceptor = acceptor.per_message_deflate(server);
    }
    let request = Request::get("ws://localhost/").body(()).unwrap();
    let (client, server) = join(connector.handshake(near, request), acceptor.accept(far)).await;
    Ok((client?.into_body(), server?.1))
}

fn on() -> PerMessageDeflate {
    PerMessageDeflate::new().min_size(0)
}

#[tokio::test]
async fn it_is_off_unless_both_ends_ask_for_it() {
    for (client, server, negotiated) in [
        (None, None, None),
        (Some(on()), None, None),
        (None, Some(on()), None),
        (Some(on()), Some(on()), Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")),
        (
            Some(on().max_window_bits(10).unwrap().peer_context_takeover(false)),
            Some(on().context_takeover(true).peer_context_takeover(true).max_window_bits(12).unwrap()),
            Some(
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=10",
            ),
        ),
    ] {
        let (mut client, mut server) = connect(client, server, Limits::new()).await.unwrap();
        assert_eq!((client.extensions(), server.extensions()), (negotiated, negotiated));
        client.send_message(Message::text("hello ".repeat(100))).await.unwrap();
        assert_eq!(server.receive_message().await.unwrap().unwrap(), Message::text("hello ".repeat(100)));
    }
}

#[tokio::test]
async fn messages_of_every_size_and_kind_cross_both_ways_with_every_setting() {
    let samples: Vec<Message> = [0, 1, 10, 125, 126, 1000, 65_535, 65_536, 70_000, 300_000]
        .into_iter()
        .flat_map(|size| {
            let noise = (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>();
            [
                Message::text("{\"price\":101,\"side\":\"b\u{fc}y\"}".repeat(size / 20)),
                Message::binary(noise.clone()),
                Message::binary(vec![0; size]),
                Message::binary([noise, vec![1; size]].concat()).into_prepared(),
            ]
        })
        .collect();
    for (takes_over, bits, level, frame) in
        [(true, 15, 1, 1 << 20), (false, 15, 6, 1 << 20), (true, 9, 1, 1000), (false, 10, 9, 1000), (true, 12, 0, 77)]
    {
        let config = on()
            .context_takeover(takes_over)
            .peer_context_takeover(takes_over)
            .max_window_bits(bits)
            .unwrap()
            .level(Level::try_from(level).unwrap());
        let limits = Limits::new().frame(frame);
        let (client, server) = connect(Some(config.clone()), Some(config), limits).await.unwrap();
        assert!(client.extensions().is_some());
        for (mut from, to) in [(client, server)] {
            let echo = tokio::spawn(async move {
                let mut to = to;
                while let Some(message) = to.next().await {
                    let message = message.unwrap();
                    if message.is_data() {
                        to.send(message).await.unwrap();
                    }
                }
            });
            for message in &samples {
                let (mut sink, mut stream) = (&mut from).split();
                let (sent, got) = join(sink.send(message.clone()), stream.next()).await;
                sent.unwrap();
                assert!(got.unwrap().unwrap() == *message, "{} bytes, level {level}", message.len());
            }
            from.close(Some(CloseFrame::new(CloseCode::NORMAL, ""))).await.unwrap();
            echo.await.unwrap();
        }
    }
}

/// A server of ours that has compression on, and the raw client.
async fn raw_client(offer: &str, config: PerMessageDeflate, limits: Limits) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    near.write_all(request.as_bytes()).await.unwrap();
    let acceptor = WebSocketAcceptor::new().per_message_deflate(config).limits(limits);
    let (_, server) = acceptor.accept(far).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.unwrap());
    }
    (near, server)
}

/// A frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 126];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A frame of a server: its first byte and its payload.
async fn read_frame(io: &mut DuplexStream) -> (u8, Vec<u8>) {
    let (first, second) = (io.read_u8().await.unwrap(), io.read_u8().await.unwrap());
    let length = match second {
        126 => io.read_u16().await.unwrap().into(),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + 100);
    Compress::new(Compression::new(6), false).compress_vec(plain, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

fn inflated(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let data = [data, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&data, &mut out, FlushDecompress::Sync).unwrap();
    out
}

#[tokio::test]
async fn the_first_frame_of_a_compressed_message_alone_is_marked() {
    let limits = Limits::new().frame(10);
    let (mut raw, mut server) = raw_client("permessage-deflate", PerMessageDeflate::new(), limits).await;
    let text = "a compressed message in several frames, a compressed message in several frames; ".repeat(10);
    server.send_message(Message::text(text.clone())).await.unwrap();
    server.send_message(Message::text("short")).await.unwrap();
    server.send_message(Message::text("")).await.unwrap();
    let (first, mut data) = read_frame(&mut raw).await;
    assert_eq!(first, 0x41);
    loop {
        let (first, payload) = read_frame(&mut raw).await;
        data.extend(payload);
        match first {
            0 => {}
            first => break assert_eq!(first, 0x80),
        }
    }
    assert!(data.len() < text.len() / 5, "{}", data.len());
    assert_eq!(inflated(&data), text.as_bytes());
    assert_eq!(read_frame(&mut raw).await, (0x81, b"short".to_vec()), "below the smallest size");
    assert_eq!(read_frame(&mut raw).await, (0x81, Vec::new()));
}

#[tokio::test]
async fn control_frames_may_come_between_the_fragments_of_a_compressed_message() {
    let (mut raw, mut server) = raw_client("permessage-deflate", PerMessageDeflate::new(), Limits::new()).await;
    let data = deflated("h\u{e9}llo ".repeat(20).as_bytes());
    let (last, rest) = data.split_last().unwrap();
    let mut bytes = frame(0x41, &[]);
    for byte in rest {
        bytes.extend(frame(0x00, &[*byte]));
        bytes.extend(frame(0x89, b"ping"));
    }
    bytes.extend(frame(0x80, &[*last]));
    bytes.extend(frame(0x81, b"plain"));
    bytes.extend(frame(0xc2, &deflated(b"binary")));
    // Each byte for itself, in order that every header is cut.
    let write = async {
        for byte in bytes {
            raw.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        let mut data = Vec::new();
        while data.len() < 3 {
            match server.next().await.unwrap().unwrap() {
                Message::Ping(payload) => assert_eq!(payload, "ping"),
                message => data.push(message),
            }
        }
        assert_eq!(
            data,
            [Message::text("h\u{e9}llo ".repeat(20)), Message::text("plain"), Message::binary(&b"binary"[..])]
        );
    };
    join(write, read).await;
}

#[tokio::test]
async fn an_offer_that_is_malformed_is_refused_and_one_that_is_unknown_is_not() {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; =1\r\n\r\n";
    near.write_all(request.as_bytes()).await.unwrap();
    let error = WebSocketAcceptor::new().per_message_deflate(on()).accept(far).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 400);
    let (_raw, server) = raw_client("x-webkit-deflate-frame, permessage-deflate; x=1", on(), Limits::new()).await;
    assert_eq!(server.extensions(), None);
}

#[tokio::test]
async fn a_client_refuses_a_server_that_answers_something_else() {
    for (answer, is_right) in [
        ("permessage-deflate; server_max_window_bits=9; client_no_context_takeover", true),
        ("permessage-deflate; server_max_window_bits=99", false),
        ("foo", false),
        ("permessage-deflate; =", false),
        ("permessage-deflate, x", false),
    ] {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let connector = WebSocketConnector::new().per_message_deflate(on());
        let request = Request::get("ws://localhost/").body(()).unwrap();
        let server = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(far.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let offer = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
            assert!(head.to_ascii_lowercase().contains(offer), "{head}");
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Hello\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\
                 sec-websocket-extensions: {answer}\r\n\r\n"
            );
            far.write_all(answer.as_bytes()).await.unwrap();
        };
        let (client, ()) = join(connector.handshake(near, request), server).await;
        match is_right {
            true => assert_eq!(client.unwrap().into_body().extensions(), Some(answer)),
            false => assert!(client.unwrap_err().is_protocol(), "{answer}"),
        }
    }
}

async fn closed_with(config: PerMessageDeflate, limits: Limits, bytes: Vec<u8>) -> (Error, u16) {
    let (mut raw, mut server) = raw_client("permessage-deflate", config, limits).await;
    raw.write_all(&bytes).await.unwrap();
    let attacker = async {
        let (first, payload) = read_frame(&mut raw).await;
        assert_eq!(first, 0x88);
        drop(raw);
        u16::from_be_bytes([payload[0], payload[1]])
    };
    let (error, code) = join(server.next(), attacker).await;
    (error.unwrap().unwrap_err(), code)
}

#[tokio::test]
async fn each_fault_has_its_code() {
    let close = |bytes| closed_with(PerMessageDeflate::new(), Limits::new().message(1000), bytes);
    let data = deflated(b"hello hello hello");
    let (error, code) = close(frame(0xc2, &deflated(&[7; 1001]))).await;
    assert!(error.is_too_large() && error.to_string().contains("1000"), "{error}");
    assert_eq!(code, 1009);
    let (error, code) = close(frame(0xc1, &deflated(b"\xff\xfe"))).await;
    assert!(error.is_protocol() && error.to_string().contains("UTF-8"), "{error}");
    assert_eq!(code, 1007);
    for (bytes, says) in [
        (frame(0xc2, &[0xff; 10]), "inflate"),
        ([frame(0x42, &data[..2]), frame(0xc0, &data[2..])].concat(), "eserved"),
        (frame(0xc9, b"ping"), "eserved"),
        (frame(0xc8, b""), "eserved"),
        (frame(0xe2, &data), "eserved"),
        (frame(0xd2, &data), "eserved"),
    ] {
        let (error, code) = close(bytes).await;
        assert!(error.is_protocol() && error.to_string().contains(says), "{error}");
        assert_eq!(code, 1002);
    }
}

#[tokio::test]
async fn an_outgoing_message_over_the_limit_is_rejected_however_small_it_would_become() {
    let (mut client, mut server) = connect(Some(on()), Some(on()), Limits::new().message(1000)).await.unwrap();
    let error = client.send_message(Message::binary(vec![0; 1001])).await.unwrap_err();
    assert!(error.is_too_large() && error.is_rejection(), "{error}");
    client.send_message(Message::binary(vec![0; 1000])).await.unwrap();
    assert_eq!(server.receive_message().await.unwrap().unwrap().len(), 1000);
}

#[tokio::test]
async fn a_prepared_message_is_the_same_on_every_connection() {
    let news = Message::text("it was the best of times, it was the worst of times, ".repeat(30)).into_prepared();
    let mut payloads = Vec::new();
    for offer in ["permessage-deflate", "permessage-deflate; server_max_window_bits=10", "permessage-deflate"] {
        let (mut raw, mut server) = raw_client(offer, PerMessageDeflate::new(), Limits::new()).await;
        server.send_message(news.clone()).await.unwrap();
        let (first, payload) = read_frame(&mut raw).await;
        assert_eq!(first, 0xc1);
        assert_eq!(Message::text(String::from_utf8(inflated(&payload)).unwrap()), news);
        payloads.push(payload);
    }
    assert_eq!(payloads[0], payloads[2]);
}

#[tokio::test]
async fn the_service_and_the_extractor_accept_it_too() {
    let service = WebSocketService::new(|mut socket, _| async move {
        let message = socket.receive_message().await.unwrap().unwrap();
        socket.send_message(message).await.unwrap();
        let _ = socket.close(None).await;
    });
    let extractor = |handshake: WebSocketHandshake| async move {
        handshake.per_message_deflate(on()).on_upgrade(|mut socket| async move {
            let message = socket.receive_message().await.unwrap().unwrap();
            socket.send_message(message).await.unwrap();
            let _ = socket.close(None).await;
        })
    };
    for address in
        [serve(service.per_message_deflate(on())).await, serve_axum(Router::new().route("/", any(extractor))).await]
    {
        let request = Request::get(format!("ws://{address}/")).body(()).unwrap();
        let response = WebSocketConnector::new().per_message_deflate(on()).oneshot(request).await.unwrap();
        let headers: &HeaderMap = response.headers();
        let negotiated = headers[SEC_WEBSOCKET_EXTENSIONS].to_str().unwrap().to_owned();
        let mut socket = response.into_body();
        assert_eq!(socket.extensions(), Some(&negotiated[..]));
        let message = Message::text("there and back again, ".repeat(100));
        socket.send_message(message.clone()).await.unwrap();
        assert_eq!(socket.receive_message().await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn the_stack_uses_its_own_layer_with_our_client_and_the_extension_with_strangers() {
    let acceptor = OptimizedTransport::builder().acceptor();
    let upgrade = acceptor.upgrade(|mut session, _| async move {
        while let Some(Ok(message)) = session.receive_message().await {
            if message.is_data() && session.send_message(message).await.is_err() {
                return;
            }
        }
    });
    let url = format!("ws://{}/", serve(upgrade.per_message_deflate(on())).await);
    let message = Message::text("as different as chalk and cheese, ".repeat(1000));

    let mut ours = OptimizedTransport::builder().connect(&url).await.unwrap();
    assert!(ours.capabilities().to_string().contains("compression"), "{}", ours.capabilities());
    ours.send_message(message.clone()).await.unwrap();
    assert_eq!(ours.receive_message().await.unwrap().unwrap(), message);

    let request = Request::get(&url).body(()).unwrap();
    let response = WebSocketConnector::new().per_message_deflate(on()).oneshot(request).await.unwrap();
    let mut stranger = response.into_body();
    assert!(stranger.extensions().is_some());
    stranger.send_message(message.clone()).await.unwrap();
    assert_eq!(stranger.receive_message().await.unwrap().unwrap(), message);
}
