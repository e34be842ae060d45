//! Behind real HTTP servers: hyper over HTTP/1.1 and HTTP/2, and axum.

use std::{convert::Infallible, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use support::within;
use tokio::{net::TcpListener, sync::mpsc};
use tower_transport::{
    Error, QueueConfig,
    transport::sse::{Event, EventReceiver, EventSender, EventStream, LastEventId, event_channel},
};

type HyperClient = Client<HttpConnector, Empty<Bytes>>;

/// Bare hyper: gives the test the sender of each stream that it opens.
async fn bare_hyper() -> (String, mpsc::Receiver<EventSender>) {
    let (opened, senders) = mpsc::channel(8);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let opened = opened.clone();
            let service = service_fn(move |_| {
                let (sender, events) = event_channel(QueueConfig::events());
                opened.try_send(sender).unwrap();
                async { Ok::<_, Infallible>(events.into_response()) }
            });
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    (url, senders)
}

fn client(http2: bool) -> HyperClient {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

async fn open(client: &HyperClient, url: &str) -> Response<Incoming> {
    let response = client.request(Request::get(url).body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

/// The next bytes of a body. HTTP/2 ends it by a frame without any.
async fn next(body: &mut Incoming) -> Option<Bytes> {
    let bytes = body.frame().await?.unwrap().into_data().unwrap();
    (!bytes.is_empty()).then_some(bytes)
}

#[tokio::test]
async fn the_head_is_sent_before_there_is_an_event_and_each_event_at_once() {
    within(async {
        for http2 in [false, true] {
            let (url, mut senders) = bare_hyper().await;
            let mut body = open(&client(http2), &url).await.into_body();
            let sender = senders.recv().await.unwrap();
            for i in 0..3 {
                sender.send(Event::new(i.to_string())).await.unwrap();
                assert_eq!(next(&mut body).await.unwrap(), format!("data: {i}\n\n"));
            }
            drop(sender);
            assert_eq!(next(&mut body).await, None, "HTTP/2: {http2}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_though_nothing_is_sent() {
    within(async {
        for http2 in [false, true] {
            let (url, mut senders) = bare_hyper().await;
            let client = client(http2);
            let mut body = open(&client, &url).await.into_body();
            let sender = senders.recv().await.unwrap();
            sender.send(Event::new("a")).await.unwrap();
            next(&mut body).await.unwrap();
            // HTTP/2 resets the stream, and the connection stays; HTTP/1.1 has nothing but the connection.
            drop(body);
            assert!(sender.closed().await.is_closed(), "HTTP/2: {http2}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_producer_stops_while_the_client_does_not_read_and_nothing_is_lost() {
    within(async {
        const EVENTS: usize = 2000;
        for http2 in [false, true] {
            let (url, mut senders) = bare_hyper().await;
            let mut body = open(&client(http2), &url).await.into_body();
            let sender = senders.recv().await.unwrap();
            // Nothing but a full socket makes a producer wait that long on a paused clock.
            tokio::time::pause();
            let data = "x".repeat(16 * 1024);
            let (stuck, is_stuck) = tokio::sync::oneshot::channel();
            let producer = tokio::spawn(async move {
                let mut stuck = Some(stuck);
                for sent in 0..EVENTS {
                    let sending = sender.send(Event::new(data.as_str()));
                    let mut sending = std::pin::pin!(sending);
                    if stuck.is_some() && tokio::time::timeout(Duration::from_secs(1), &mut sending).await.is_ok() {
                        continue;
                    }
                    if let Some(stuck) = stuck.take() {
                        stuck.send(sent).unwrap();
                    }
                    sending.await.unwrap();
                }
            });
            let sent = is_stuck.await.expect("the producer never waits");
            assert!(sent < EVENTS, "{sent}");
            let mut bytes = 0;
            while let Some(frame) = next(&mut body).await {
                bytes += frame.len();
            }
            producer.await.unwrap();
            tokio::time::resume();
            assert_eq!(bytes, EVENTS * (16 * 1024 + "data: \n\n".len()), "HTTP/2: {http2}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_is_a_cut_that_the_client_sees() {
    within(async {
        let failing = get(async || {
            let events = [Ok(Event::new("a")), Err(Error::other("the source is gone"))];
            EventStream::new(futures_util::stream::iter(events))
        });
        let url = axum(Router::new().route("/", failing)).await;
        let mut body = open(&client(false), &url).await.into_body();
        assert_eq!(next(&mut body).await.unwrap(), "data: a\n\n");
        assert!(body.frame().await.unwrap().is_err(), "it ended as if all were well");
    })
    .await;
}

async fn axum(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn an_axum_handler_takes_the_last_event_id_and_returns_the_stream() {
    async fn handler(last: Option<LastEventId>) -> EventStream<EventReceiver> {
        let (sender, events) = event_channel(QueueConfig::events());
        sender.send(Event::new(format!("{:?}", last.as_deref()))).await.unwrap();
        events
    }

    within(async {
        let url = axum(Router::new().route("/", get(handler))).await;
        let client = client(false);
        for (id, seen) in [(None, "None"), (Some("h\u{e9} 7"), "Some(\"h\u{e9} 7\")"), (Some(""), "None")] {
            let mut request = Request::get(&url);
            if let Some(id) = id {
                request = request.header("last-event-id", id.as_bytes());
            }
            let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
            assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("data: {seen}\n\n"));
        }
    })
    .await;
}
