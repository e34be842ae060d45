//! The room: a typed protocol, its members with a conflating queue each, and a ticker.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time};
use tower::ServiceBuilder;
use tower_transport::{
    CloseCode, CloseFrame, QueueConfig, Sender, ServiceBuilderExt, TransportExt, WhenFull,
    codec::JsonCodec,
    layer::rate_limit::{Quota, RateLimitLayer},
    stack::{AdaptiveTransport, OptimizedTransport, TransportKind},
    transport::webtransport::Session,
};

use crate::{End, line::Peer};

/// The most sessions at a time.
pub(crate) const MEMBERS: usize = 64;

/// The values that wait for one member; ticks of one symbol count once.
const QUEUE: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The commands of one member in a second. Further ones wait.
const COMMANDS: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The ticker publishes this many ticks every 20 ms: 1,000 a second.
const TICKS: u64 = 20;

/// More of them than ticks of one turn, so that a page that reads gets every tick.
const SYMBOLS: [&str; 24] = [
    "ABI", "ADA", "BIT", "BUS", "CPU", "CSS", "DMA", "DNS", "ECC", "EOF", "FPU", "GIT", "GPU", "HEX", "HUB", "ION",
    "IRQ", "JIT", "KEY", "LUT", "MMU", "NAT", "RAM", "TCP",
];

/// A message of the server.
#[derive(Clone, Serialize)]
#[serde(tag = "type")]
enum Event {
    Welcome { life: u32, members: Vec<String> },
    Presence { name: String, online: bool },
    Said { name: String, number: u64, text: String },
    Tick { symbol: &'static str, number: u64, price: u32 },
}

/// A message of a page.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Command {
    /// `number` is the page's own count of its messages, by which every page shows that none is lost or doubled.
    Say { number: u64, text: String },
}

/// A request that a page makes beside its session, which may be blocked or stalled.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Control {
    Cut,
    Block { transport: String, is_blocked: bool },
    Restart,
    Crash,
}

/// The server's view of one page.
#[derive(Serialize)]
pub(crate) struct Stats {
    life: u32,
    uptime: u64,
    queued: usize,
    dropped: u64,
    /// The bytes sent over the present connection.
    written: u64,
}

#[derive(Clone)]
pub(crate) struct Room(Arc<Shared>);

struct Shared {
    life: u32,
    began: Instant,
    control: mpsc::Sender<End>,
    clients: Mutex<HashMap<String, Client>>,
}

/// A page, by the name that it gave itself.
#[derive(Default)]
struct Client {
    member: Option<Member>,
    link: Option<Link>,
    blocked: Vec<TransportKind>,
}

struct Member {
    name: String,
    sender: Sender<Event, Command>,
}

/// The connection of a page.
pub(crate) enum Link {
    Tcp(Peer),
    Quic(Session),
}

impl Link {
    fn cut(&self) {
        match self {
            Self::Tcp(peer) => peer.cut(),
            // UDP has no connection that one end could drop in silence: the session ends without a close of its stream.
            Self::Quic(session) => session.close(CloseFrame::new(CloseCode::AWAY, "cut")),
        }
    }

    fn written(&self) -> u64 {
        match self {
            Self::Tcp(peer) => peer.written(),
            Self::Quic(session) => session.stats().bytes_sent,
        }
    }
}

