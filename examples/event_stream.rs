//! Server-sent events from axum, with replay: a feed keeps its last events, and a client that comes back states by
//! `Last-Event-ID` which ones it has. The client reads, is cut again and again, and counts the events that it missed:
//! none. Only a client that was away for too long misses some, and an event of the type `gap` tells it which.
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
    BoxError, CloseCode, QueueConfig, WhenFull,
    transport::sse::{Event, EventSender, LastEventId, SseConnector, event_channel},
};

/// The number of events that are kept for clients that missed them.
const KEPT: usize = 100;

/// A feed. A published event goes to all current subscribers, and is kept for those that come back.
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
        // A queue that closes when it is full never waits: a client that is too slow is cut, and comes back for the
        // rest.
        feed.subscribers.retain(|subscriber| matches!(subscriber.send(event.clone()).now_or_never(), Some(Ok(()))));
        Ok(())
    }

    /// Returns the events that this client has missed, followed by new ones. Both are taken under one lock, so that no
    /// event is lost in between.
    fn subscribe(&self, last: Option<LastEventId>) -> Result<impl IntoResponse + use<>, tower_transport::Error> {
        let mut feed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The id comes from the client and cannot be trusted: an id that this feed did not issue is ignored.
        let seen: Option<u64> = last.and_then(|id| id.parse().ok());
        let mut missed = Vec::new();
        if let Some(seen) = seen {
            missed.extend(feed.gap(seen)?);
            missed.extend(feed.last.iter().filter(|(id, _)| *id > seen).map(|(_, event)| event.clone()));
        }
        println!("server: a client that has seen {seen:?} comes, and missed {}", missed.len());
        let (sender, events) = event_channel(QueueConfig::events().when_full(WhenFull::Close(CloseCode::TRY_AGAIN)));
        feed.subscribers.push(sender);
        Ok(events.retry(Duration::from_millis(200)).replay(missed))
    }
}

impl Published {
    /// Returns an event that tells a client which events are permanently lost, so that it can fetch everything again.
    /// Its data are the first and the last id that are no longer kept. For a client of a feed that has restarted since,
    /// and counts from 1 again, these are all of them.
    fn gap(&self, seen: u64) -> Result<Option<Event>, tower_transport::Error> {
        let kept = self.last.front().map_or(self.count + 1, |(id, _)| *id);
        let from = if seen > self.count { 1 } else { seen + 1 };
        if seen <= self.count && from >= kept {
            return Ok(None);
        }
        let to = if seen > self.count { self.count } else { kept - 1 };
        Ok(Some(Event::new(format!("{from} {to}")).event("gap")?.id(&to.to_string())?))
    }
}

async fn prices(State(feed): State<Feed>, last: Option<LastEventId>) -> impl IntoResponse {
    feed.subscribe(last).map_err(|_| http::StatusCode::INTERNAL_SERVER_ERROR)
}

/// A client's knowledge of the feed.
#[derive(Clone, Copy, Default)]
struct Seen {
    last: Option<u64>,
    /// The number of events that it was told are permanently lost.
    missed: u64,
}

/// Reads `most` events, then disconnects. The first of them must be the one after the last that was seen, and so on, or
/// a reported gap. The connector remembers which events it has seen, and states it when it comes back.
async fn read(connector: &SseConnector, request: Request<()>, most: u64, mut seen: Seen) -> Result<Seen, BoxError> {
    let mut events = connector.clone().oneshot(request).await?.into_body();
    let mut count = 0;
    while let Some(event) = events.next().await {
        let event = event?;
        let id: u64 = event.last_event_id().parse()?;
        if event.event_type() == "gap" {
            let (from, to) = event.data().split_once(' ').ok_or("a gap has two ends")?;
            let (from, to): (u64, u64) = (from.parse()?, to.parse()?);
            println!("client: events {from} to {to} are not kept any more");
            seen = Seen { last: Some(to), missed: seen.missed + (to + 1).saturating_sub(from) };
            continue;
        }
        if seen.last.is_some_and(|last| id != last + 1) {
            return Err(format!("after event {:?} came {id}", seen.last).into());
        }
        seen.last = Some(id);
        count += 1;
        if count == most {
            return Ok(seen);
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
    let get = || Request::get(&url);
    let mut seen = read(&connector, get().body(())?, 1, Seen::default()).await?;
    let first = seen.last.unwrap_or_default();
    for _ in 0..5 {
        seen = read(&connector, get().body(())?, 10, seen).await?;
        println!("client: read up to event {}, and is cut", seen.last.unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = seen.last.unwrap_or_default();
    println!(
        "client: {} events from {first} to {last}, in order, {} missed, none twice",
        last - first + 1,
        seen.missed
    );

    // Stays away for longer than the feed keeps its events: the rest arrives, and the lost ones are reported.
    tokio::time::sleep(Duration::from_millis(2 * 3 * KEPT as u64)).await;
    seen = read(&connector, get().body(())?, 10, seen).await?;
    println!("client: {} events missed, and told so", seen.missed);

    // The same happens to a client from before the feed restarted, with an id that is still in the future.
    let before = get().header("last-event-id", "1000000").body(())?;
    let seen = read(&SseConnector::new(), before, 1, Seen { last: Some(1_000_000), missed: 0 }).await?;
    println!("client: {} events missed by one of an earlier feed", seen.missed);
    Ok(())
}
