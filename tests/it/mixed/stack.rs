//! Stacks that are put together at random, as far as the docs of the layers allow it.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::Index};
use tower::{Layer, service_fn};
use tower_transport::{
    BoxTransport, Error, Message, QueueConfig, TransportExt,
    codec::Codec,
    layer::{
        batch::{BatchLayer, BatchPolicy},
        codec::CodecLayer,
        compression::{CompressionLayer, Deflate, Level},
        heartbeat::HeartbeatLayer,
        latest::{Latest, LatestLayer},
        limit::LimitLayer,
        queue::QueueLayer,
        rate_limit::{Quota, RateLimitLayer},
        service::ServiceLayer,
        trace::TraceLayer,
    },
};

pub(crate) type Boxed = BoxTransport<Message>;

/// One layer with its settings.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    // On both ends, in the same order: these change the wire.
    Codec,
    TraceContext {
        one_in: u32,
    },
    Batch {
        count: u16,
        bytes: usize,
        delay: Option<u64>,
    },
    Compression {
        min_size: usize,
        level: u8,
        keep_context: bool,
    },
    Heartbeat {
        millis: u64,
        application_level: bool,
    },
    /// Where reconnect and resume stand. Added by the owner of the connector.
    Resume,
    // On one end.
    Trace,
    Limit {
        in_flight: Option<usize>,
    },
    Inbound {
        at_a_time: usize,
        slow: u8,
    },
    Outbound {
        at_a_time: usize,
        slow: u8,
    },
    Rate {
        per_second: u32,
        burst: u32,
    },
    Queue {
        messages: usize,
    },
    Latest,
}

/// A codec whose values are messages, so that all stacks have one type.
#[derive(Clone, Debug)]
struct Whole;

impl Codec for Whole {
    type Out = Message;
    type In = Message;

    fn encode(&mut self, value: &Message) -> Result<Message, Error> {
        Ok(match value.as_text() {
            Some(text) => Message::text(format!("~{text}")),
            None => Message::binary([b"~", value.as_bytes()].concat()),
        })
    }

    fn decode(&mut self, message: Message) -> Result<Message, Error> {
        Ok(match message {
            Message::Text(text) => Message::text(text.strip_prefix('~').expect("it was put there")),
            Message::Binary(bytes) if bytes.first() == Some(&b'~') => Message::Binary(bytes.slice(1..)),
            other => panic!("never sent: {other:?}"),
        })
    }
}

