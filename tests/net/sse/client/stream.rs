//! The stream of events, from its first to its end.

use std::{convert::Infallible, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt, future::join};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceExt;
use tower_transport::{
    Limits, Transport,
    transport::sse::{Event, Sse, SseConnector},
};

use super::scripted::{STREAM, Scripted, get, open, read, read_head};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_end_is_an_error_that_says_when_to_come_back() {
    let server = Scripted::new([format!("{STREAM}retry: 1500\ndata: a\n\nid: 7\ndata: b\n\nid: 8\n\ndata: cut")]).await;
    let connector = SseConnector::new();
    let (events, error) = read(open(&connector, &server.url()).await.unwrap()).await;
    assert_eq!(events, [["message", "a", ""], ["message", "b", "7"]]);
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    assert_eq!((connector.last_event_id().as_str(), connector.retry()), ("8", Some(Duration::from_millis(1500))));
}

#[tokio::test]
async fn a_stream_that_is_cut_within_an_event_is_closed_and_the_event_dropped() {
    let server = Scripted::new([format!("{CHUNKED}20\r\ndata: a\n\ndata: b\n")]).await;
    let (events, error) = read(open(&SseConnector::new(), &server.url()).await.unwrap()).await;
    assert_eq!(events, [["message", "a", ""]]);
    assert!(error.is_closed(), "{error:?}");
}

#[tokio::test]
async fn the_next_connection_goes_on_from_the_last_id() {
    let server = Scripted::new([format!("{STREAM}id: 7\ndata: a\n\n"), format!("{STREAM}data: b\n\nid\n\n")]).await;
    let connector = SseConnector::new();
    read(open(&connector, &server.url()).await.unwrap()).await;
    let (events, _) = read(open(&connector.clone(), &server.url()).await.unwrap()).await;
    assert_eq!(events, [["message", "b", "7"]], "the id stays with the source");
    read(open(&connector, &server.url()).await.unwrap()).await;
    let ids: Vec<_> = server.requests().iter().map(|head| head.contains("last-event-id: 7\r\n")).collect();
    assert_eq!(ids, [false, true, false], "the second stream has taken the id back");
}

#[tokio::test]
async fn an_id_belongs_to_its_url_and_may_come_from_the_user() {
    let server = Scripted::new([format!("{STREAM}id: 7\ndata: a\n\n")]).await;
    let connector = SseConnector::new();
    let mut request = get(&server.url());
    request.headers_mut().insert("last-event-id", "6".parse().unwrap());
    let events = connector.clone().oneshot(request.clone()).await.unwrap().into_body();
    assert_eq!(events.last_event_id(), "6");
    read(events).await;
    read(connector.clone().oneshot(request).await.unwrap().into_body()).await;
    read(open(&connector, &format!("http://{}/other", server.address)).await.unwrap()).await;
    let requests = server.requests();
    assert!(requests[0].contains("last-event-id: 6"));
    assert!(requests[1].contains("last-event-id: 7"), "what came since counts");
    assert!(!requests[2].contains("last-event-id"), "another url");
}

#[tokio::test]
async fn an_event_over_the_limit_ends_the_stream_with_an_error_that_names_it() {
    let server = Scripted::new([format!("{STREAM}data: 1234\n\ndata: 12345\n\ndata: a\n\n")]).await;
    let connector = SseConnector::new().limits(Limits::new().message(4));
    let (events, error) = read(open(&connector, &server.url()).await.unwrap()).await;
    assert_eq!(events.len(), 1);
    assert!(error.is_too_large() && error.to_string().contains("Limits::message"), "{error}");

    let server = Scripted::new([format!("{STREAM}id: {}\n\n", "7".repeat(100))]).await;
    let (_, error) = read(open(&SseConnector::new().max_line(100), &server.url()).await.unwrap()).await;
    assert!(error.is_too_large(), "{error}");
}

#[tokio::test]
async fn what_is_not_read_is_not_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let event = format!("data: {}\n\n", "x".repeat(1000));
    let (tcp, events) = join(
        async {
            let mut tcp = listener.accept().await.unwrap().0;
            read_head(&mut tcp).await;
            tcp.write_all(format!("{STREAM}{event}{event}").as_bytes()).await.unwrap();
            tcp
        },
        open(&SseConnector::new(), &url),
    )
    .await;
    let mut events = events.unwrap();
    assert!(events.next().await.unwrap().is_ok(), "from here on nobody reads");
    // The operating system's buffers fill up, and stay full.
    let (mut written, mut refused) = (0, 0);
    while refused < 100 {
        match tcp.try_write(event.as_bytes()) {
            Ok(bytes) => written += bytes,
            Err(_) => {
                refused += 1;
                tokio::task::yield_now().await;
            }
        }
        assert!(written < 64 << 20, "somebody reads");
    }
    for _ in 0..100 {
        assert!(events.next().await.unwrap().is_ok(), "all is there when it is wanted");
    }
}

