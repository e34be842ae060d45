//! Another implementation at the other end: `wtransport`, which shares QUIC with ours and has an HTTP/3 of its own.

use std::net::Ipv4Addr;

use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use tokio::io::AsyncReadExt;
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, TransportExt,
    transport::webtransport::{Certificate, CertificateHash, Session, WebTransportConnector, WebTransportServer},
};
use wtransport::{
    ClientConfig, Connection, Endpoint, Identity, ServerConfig, VarInt, endpoint::SessionRequest, tls::Sha256Digest,
};

use crate::webtransport::frames::{BINARY, CLOSE, PING, PONG, PREAMBLE, TEXT, frame, read_frame};

/// The lengths at which the head of a frame grows, and one that many packets carry.
const LENGTHS: [usize; 6] = [0, 63, 64, 16_383, 16_384, 300_000];

/// A server of theirs: our connector for it, its address, and what meets its first request.
async fn their_server() -> (WebTransportConnector, String, Endpoint<wtransport::endpoint::endpoint_side::Server>) {
    let identity = Identity::self_signed(["localhost", "127.0.0.1"]).unwrap();
    let hash: [u8; 32] = *identity.certificate_chain().as_slice()[0].hash().as_ref();
    let config =
        ServerConfig::builder().with_bind_address((Ipv4Addr::LOCALHOST, 0).into()).with_identity(identity).build();
    let server = Endpoint::server(config).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([CertificateHash::from(hash)]);
    let uri = format!("https://127.0.0.1:{}/feed?of=all", server.local_addr().unwrap().port());
    (connector, uri, server)
}

async fn asked(server: &Endpoint<wtransport::endpoint::endpoint_side::Server>) -> SessionRequest {
    server.accept().await.await.unwrap()
}

/// Our client, their server.
async fn to_theirs() -> (Session, Connection) {
    let (connector, uri, server) = their_server().await;
    let request = Request::get(uri).body(()).unwrap();
    let accept = async { asked(&server).await.accept().await.unwrap() };
    let (ours, theirs) = tokio::join!(connector.connect_session(request), accept);
    (ours.unwrap().into_body(), theirs)
}

/// Their client, our server.
async fn from_theirs() -> (Session, Connection) {
    let (mut server, endpoint, uri) = our_server().await;
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (theirs, ours) = tokio::join!(endpoint.connect(uri), accept);
    (ours, theirs.unwrap())
}

async fn our_server() -> (WebTransportServer, Endpoint<wtransport::endpoint::endpoint_side::Client>, String) {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = Sha256Digest::new(*certificate.hash().as_bytes());
    let server = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let uri = format!("https://127.0.0.1:{}/feed", server.local_addr().unwrap().port());
    let config = ClientConfig::builder().with_bind_default().with_server_certificate_hashes([hash]).build();
    (server, Endpoint::client(config).unwrap(), uri)
}

#[tokio::test]
async fn messages_of_every_kind_and_size_cross_a_stream_that_we_open() {
    for (ours, theirs) in [to_theirs().await, from_theirs().await] {
        let mut stream = ours.open().await.unwrap();
        let (mut send, mut receive) = theirs.accept_bi().await.unwrap();
        assert_eq!(receive.read_u8().await.unwrap(), PREAMBLE);
        for length in LENGTHS {
            let text = "x".repeat(length);
            stream.send(Message::text(text.clone())).await.unwrap();
            assert_eq!(read_frame(&mut receive).await.unwrap(), (TEXT, text.clone().into_bytes()));
            send.write_all(&frame(BINARY, text.as_bytes())).await.unwrap();
            assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::binary(text));
        }
        stream.send(Message::Ping("are you there?".into())).await.unwrap();
        assert_eq!(read_frame(&mut receive).await.unwrap(), (PING, b"are you there?".to_vec()));
        send.write_all(&frame(PING, b"and you?")).await.unwrap();
        assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::Ping("and you?".into()));
        assert_eq!(read_frame(&mut receive).await.unwrap(), (PONG, b"and you?".to_vec()));
    }
}

#[tokio::test]
async fn a_stream_that_they_open_closes_with_code_and_reason_both_ways() {
    for (ours, theirs) in [to_theirs().await, from_theirs().await] {
        let (mut send, mut receive) = theirs.open_bi().await.unwrap().await.unwrap();
        send.write_all(&[PREAMBLE]).await.unwrap();
        send.write_all(&frame(TEXT, b"hello")).await.unwrap();
        send.write_all(&frame(CLOSE, b"\x0f\xa1enough")).await.unwrap();
        let mut stream = ours.accept().await.unwrap();
        assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::text("hello"));
        let frame = CloseFrame::new(CloseCode::new(4001).unwrap(), "enough");
        assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::Close(Some(frame)));
        assert!(stream.receive_message().await.is_none());
        // The answer, and the end of the stream.
        assert_eq!(read_frame(&mut receive).await.unwrap(), (CLOSE, b"\x0f\xa1enough".to_vec()));
        assert!(read_frame(&mut receive).await.is_none());
    }
}

