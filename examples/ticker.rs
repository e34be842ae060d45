//! A ticker of 1,000 messages a second to 1,000 readers, ten of them stalled, and what each policy did.
//!
//! ```text
//! cargo run -p examples --release --bin ticker
//! ```
//!
//! Everything runs in this process. The readers have sockets in memory, WebSockets and a JSON protocol of their own
//! (`{"subscribe":"ticks"}`). Half way, a late reader comes, goes, and comes back to the position where it was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::{
    io::{DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time,
};
use tower::{ServiceBuilder, service_fn};
use tower_transport::{
    BoxError, CloseCode, Error, Limits, Message, TransportExt,
    layer::topic::{Requests, SubscribeRequest, TopicLayer, TopicProtocol},
    topic::{Event, History, Policy, Position, Start, Topics, TopicsConfig},
    transport::websocket::WebSocket,
};

const READERS: usize = 1_000;
const SECONDS: u64 = 5;
const RATE: u64 = 1_000;

type Reader = WebSocket<DuplexStream>;

/// The protocol of the readers: three messages and their answers.
#[derive(Clone)]
struct Feed;

impl TopicProtocol for Feed {
    type Topic = String;
    type Message = Message;
    type In = Message;
    type Out = Message;

    fn read(&mut self, message: Message, requests: &mut Requests<String, Message>) -> Option<Message> {
        let request: serde_json::Value = serde_json::from_slice(message.as_bytes()).unwrap_or_default();
        let number = |name| request[name].as_u64();
        if let Some(topic) = request["subscribe"].as_str() {
            let start = match (number("epoch"), number("offset")) {
                (Some(epoch), Some(offset)) => Start::After(Position::new(epoch, offset)),
                _ => Start::Live,
            };
            requests.subscribe(topic.to_owned(), start);
        } else if let Some(topic) = request["unsubscribe"].as_str() {
            requests.unsubscribe(topic.to_owned());
        } else {
            return Some(message);
        }
        None
    }

    fn event(&mut self, event: Event<String, Message>, mut send: impl FnMut(Message)) {
        match event {
            // As it was published: encoded once for all.
            Event::Message(publication) => send(publication.into_message()),
            Event::Gap { missed, .. } => send(json(&serde_json::json!({ "missed": missed }))),
            _ => {}
        }
    }

    fn subscribed(&mut self, topic: &String, outcome: Result<Position, Error>, mut send: impl FnMut(Message)) {
        send(json(&match outcome {
            Ok(at) => serde_json::json!({ "subscribed": topic, "epoch": at.epoch(), "offset": at.offset() }),
            Err(error) => serde_json::json!({ "refused": topic, "error": error.to_string() }),
        }));
    }
}

fn json(value: &serde_json::Value) -> Message {
    Message::text(value.to_string())
}

/// A session of the server: the layer, and a task that reads until `over`. Returns the reader's end, and the task, which
/// tells what the policy did.
fn connect(topics: &Topics<String>, policy: Policy, mut over: watch::Receiver<bool>) -> (Reader, JoinHandle<String>) {
    let (server, client) = duplex(4 << 10);
    let public = service_fn(async |request: SubscribeRequest<String>| match request.topic.as_str() {
        "ticks" => Ok(()),
        _ => Err(Error::auth("there is no such feed")),
    });
    let mut limits = Limits::default();
    limits.write_buffer = 4 << 10;
    let layer = TopicLayer::new(topics.clone(), Feed, policy).authorize(public);
    let mut session = ServiceBuilder::new().layer(layer).service(WebSocket::server(server, limits));
    let task = tokio::spawn(async move {
        let mut end = String::new();
        loop {
            tokio::select! {
                _ = over.wait_for(|is_over| *is_over) => break,
                message = session.receive_message() => match message {
                    Some(Ok(message)) => println!("{message:?}"),
                    Some(Err(error)) => end = format!("\n    {error}"),
                    None => break,
                }
            }
        }
        let subscription = session.subscription();
        let (queued, dropped, replaced) = (subscription.queued(), subscription.dropped(), subscription.replaced());
        format!("  {:<20} {queued:>8} {dropped:>8} {replaced:>9}{end}", name(policy))
    });
    (WebSocket::client(client, Limits::default()), task)
}

fn name(policy: Policy) -> String {
    let text = format!("{policy:?}");
    let policy = text.split("when_full: ").nth(1).and_then(|rest| rest.split(", max").next());
    policy.unwrap_or(&text).to_owned()
}