#[tokio::test]
async fn dropping_and_closing_close_the_connection() {
    for close in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let connector = SseConnector::new();
        let (tcp, events) = join(
            async {
                let mut tcp = listener.accept().await.unwrap().0;
                read_head(&mut tcp).await;
                tcp.write_all(STREAM.as_bytes()).await.unwrap();
                tcp
            },
            open(&connector, &url),
        )
        .await;
        let (mut tcp, mut events) = (tcp, events.unwrap());
        if close {
            events.close().await.unwrap();
            assert!(events.flush().await.unwrap_err().is_closed());
            assert!(events.next().await.is_none());
        } else {
            drop(events);
        }
        assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0, "the server sees the end");
    }
}

#[tokio::test]
async fn a_close_by_one_half_wakes_the_other() {
    let server = Scripted::holding([STREAM], true).await;
    let (mut sink, mut stream) = open(&SseConnector::new(), &server.url()).await.unwrap().split();
    let reading = tokio::spawn(async move { stream.next().await.is_none() });
    tokio::task::yield_now().await;
    sink.close().await.unwrap();
    assert!(reading.await.unwrap());
}

/// That it compiles says it.
#[tokio::test]
async fn an_event_stream_is_a_transport_that_takes_nothing() {
    fn is_transport<T: Transport<Infallible, In = Event>>(_: &T) {}
    let server = Scripted::new([STREAM]).await;
    let mut events: Sse = open(&SseConnector::new(), &server.url()).await.unwrap();
    is_transport(&events);
    events.flush().await.unwrap();
    assert!(events.next().await.unwrap().unwrap_err().is_closed());
    assert!(events.flush().await.unwrap_err().is_closed());
}
#[tokio::test]
async fn a_codec_reads_values_out_of_the_data() {
    use tower::ServiceBuilder;
    use tower_transport::{ServiceBuilderExt, codec::JsonCodec};

    let server = Scripted::new([format!("{STREAM}data: [1,\ndata: 2]\n\ndata: [3]\n\n")]).await;
    let events = open(&SseConnector::new(), &server.url()).await.unwrap().into_messages();
    let values = ServiceBuilder::new().codec(JsonCodec::<Vec<u32>>::new()).service(events);
    let values: Vec<_> = values.filter_map(|value| std::future::ready(value.ok())).collect().await;
    assert_eq!(values, [vec![1, 2], vec![3]]);
}

#[tokio::test]
async fn what_is_sent_over_its_messages_is_refused_but_for_a_close() {
    use tower_transport::{Message, TransportExt};

    let server = Scripted::holding([STREAM], true).await;
    let mut messages = open(&SseConnector::new(), &server.url()).await.unwrap().into_messages();
    assert!(messages.send_message(Message::text("a")).await.unwrap_err().is_config());
    messages.send_message(Message::Close(None)).await.unwrap();
    assert!(messages.receive_message().await.is_none());
    assert!(messages.send_message(Message::text("a")).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_ends_and_says_when_to_come_back() {
    let server = Scripted::holding([format!("{STREAM}retry: 9\ndata: a\n\n")], true).await;
    let connector = SseConnector::new().max_silence(Duration::from_millis(50));
    let (events, error) = read(open(&connector, &server.url()).await.unwrap()).await;
    assert_eq!(events, [["message", "a", ""]]);
    assert!(error.is_timeout() && error.to_string().contains("max_silence"), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(9)));
}

#[tokio::test]
async fn a_comment_is_no_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silence = Duration::from_millis(400);
    let server = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        read_head(&mut tcp).await;
        tcp.write_all(STREAM.as_bytes()).await.unwrap();
        // Longer than the silence that is allowed, with a comment in each quarter of it.
        for _ in 0..8 {
            tokio::time::sleep(silence / 4).await;
            tcp.write_all(b":\n\n").await.unwrap();
        }
        tcp.write_all(b"data: a\n\n").await.unwrap();
    };
    let client = async {
        let connector = SseConnector::new().max_silence(silence);
        read(open(&connector, &url).await.unwrap()).await
    };
    let ((), (events, error)) = join(server, client).await;
    assert_eq!(events, [["message", "a", ""]]);
    assert!(error.is_closed() || error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_flood_of_events_lets_other_tasks_run_after_a_thousand() {
    const EVENTS: usize = 10_000;
    let server = Scripted::new([format!("{STREAM}{}", "data:\n\n".repeat(EVENTS))]).await;
    let mut events = open(&SseConnector::new(), &server.url()).await.unwrap();
    let mut turns = Vec::new();
    while turns.iter().sum::<usize>() < EVENTS {
        // Waits, so that a turn begins with what has arrived.
        events.next().await.unwrap().unwrap();
        let taken = std::iter::from_fn(|| events.next().now_or_never()?).map_while(Result::ok).count();
        turns.push(1 + taken);
    }
    assert!(turns.iter().all(|taken| *taken <= 1025), "{turns:?}");
}
