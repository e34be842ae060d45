//! axum's own server-sent events, read by our client.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tower_transport::transport::sse::SseConnector;

use super::scripted::{fields, open, read};

async fn axum(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn axums_events_arrive_as_they_were_sent() {
    async fn feed() -> Sse<impl stream::Stream<Item = Result<Event, Infallible>>> {
        let events = [
            Event::default().data("plain"),
            Event::default().event("note").id("7").data("two\nlines"),
            Event::default().comment("for nobody"),
            Event::default().retry(Duration::from_secs(2)).json_data(vec![1, 2]).unwrap(),
        ];
        Sse::new(stream::iter(events.map(Ok))).keep_alive(KeepAlive::default())
    }
    let url = axum(Router::new().route("/", get(feed))).await;
    let connector = SseConnector::new();
    let (events, error) = read(open(&connector, &url).await.unwrap()).await;
    assert_eq!(events, [["message", "plain", ""], ["note", "two\nlines", "7"], ["message", "[1,2]", "7"]]);
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(connector.retry(), Some(Duration::from_secs(2)));
}

#[tokio::test]
async fn keep_alive_comments_are_not_events() {
    async fn feed() -> Sse<impl stream::Stream<Item = Result<Event, Infallible>>> {
        let events = stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Event::default().data("at last"))
        });
        let comments = KeepAlive::new().interval(Duration::from_millis(5)).text("still here");
        Sse::new(events.chain(stream::pending())).keep_alive(comments)
    }
    let url = axum(Router::new().route("/", get(feed))).await;
    let mut events = open(&SseConnector::new(), &url).await.unwrap();
    assert_eq!(fields(&events.next().await.unwrap().unwrap()), ["message", "at last", ""]);
}

#[tokio::test]
async fn many_large_events_arrive_whole_and_in_order() {
    async fn feed() -> Sse<impl stream::Stream<Item = Result<Event, Infallible>>> {
        let events = (0..200).map(|n: usize| Ok(Event::default().id(n.to_string()).data("x".repeat(n * 500))));
        Sse::new(stream::iter(events))
    }
    let url = axum(Router::new().route("/", get(feed))).await;
    let (events, _) = read(open(&SseConnector::new(), &url).await.unwrap()).await;
    // axum writes no `data` line for empty data, so the first is not an event.
    let lengths: Vec<_> = events.iter().map(|[_, data, id]| (data.len(), id.parse().unwrap())).collect();
    assert_eq!(lengths, (1..200).map(|n| (n * 500, n)).collect::<Vec<_>>());
}