fn some(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// A service that takes its time, and not the same for each message.
async fn in_a_while(message: Message, slow: u8) -> Result<Message, Error> {
    match (slow, message.len() as u64 % u64::from(slow.max(1))) {
        (0, _) => {}
        (_, 0) => tokio::task::yield_now().await,
        (_, millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
    }
    Ok(message)
}

impl Piece {
    pub(crate) fn put_on(&self, inner: Boxed) -> Boxed {
        match *self {
            Self::Codec => CodecLayer::new(Whole).layer(inner).into_boxed(),
            Self::TraceContext { one_in } => TraceLayer::client("mixed")
                .sample_one_in(NonZeroU32::new(one_in).unwrap())
                .propagate(true)
                .layer(inner)
                .into_boxed(),
            Self::Batch { count, bytes, delay } => {
                let policy = match delay {
                    Some(millis) => BatchPolicy::new(count, Duration::from_millis(millis)),
                    None => BatchPolicy::on_flush(count),
                };
                BatchLayer::new(policy.max_bytes(bytes)).layer(inner).into_boxed()
            }
            Self::Compression { min_size, level, keep_context } => {
                let deflate = Deflate::new().min_size(min_size).level(Level::try_from(level).unwrap());
                let deflate = if keep_context { deflate.keep_context() } else { deflate };
                CompressionLayer::new(deflate).layer(inner).into_boxed()
            }
            Self::Heartbeat { millis, application_level } => {
                let layer = HeartbeatLayer::new(Duration::from_millis(millis), Duration::from_secs(20)).answer_pings();
                let layer = if application_level { layer.application_level() } else { layer };
                layer.layer(inner).into_boxed()
            }
            Self::Resume => inner,
            Self::Trace => TraceLayer::server("mixed").layer(inner).into_boxed(),
            Self::Limit { in_flight } => {
                let layer = LimitLayer::new().idle_timeout(Duration::from_secs(3600));
                let layer = match in_flight {
                    Some(messages) => layer.max_in_flight(some(messages)),
                    None => layer,
                };
                layer.layer(inner).into_boxed()
            }
            Self::Inbound { at_a_time, slow } => {
                let service = service_fn(move |message: Message| in_a_while(message, slow));
                ServiceLayer::inbound(service).concurrency(some(at_a_time)).layer(inner).into_boxed()
            }
            Self::Outbound { at_a_time, slow } => {
                let service = service_fn(move |message: Message| in_a_while(message, slow));
                ServiceLayer::outbound(service).concurrency(some(at_a_time)).layer(inner).into_boxed()
            }
            Self::Rate { per_second, burst } => {
                let quota = Quota::per_second(NonZeroU32::new(per_second).unwrap());
                let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
                RateLimitLayer::per_connection(quota).runtime_clock().layer(inner).into_boxed()
            }
            Self::Queue { messages } => {
                QueueLayer::new(QueueConfig::messages().max_messages(some(messages))).layer(inner).into_boxed()
            }
            // Nothing is published: what passes is the user's.
            Self::Latest => {
                LatestLayer::shared(Latest::new(|message: &Message| message.len())).layer(inner).into_boxed()
            }
        }
    }

    /// Whether this piece of one end may stand directly above `shared[place]`, by what its docs say.
    fn is_place_of(&self, shared: &[Self], place: usize) -> bool {
        let below = &shared[place..];
        let has_below = |is: fn(&Self) -> bool| below.iter().any(is);
        let above_heartbeat = !shared[..place].iter().any(|piece| matches!(piece, Self::Heartbeat { .. }));
        let under_codec = place > 0 || !has_below(|piece| matches!(piece, Self::Codec));
        match self {
            // "Outermost, above the codec."
            Self::Latest => place == 0,
            // "Above layers that number messages or gather them."
            Self::Queue { .. } => {
                let gathers = |piece: &Self| {
                    matches!(
                        piece,
                        Self::Batch { .. } | Self::Compression { .. } | Self::Resume | Self::Heartbeat { .. }
                    )
                };
                !shared[..place].iter().any(gathers)
            }
            // "Above the heartbeat, below the codec."
            Self::Trace | Self::Limit { .. } | Self::Rate { .. } => under_codec && above_heartbeat,
            Self::Inbound { .. } | Self::Outbound { .. } => above_heartbeat,
            _ => false,
        }
    }
}

/// Both ends, each outermost first.
#[derive(Clone, Debug)]
pub(crate) struct Stacks {
    pub(crate) client: Vec<Piece>,
    pub(crate) server: Vec<Piece>,
}

impl Stacks {
    /// The layers above the resume layer, and those below it.
    pub(crate) fn split(pieces: &[Piece]) -> (&[Piece], &[Piece]) {
        match pieces.iter().position(|piece| matches!(piece, Piece::Resume)) {
            Some(place) => (&pieces[..place], &pieces[place + 1..]),
            None => (pieces, &[]),
        }
    }
}

/// `inner` within these, the last of them innermost.
pub(crate) fn stack(pieces: &[Piece], inner: Boxed) -> Boxed {
    pieces.iter().rev().fold(inner, |inner, piece| piece.put_on(inner))
}

fn sometimes(piece: impl Strategy<Value = Piece>) -> impl Strategy<Value = Option<Piece>> {
    proptest::option::of(piece)
}

fn batch() -> impl Strategy<Value = Piece> {
    (1..20u16, prop_oneof![1..200usize, Just(64 << 10)], proptest::option::of(1..20u64))
        .prop_map(|(count, bytes, delay)| Piece::Batch { count, bytes, delay })
}

fn compression() -> impl Strategy<Value = Piece> {
    (0..300usize, prop_oneof![Just(1u8), Just(0), Just(6)], any::<bool>())
        .prop_map(|(min_size, level, keep_context)| Piece::Compression { min_size, level, keep_context })
}

/// The pieces of both ends, in an order that their docs allow.
fn shared(resumes: bool) -> impl Strategy<Value = Vec<Piece>> {
    let context = (1..4u32).prop_map(|one_in| Piece::TraceContext { one_in });
    let heartbeat = (5..3000u64, any::<bool>())
        .prop_map(|(millis, application_level)| Piece::Heartbeat { millis, application_level });
    let optional = (
        sometimes(Just(Piece::Codec)),
        sometimes(context),
        sometimes(batch()),
        sometimes(compression()),
        sometimes(heartbeat),
    );
    (optional, any::<Index>(), any::<bool>()).prop_map(
        move |((codec, context, batch, compression, heartbeat), place, batch_above)| {
            // A batch may stand above resume or below; compression and the heartbeat belong to one connection.
            let resume = resumes.then_some(Piece::Resume);
            let (above, below) = if batch_above { (batch, None) } else { (None, batch) };
            let mut pieces: Vec<_> = [above, resume, below, compression].into_iter().flatten().collect();
            if let Some(context) = context {
                pieces.insert(place.index(pieces.len() + 1), context);
            }
            codec.into_iter().chain(pieces).chain(heartbeat).collect()
        },
    )
}

fn own() -> impl Strategy<Value = Piece> {
    prop_oneof![
        Just(Piece::Trace),
        Just(Piece::Latest),
        proptest::option::of(1..8usize).prop_map(|in_flight| Piece::Limit { in_flight }),
        (1..5usize, 0..5u8).prop_map(|(at_a_time, slow)| Piece::Inbound { at_a_time, slow }),
        (1..5usize, 0..5u8).prop_map(|(at_a_time, slow)| Piece::Outbound { at_a_time, slow }),
        (100..1000u32, 1..20u32).prop_map(|(per_second, burst)| Piece::Rate { per_second, burst }),
        (1..10usize).prop_map(|messages| Piece::Queue { messages }),
    ]
}

fn end(shared: &[Piece], own: Vec<(Piece, Index)>) -> Vec<Piece> {
    let mut at: Vec<Vec<Piece>> = vec![Vec::new(); shared.len() + 1];
    for (piece, index) in own {
        let places: Vec<_> = (0..=shared.len()).filter(|&place| piece.is_place_of(shared, place)).collect();
        if !places.is_empty() {
            at[places[index.index(places.len())]].push(piece);
        }
    }
    let mut pieces = at.remove(0);
    for (piece, behind) in shared.iter().zip(at) {
        pieces.push(piece.clone());
        pieces.extend(behind);
    }
    pieces
}

pub(crate) fn stacks(resumes: bool) -> impl Strategy<Value = Stacks> {
    let own = || vec((own(), any::<Index>()), 0..5);
    (shared(resumes), own(), own())
        .prop_map(|(shared, client, server)| Stacks { client: end(&shared, client), server: end(&shared, server) })
}
