//! `Limits::idle` on every transport: a connection on which nothing moves is closed, and one on which bytes move is not.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_transport::{
    CloseCode, Error, Limits, Message, Transport, TransportExt,
    transport::{
        sse::{SseConnector, SseDuplex, SseDuplexConnector, SseDuplexServer},
        websocket::WebSocket,
    },
};

use crate::serve::serve_http;
use support::within;

const MINUTE: Duration = Duration::from_secs(60);

/// A connection that fails is cut at once.
fn limits() -> Limits {
    Limits::new().idle(MINUTE).close(Duration::ZERO)
}

fn is_idle(error: &Error) {
    assert!(error.is_timeout(), "{error:?}");
    assert!(error.to_string().contains("60s (Limits::idle)"), "{error}");
}

type Socket = WebSocket<DuplexStream>;

/// The end that has the limit, and its peer.
fn websockets(is_client: bool) -> (Socket, Socket) {
    let (a, b) = duplex(1024);
    match is_client {
        true => (WebSocket::client(a, limits()), WebSocket::server(b, Limits::new())),
        false => (WebSocket::server(a, limits()), WebSocket::client(b, Limits::new())),
    }
}

#[tokio::test(start_paused = true)]
async fn a_websocket_on_which_nothing_moves_is_closed_after_the_limit_by_either_end() {
    for is_client in [true, false] {
        let (mut ours, mut peer) = websockets(is_client);
        let start = Instant::now();
        let (failed, seen) = tokio::join!(ours.next(), peer.next());
        is_idle(&failed.unwrap().unwrap_err());
        assert_eq!(start.elapsed(), MINUTE);
        let Message::Close(Some(frame)) = seen.unwrap().unwrap() else { panic!("no close frame") };
        assert_eq!((frame.code(), frame.reason()), (CloseCode::AWAY, "idle"));
        assert!(ours.next().await.is_none() && ours.send(Message::text("late")).await.unwrap_err().is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_cut_after_the_limit_and_the_time_of_a_close() {
    let (a, _b) = duplex(1);
    let mut ours = WebSocket::client(a, limits().close(Duration::from_secs(7)));
    let start = Instant::now();
    is_idle(&ours.next().await.unwrap().unwrap_err());
    assert_eq!(start.elapsed(), MINUTE + Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_peer_and_messages_in_one_direction_keep_a_websocket_open() {
    for sends in [true, false] {
        let (ours, mut peer) = websockets(false);
        let (mut sink, mut stream) = ours.split();
        let start = Instant::now();
        let working = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(50)).await;
                match sends {
                    true => sink.send(Message::text("news")).await.unwrap(),
                    false => peer.send(Message::Ping("".into())).await.unwrap(),
                }
            }
        };
        let reading = async {
            loop {
                if let Err(error) = stream.next().await.unwrap() {
                    return error;
                }
            }
        };
        let (error, ()) = tokio::join!(reading, working);
        is_idle(&error);
        assert_eq!(start.elapsed(), Duration::from_secs(500) + MINUTE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_leaves_byte_by_byte_keeps_a_websocket_open_even_if_it_is_never_flushed() {
    let (a, mut slow) = duplex(1);
    let (mut sink, mut stream) = WebSocket::server(a, limits().write_buffer(0)).split();
    let feeding = async {
        sink.feed(Message::binary(vec![0; 10])).await.unwrap();
        for _ in 0..2 {
            sink.feed(Message::text("waits for room")).await.unwrap();
        }
    };
    let reading = async {
        for _ in 0..12 {
            sleep(Duration::from_secs(50)).await;
            slow.read_u8().await.unwrap();
        }
    };
    tokio::select! {
        ended = stream.next() => panic!("{ended:?}"),
        _ = futures_util::future::join(feeding, reading) => {}
    }
}

/// Reads up to the blank line of a request.
async fn read_head(tcp: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn an_event_stream_without_events_ends_although_comments_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = http::Request::get(format!("http://{}/", listener.local_addr().unwrap())).body(()).unwrap();
    let connecting = tokio::spawn(SseConnector::new().limits(limits()).oneshot(request));
    let (mut tcp, _) = listener.accept().await.unwrap();
    read_head(&mut tcp).await;
    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
    let mut events = connecting.await.unwrap().unwrap().into_body();
    tokio::time::pause();
    let start = Instant::now();
    let commenting = tokio::spawn(async move {
        while tcp.write_all(b":\n\n").await.is_ok() {
            sleep(Duration::from_secs(40)).await;
        }
    });
    is_idle(&within(events.next()).await.unwrap().unwrap_err());
    assert!(start.elapsed() < MINUTE + Duration::from_secs(1), "{:?} on the paused clock", start.elapsed());
    commenting.abort();
}

/// Checks that the transport ends by its idle limit, of a second, and not before bytes cease to move.
async fn ends_idle<T, P>(mut ours: T, mut peer: P)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
    P: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    peer.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(ours.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    let peer = async {
        // Reads on: it is the one that is told.
        while let Some(Ok(_)) = peer.receive_message().await {}
    };
    let (failed, ()) = within(futures_util::future::join(ours.receive_message(), peer)).await;
    let error = failed.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("1s (Limits::idle)"), "{error:?}");
}

async fn sse_pair(client: Limits, server: Limits) -> (SseDuplex, SseDuplex) {
    let (opened, mut sessions) = tokio::sync::mpsc::channel(1);
    let service = SseDuplexServer::new(move |session, _| async move {
        opened.send(session).await.unwrap();
        opened.closed().await;
    });
    let address = serve_http(service.limits(server)).await;
    let connector = SseDuplexConnector::new().limits(client);
    let client = connector.connect(&format!("http://{address}/")).await.unwrap();
    (client, sessions.recv().await.unwrap())
}

#[tokio::test]
async fn a_session_of_sse_and_post_is_closed_by_either_end() {
    let idle = Limits::new().idle(Duration::from_secs(1));
    let (client, server) = sse_pair(idle, Limits::new()).await;
    ends_idle(client, server).await;
    let (client, server) = sse_pair(Limits::new(), idle).await;
    ends_idle(server, client).await;
}

#[tokio::test]
async fn a_stream_of_webtransport_is_closed_by_either_end() {
    let idle = Limits::new().idle(Duration::from_secs(1));
    for limits in [[idle, Limits::new()], [Limits::new(), idle]] {
        let (client, server) = crate::webtransport::support::streams_with(limits).await;
        if limits[0] == idle { ends_idle(client, server).await } else { ends_idle(server, client).await }
    }
}
