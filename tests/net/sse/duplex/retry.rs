//! POSTs that are lost on the way: sent again, and taken once.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{Limits, Message, TransportExt, transport::sse::SseDuplexConnector};

use super::{
    connect,
    proxy::{Fate, Proxy},
    sessions, within,
};

async fn survives(fates: Vec<Fate>, messages: usize, size: usize) -> usize {
    let (server, mut sessions) = sessions(Limits::default()).await;
    let proxy = Proxy::start(server, fates).await;
    let mut client = connect(SseDuplexConnector::new(), proxy.address).await;
    let mut server = sessions.recv().await.unwrap();
    let message = |i: usize| Message::text(format!("{i} {}", "x".repeat(size)));
    let write = async {
        for i in 0..messages {
            client.feed(message(i)).await.unwrap();
            if i % 5 == 4 {
                client.flush().await.unwrap();
            }
        }
        client.flush().await.unwrap();
        client.close(None).await.unwrap();
    };
    let read = async {
        for i in 0..messages {
            assert_eq!(server.next().await.unwrap().unwrap(), message(i));
        }
        assert_eq!(server.next().await.unwrap().unwrap(), Message::Close(None));
        assert!(server.next().await.is_none());
    };
    within(futures_util::future::join(write, read)).await;
    proxy.posts()
}

#[tokio::test]
async fn a_post_whose_answer_is_lost_is_not_doubled() {
    assert_eq!(survives(vec![Fate::CutTheAnswer], 20, 10).await, 2);
    survives(vec![Fate::CutTheAnswer, Fate::CutTheAnswer, Fate::CutTheAnswer], 20, 10).await;
}

#[tokio::test]
async fn a_post_that_is_lost_is_sent_again() {
    survives(vec![Fate::CutTheRequest, Fate::CutTheRequest], 20, 10).await;
}

#[tokio::test]
async fn a_post_that_is_cut_anywhere_goes_on_where_it_was() {
    for bytes in [1, 100, 300, 400, 500, 1000, 2000, 5000, 14_000] {
        survives(vec![Fate::CutAfter(bytes), Fate::CutAfter(bytes)], 20, 3000).await;
    }
}

#[tokio::test]
async fn a_proxy_that_could_not_reach_the_server_is_asked_again() {
    assert_eq!(survives(vec![Fate::BadGateway], 20, 10).await, 2);
}

#[tokio::test]
async fn a_client_that_cannot_get_through_gives_up_and_says_so() {
    let limits = Limits::new().handshake(Duration::from_secs(1)).close(Duration::from_millis(50));
    let (server, mut sessions) = sessions(limits).await;
    let proxy = Proxy::start(server, vec![Fate::CutTheRequest; 100]).await;
    let mut client = connect(SseDuplexConnector::new().limits(limits), proxy.address).await;
    let mut server = sessions.recv().await.unwrap();
    let error = within(client.send_message(Message::text("lost"))).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(proxy.posts(), 5);
    let error = within(client.next()).await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("5 attempts"), "{error:?}");
    assert!(client.next().await.is_none());
    assert!(within(server.next()).await.unwrap().unwrap_err().is_closed());
}

#[tokio::test]
async fn the_session_ends_with_its_event_stream() {
    let (server, mut sessions) = sessions(Limits::default()).await;
    let proxy = Proxy::start(server, vec![]).await;
    let mut client = connect(SseDuplexConnector::new(), proxy.address).await;
    let mut server = sessions.recv().await.unwrap();
    client.send_message(Message::text("a")).await.unwrap();
    assert_eq!(within(server.next()).await.unwrap().unwrap(), Message::text("a"));
    proxy.cut();
    for end in [&mut client, &mut server] {
        assert!(within(end.next()).await.unwrap().unwrap_err().is_closed());
        assert!(end.next().await.is_none());
        assert!(end.send_message(Message::text("late")).await.unwrap_err().is_closed());
    }
}

/// A server that takes one message of a POST and asks for the rest; what each POST brought.
async fn taking_one_at_a_time(posts: usize) -> (std::net::SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const OPENING: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: session\ndata: 0123456789abcdef\n\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let brought = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(OPENING.as_bytes()).await.unwrap();
        let (mut poster, _) = listener.accept().await.unwrap();
        let mut brought = Vec::new();
        for due in 1..=posts {
            let mut request = vec![0; 4096];
            let read = poster.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let sequence = head.lines().find_map(|line| line.strip_prefix("tower-transport-sequence: ")).unwrap();
            brought.push(format!("{sequence}: {}", body.escape_debug()));
            let answer = format!("HTTP/1.1 204 Some\r\ntower-transport-sequence: {due}\r\n\r\n");
            poster.write_all(answer.as_bytes()).await.unwrap();
        }
        brought
    });
    (address, brought)
}

#[tokio::test]
async fn what_a_server_had_no_room_for_is_sent_again_alone() {
    let (address, brought) = taking_one_at_a_time(3).await;
    let mut client = connect(SseDuplexConnector::new(), address).await;
    for text in ["a", "bc", "d"] {
        client.feed(Message::text(text)).await.unwrap();
    }
    within(client.flush()).await.unwrap();
    let expected = ["0: \\0\\u{1}a\\0\\u{2}bc\\0\\u{1}d", "1: \\0\\u{2}bc\\0\\u{1}d", "2: \\0\\u{1}d"];
    assert_eq!(within(brought).await.unwrap(), expected);
}
