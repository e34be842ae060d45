//! An `EventSource`: the connector below the reconnect layer.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    http::HeaderMap,
    response::sse::{Event as AxumEvent, Sse as AxumSse},
    routing::get,
};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_transport::{
    Error, ServiceBuilderExt,
    layer::reconnect::{Backoff, Reconnect, State},
    transport::sse::SseConnector,
};

use super::scripted::{STREAM, Scripted};

fn source(connector: SseConnector, url: &str) -> Reconnect<SseConnector, Infallible> {
    let backoff = Backoff::fixed(Duration::from_millis(10)).max_retries(20);
    ServiceBuilder::new().reconnect(url, backoff).service(connector)
}

#[tokio::test]
async fn a_server_that_ends_each_stream_is_read_without_a_gap_or_a_duplicate() {
    // Each connection gives three events after the one that the client has seen, and ends in the middle of the fourth.
    async fn feed(headers: HeaderMap) -> AxumSse<impl stream::Stream<Item = Result<AxumEvent, Infallible>>> {
        let seen = headers.get("last-event-id").map_or(0, |id| id.to_str().unwrap().parse::<u32>().unwrap());
        let events = (seen + 1..=seen + 3).map(|n| {
            Ok(AxumEvent::default().id(n.to_string()).retry(Duration::from_millis(20)).data(format!("event {n}")))
        });
        AxumSse::new(stream::iter(events))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(feed))).await });

    let connector = SseConnector::new();
    let mut events = Box::pin(source(connector.clone(), &url));
    for n in 1..=20 {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.data().as_str(), event.last_event_id()), (&*format!("event {n}"), &*n.to_string()));
    }
    assert_eq!(events.handle().connections(), 7);
    assert_eq!((connector.last_event_id().as_str(), connector.retry()), ("20", Some(Duration::from_millis(20))));
}

#[tokio::test]
async fn the_servers_time_to_reconnect_is_waited_and_seen() {
    let server = Scripted::new([format!("{STREAM}retry: 50\ndata: a\n\n"), format!("{STREAM}data: b\n\n")]).await;
    let mut events = Box::pin(source(SseConnector::new(), &server.url()));
    let mut states = events.handle().states();
    let seen = tokio::spawn(async move {
        while let Some(state) = states.next().await {
            if let State::Reconnecting { after, cause, .. } = state {
                return (after, cause);
            }
        }
        panic!("never reconnecting");
    });
    for data in ["a", "b"] {
        assert_eq!(events.next().await.unwrap().unwrap().data(), data);
    }
    let (after, cause) = seen.await.unwrap();
    assert!(after >= Duration::from_millis(50), "{after:?}");
    assert!(cause.is_closed(), "{cause:?}");
}

/// A server that chooses an id must not be able to end every subscriber permanently.
#[tokio::test]
async fn an_id_that_no_header_can_hold_does_not_end_the_source() {
    let long = "7".repeat(60_000);
    let server = Scripted::new([
        format!("{STREAM}id: a\u{1}b\ndata: a\n\n"),
        format!("{STREAM}id: {long}\ndata: b\n\n"),
        format!("{STREAM}id: 8\ndata: c\n\n"),
        format!("{STREAM}data: d\n\n"),
    ])
    .await;
    let mut events = Box::pin(source(SseConnector::new(), &server.url()));
    for (data, id) in [("a", "a\u{1}b"), ("b", &long), ("c", "8"), ("d", "8")] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.data().as_str(), event.last_event_id()), (data, id));
    }
    let sent: Vec<_> = server.requests().iter().map(|head| head.contains("last-event-id")).collect();
    assert_eq!(sent[..4], [false, false, false, true]);
}

async fn ends_after(answers: Vec<String>) -> (Vec<String>, Error, usize) {
    let server = Scripted::new(answers).await;
    let mut events = Box::pin(source(SseConnector::new(), &server.url()));
    let mut read = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => read.push(event.data().to_string()),
            Err(error) => {
                assert!(events.next().await.is_none());
                assert!(matches!(events.handle().state(), State::Failed { .. }));
                return (read, error, server.requests().len());
            }
        }
    }
    panic!("it ends with an error");
}

#[tokio::test]
async fn no_content_ends_the_source() {
    let answers = vec![format!("{STREAM}data: a\n\n"), "HTTP/1.1 204 No Content\r\n\r\n".to_owned()];
    let (read, error, requests) = ends_after(answers).await;
    assert_eq!((read, requests), (vec!["a".to_owned()], 2));
    assert_eq!(error.status(), Some(http::StatusCode::NO_CONTENT));
}

#[tokio::test]
async fn refused_credentials_are_never_tried_again() {
    for status in [401, 403] {
        let answers = vec![format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")];
        let (_, error, requests) = ends_after(answers).await;
        assert!(error.is_auth(), "{error:?}");
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_down_for_a_while_is_tried_again() {
    let unavailable = "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_owned();
    let answers = vec![
        unavailable.clone(),
        format!("{STREAM}id: 1\ndata: a\n\n"),
        unavailable,
        String::new(),
        format!("{STREAM}data: b\n\n"),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ];
    let (read, _, requests) = ends_after(answers).await;
    assert_eq!((read, requests), (vec!["a".to_owned(), "b".to_owned()], 6));
}