#[tokio::test]
async fn streams_of_one_direction_and_datagrams_cross() {
    for (ours, theirs) in [to_theirs().await, from_theirs().await] {
        let mut out = ours.open_uni().await.unwrap();
        out.send(Message::text("one way")).await.unwrap();
        out.close(None).await.unwrap();
        let mut receive = theirs.accept_uni().await.unwrap();
        assert_eq!(receive.read_u8().await.unwrap(), PREAMBLE);
        assert_eq!(read_frame(&mut receive).await.unwrap(), (TEXT, b"one way".to_vec()));

        let mut send = theirs.open_uni().await.unwrap().await.unwrap();
        send.write_all(&[PREAMBLE]).await.unwrap();
        send.write_all(&frame(BINARY, b"and back")).await.unwrap();
        send.finish().await.unwrap();
        let mut incoming = ours.accept_uni().await.unwrap();
        assert_eq!(incoming.next().await.unwrap().unwrap(), Message::binary("and back"));
        assert!(incoming.next().await.is_none());

        let mut datagrams = ours.datagrams();
        datagrams.send_message(Message::text("fast")).await.unwrap();
        assert_eq!(theirs.receive_datagram().await.unwrap().payload(), "fast");
        theirs.send_datagram(b"faster").unwrap();
        assert_eq!(datagrams.receive_message().await.unwrap().unwrap(), Message::binary("faster"));
    }
}

#[tokio::test]
async fn our_request_and_their_answer_have_their_headers() {
    let (connector, uri, server) = their_server().await;
    let connector = connector.subprotocol("b.v1").unwrap().subprotocol("a.v2").unwrap();
    let request = Request::get(&uri).header("x-token", "of mine").body(()).unwrap();
    let accept = async {
        let request = asked(&server).await;
        assert_eq!(request.path(), "/feed?of=all");
        assert_eq!(request.headers()["x-token"], "of mine");
        assert_eq!(request.headers()["wt-available-protocols"], "\"b.v1\", \"a.v2\"");
        request.accept_with_headers([("wt-protocol", "\"a.v2\"")]).await.unwrap()
    };
    let (response, _theirs) = tokio::join!(connector.connect_session(request), accept);
    let response = response.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "a.v2");
    assert_eq!(response.body().subprotocol(), Some("a.v2"));
}

#[tokio::test]
async fn their_refusal_has_its_status_here() {
    let refuse = async |how: u16| -> Error {
        let (connector, uri, server) = their_server().await;
        let request = Request::get(uri).body(()).unwrap();
        let answer = async {
            let request = asked(&server).await;
            match how {
                403 => request.forbidden().await,
                404 => request.not_found().await,
                _ => request.too_many_requests().await,
            }
        };
        tokio::join!(connector.connect_session(request), answer).0.unwrap_err()
    };
    assert!(refuse(403).await.is_auth());
    let error = refuse(404).await;
    assert!(error.is_status() && error.status() == Some(StatusCode::NOT_FOUND), "{error:?}");
    assert_eq!(refuse(429).await.status(), Some(StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn our_refusal_is_one_for_them() {
    let (mut server, endpoint, uri) = our_server().await;
    let answer = async { server.accept().await.unwrap().reject(StatusCode::NOT_FOUND).await };
    let (theirs, _) = tokio::join!(endpoint.connect(uri), answer);
    let error = theirs.unwrap_err();
    assert!(matches!(error, wtransport::error::ConnectingError::SessionRejected), "{error:?}");
}

#[tokio::test]
async fn the_end_of_a_session_is_known_at_both_ends() {
    for (ours, theirs) in [to_theirs().await, from_theirs().await] {
        let mut stream = ours.open().await.unwrap();
        ours.close(CloseFrame::new(CloseCode::AWAY, "see you"));
        // They know nothing of the capsule that has the reason; what they see is the end.
        theirs.closed().await;
        assert!(stream.receive_message().await.is_none_or(|last| last.is_err_and(|error| error.is_closed())));
    }
    for (ours, theirs) in [to_theirs().await, from_theirs().await] {
        theirs.close(VarInt::from_u32(7), b"");
        assert!(ours.closed().await.is_closed());
    }
}
