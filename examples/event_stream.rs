//! Server-sent events from axum, with what a client has missed: a feed keeps its last events, and a client that comes back says by
//! `Last-Event-ID` which it has. A client then reads, is cut again and again, and counts what it missed: nothing.
//!
//! ```text
//! cargo run --example event_stream --features axum,sse
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use futures_util::{FutureExt, StreamExt};
use http::Request;
use tower::ServiceExt;
use tower_transport::{
    BoxError, CloseCode, Queue, WhenFull,
    transport::sse::{Event, EventSender, LastEventId, SseConnector, event_channel},
};

/// How many events a client may miss and still get.
const KEPT: usize = 100;

/// What is published goes to everyone who is there, and is kept for those who come back.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Published>>);

#[derive(Default)]
struct Published {
    count: u64,
    last: VecDeque<(u64, Event)>,
    subscribers: Vec<EventSender>,
}

impl Feed {
    fn publish(&self, price: &str) -> Result<(), tower_transport::Error> {
        let mut feed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feed.count += 1;
        let event = Event::new(price).event("price")?.id(&feed.count.to_string())?;
        let entry = (feed.count, event.clone());
        feed.last.push_back(entry);
        if feed.last.len() > KEPT {
            feed.last.pop_front();
        }
        // A queue that closes when it is full never waits: a client that is too slow is cut, and comes back for the rest.
        feed.subscribers.retain(|subscriber| matches!(subscriber.send(event.clone()).now_or_never(), Some(Ok(()))));
        Ok(())
    }

    /// What this client has missed, then what is new; both under one lock, so that nothing falls in between.
    fn subscribe(&self, last: Option<LastEventId>) -> impl IntoResponse + use<> {
        let mut feed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It is the client who says so: an id that is not ours, or is yet to come, counts as none.
        let seen = last.and_then(|id| id.parse().ok()).filter(|id| *id <= feed.count);
        let missed: Vec<_> = match seen {
            Some(seen) => feed.last.iter().filter(|(id, _)| *id > seen).map(|(_, event)| event.clone()).collect(),
            None => Vec::new(),
        };
        println!("server: a client that has seen {seen:?} comes, and missed {}", missed.len());
        let (sender, events) = event_channel(Queue::events().when_full(WhenFull::Close(CloseCode::TRY_AGAIN)));
        feed.subscribers.push(sender);
        events.retry(Duration::from_millis(200)).replay(missed)
    }
}

async fn prices(State(feed): State<Feed>, last: Option<LastEventId>) -> impl IntoResponse {
    feed.subscribe(last)
}

/// Reads `most` events, then hangs up; the first of them must be the one after `seen`, and so on. The connector remembers what it
/// has seen, and says so when it comes back.
async fn read(connector: &SseConnector, url: &str, most: u64, seen: Option<u64>) -> Result<u64, BoxError> {
    let mut events = connector.clone().oneshot(Request::get(url).body(())?).await?.into_body();
    let (mut last, mut count) = (seen, 0);
    while let Some(event) = events.next().await {
        let id: u64 = event?.last_event_id().parse()?;
        if last.is_some_and(|last| id != last + 1) {
            return Err(format!("after event {last:?} came {id}").into());
        }
        last = Some(id);
        count += 1;
        if count == most {
            return Ok(id);
        }
    }
    Err("the server ended the stream".into())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let feed = Feed::default();
    let app = Router::new().route("/prices", get(prices)).with_state(feed.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/prices", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    tokio::spawn(async move {
        for price in 0_u64.. {
            feed.publish(&price.to_string())?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<_, BoxError>(())
    });

    let connector = SseConnector::new();
    let first = read(&connector, &url, 1, None).await?;
    let mut last = first;
    for _ in 0..5 {
        last = read(&connector, &url, 10, Some(last)).await?;
        println!("client: read up to event {last}, and is cut");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("client: {} events from {first} to {last}, in order, none missed, none twice", last - first + 1);
    Ok(())
}