/// Reads ticks until `done` of them were read. Returns the last position, the ticks, and the messages that were missed.
async fn read(socket: &mut Reader, done: u64) -> Result<(Position, u64, u64), BoxError> {
    let (mut at, mut ticks, mut missed) = (Position::new(0, 0), 0, 0);
    while ticks < done {
        let Some(message) = socket.next().await else { break };
        let value: serde_json::Value = serde_json::from_slice(message?.as_bytes())?;
        let number = |name: &str| value[name].as_u64();
        if let (Some(epoch), Some(offset)) = (number("epoch"), number("offset")) {
            at = Position::new(epoch, offset);
        } else if let Some(tick) = number("tick") {
            (at, ticks) = (Position::new(at.epoch(), tick), ticks + 1);
        } else {
            missed += number("missed").unwrap_or(0);
        }
    }
    Ok((at, ticks, missed))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Ten seconds of ticks for those who come back, and the symbol of a tick as its key.
    let history = History::recent(10_000.try_into()?).max_bytes((8 << 20).try_into()?);
    let symbol = |_: &String, tick: &Message| {
        let number: serde_json::Value = serde_json::from_slice(tick.as_bytes()).ok()?;
        number["symbol"].as_u64()
    };
    let topics = Topics::with_config(TopicsConfig::messages().history(history).key_by(symbol));

    // Ten readers that stall: they subscribe and read nothing.
    let policies =
        [Policy::drop_oldest(), Policy::drop_newest(), Policy::coalesce(), Policy::close(CloseCode::TRY_AGAIN)];
    let (end, over) = watch::channel(false);
    let mut stalled = Vec::new();
    for policy in policies.iter().cycle().take(10) {
        let (mut socket, session) = connect(&topics, *policy, over.clone());
        socket.send_message(Message::text(r#"{"subscribe":"ticks"}"#)).await?;
        stalled.push((socket, session));
    }
    // The others read everything.
    let (received, missed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in stalled.len()..READERS {
        let (mut socket, _) = connect(&topics, Policy::drop_oldest().max_messages(2_000.try_into()?), over.clone());
        socket.send_message(Message::text(r#"{"subscribe":"ticks"}"#)).await?;
        let (received, missed) = (received.clone(), missed.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                match message.as_text() {
                    Some(text) if text.starts_with("{\"tick\"") => drop(received.fetch_add(1, Relaxed)),
                    Some(text) if text.starts_with("{\"missed\"") => drop(missed.fetch_add(1, Relaxed)),
                    _ => {}
                }
            }
        });
    }
    time::sleep(Duration::from_millis(200)).await;

    let late = tokio::spawn({
        let (topics, over) = (topics.clone(), over.clone());
        async move {
            time::sleep(Duration::from_secs(SECONDS / 2)).await;
            let policy = Policy::drop_oldest();
            let (mut socket, _) = connect(&topics, policy, over.clone());
            socket.send_message(Message::text(r#"{"subscribe":"ticks"}"#)).await?;
            let (at, first, _) = read(&mut socket, 300).await?;
            drop(socket);
            // It is away for a second.
            time::sleep(Duration::from_secs(1)).await;
            let (mut socket, _) = connect(&topics, policy, over.clone());
            let back = serde_json::json!({ "subscribe": "ticks", "epoch": at.epoch(), "offset": at.offset() });
            socket.send_message(json(&back)).await?;
            let (end, second, missed) = read(&mut socket, 1_000).await?;
            let is_whole = end.offset() == at.offset() + second && missed == 0;
            Ok::<_, BoxError>(format!(
                "a late reader read {first} ticks to {at}, was away for a second, and read {second} more to {end}: {}",
                if is_whole { "no gap, no repetition" } else { "NOT WHOLE" },
            ))
        }
    });

    println!("publishing {RATE} ticks a second to {READERS} readers for {SECONDS} s");
    let mut longest = Duration::ZERO;
    let mut interval = time::interval(Duration::from_micros(1_000_000 / RATE));
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Burst);
    let began = Instant::now();
    for tick in 1..=RATE * SECONDS {
        interval.tick().await;
        let message = Message::text(format!(r#"{{"tick":{tick},"symbol":{},"price":{}}}"#, tick % 24, tick * 7 % 1000));
        let publication = Instant::now();
        topics.publish("ticks", message)?;
        longest = longest.max(publication.elapsed());
    }
    println!("published in {:.2?}; the longest publication took {longest:.2?}", began.elapsed());
    println!("{}", late.await??);
    // Those who read have a moment to read the rest.
    time::sleep(Duration::from_secs(1)).await;
    let expected = (READERS - stalled.len()) as u64 * RATE * SECONDS;
    println!("the others got {} of {expected} ticks, with {} gaps", received.load(Relaxed), missed.load(Relaxed));
    end.send_replace(true);
    println!("  a stalled reader's     queued  dropped  replaced");
    for (socket, session) in stalled {
        println!("{}", session.await?);
        drop(socket);
    }
    Ok(())
}