impl Room {
    pub(crate) fn new(life: u32, control: mpsc::Sender<End>) -> Self {
        Self(Arc::new(Shared { life, began: Instant::now(), control, clients: Mutex::default() }))
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handler of a session, whatever its transports. It goes on while the page changes them.
    pub(crate) async fn session(self, session: OptimizedTransport<AdaptiveTransport>, uri: http::Uri) {
        let (Some(id), Some(name)) = (query(&uri, "client"), query(&uri, "name")) else { return };
        let stack = ServiceBuilder::new()
            .codec(JsonCodec::<Event, Command>::new())
            .layer(RateLimitLayer::per_connection(Quota::per_second(COMMANDS)).inbound())
            .limit(4096)
            .service(session);
        // A tick replaces the one of its symbol that still waits; everything else is kept.
        let queue = QueueConfig::values().max_messages(QUEUE).when_full(WhenFull::coalesce_by(|event| match event {
            Event::Tick { symbol, .. } => Some(*symbol),
            _ => None,
        }));
        let (sender, mut receiver) = stack.drive(queue).spawn();
        self.join(id, name, sender);
        while let Some(command) = receiver.receive().await {
            match command {
                Ok(Command::Say { number, text }) => {
                    self.publish(&Event::Said { name: name.to_owned(), number, text });
                }
                Err(error) if error.is_closed() => {}
                Err(error) => eprintln!("{name}: {error}"),
            }
        }
        // Unless a newer session of the page is the member by now.
        let left = self.clients().get_mut(id).and_then(|client| client.member.take_if(|it| it.sender.is_closed()));
        drop(left);
        self.publish(&Event::Presence { name: name.to_owned(), online: false });
    }

    fn join(&self, id: &str, name: &str, sender: Sender<Event, Command>) {
        self.publish(&Event::Presence { name: name.to_owned(), online: true });
        let mut clients = self.clients();
        let member = Member { name: name.to_owned(), sender };
        let before = clients.entry(id.to_owned()).or_default().member.replace(member);
        let members: Vec<_> =
            clients.values().filter_map(|client| Some(client.member.as_ref()?.name.clone())).collect();
        if let Some(Client { member: Some(member), .. }) = clients.get(id) {
            let _ = member.sender.try_send(Event::Welcome { life: self.0.life, members });
        }
        drop(clients);
        drop(before);
    }

    /// Sends an event to every member. Nobody waits for a slow one: its ticks are conflated, and a member whose queue
    /// is full of anything else has to leave.
    fn publish(&self, event: &Event) {
        for client in self.clients().values_mut() {
            let Some(member) = &client.member else { continue };
            if member.sender.try_send(event.clone()).is_err() {
                drop(member.sender.close(CloseFrame::new(CloseCode::TRY_AGAIN, "too slow")));
                client.member = None;
            }
        }
    }

    /// Publishes prices that walk at random.
    pub(crate) async fn tick(self) {
        let mut prices = [10_000_u32; SYMBOLS.len()];
        let mut random = 0x9e37_79b9_u32;
        let mut interval = time::interval(Duration::from_millis(20));
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Burst);
        for turn in 0_u64.. {
            interval.tick().await;
            // After a late turn the next one comes at once: the drivers of the members go between them.
            tokio::task::yield_now().await;
            for number in turn * TICKS..(turn + 1) * TICKS {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let index = (number % SYMBOLS.len() as u64) as usize;
                prices[index] = (prices[index] + (random >> 26)).saturating_sub(31).clamp(5_000, 20_000);
                self.publish(&Event::Tick { symbol: SYMBOLS[index], number, price: prices[index] });
            }
        }
    }

    /// Whether a page may connect over `kind`. `link` is its connection from now on.
    pub(crate) fn admit(&self, id: &str, kind: TransportKind, link: Option<Link>) -> bool {
        let mut clients = self.clients();
        if clients.len() >= 4 * MEMBERS && !clients.contains_key(id) {
            clients.retain(|_, client| client.member.is_some());
        }
        let client = clients.entry(id.to_owned()).or_default();
        if client.blocked.contains(&kind) {
            return false;
        }
        if link.is_some() {
            client.link = link;
        }
        true
    }

    pub(crate) fn control(&self, id: &str, control: &Control) {
        match control {
            Control::Cut => {
                self.clients().get(id).and_then(|client| client.link.as_ref()).into_iter().for_each(Link::cut)
            }
            Control::Block { transport, is_blocked } => {
                let Some(kind) = TransportKind::all().into_iter().find(|kind| kind.as_str() == transport) else {
                    return;
                };
                let mut clients = self.clients();
                let client = clients.entry(id.to_owned()).or_default();
                client.blocked.retain(|blocked| *blocked != kind);
                if *is_blocked {
                    client.blocked.push(kind);
                }
            }
            // A restart that is under way already is enough.
            Control::Restart => drop(self.0.control.try_send(End::Restart)),
            Control::Crash => drop(self.0.control.try_send(End::Crash)),
        }
    }

    pub(crate) fn stats(&self, id: &str) -> Stats {
        let clients = self.clients();
        let client = clients.get(id);
        let sender = client.and_then(|client| client.member.as_ref()).map(|member| &member.sender);
        Stats {
            life: self.0.life,
            uptime: self.0.began.elapsed().as_secs(),
            queued: sender.map_or(0, Sender::queued),
            dropped: sender.map_or(0, Sender::dropped),
            written: client.and_then(|client| client.link.as_ref()).map_or(0, Link::written),
        }
    }
}

/// Returns a parameter of the query: letters, digits and `-`, at most 32 of them.
pub(crate) fn query<'a>(uri: &'a http::Uri, name: &str) -> Option<&'a str> {
    let (_, value) = uri.query()?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_plain && (1..=32).contains(&value.len())).then_some(value)
}
