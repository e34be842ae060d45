//! One message through every layer at once: in which order they see it, and what is on the wire.

use std::{
    future::ready,
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use flate2::{Decompress, FlushDecompress};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::unbounded_channel;
use tower::{ServiceBuilder, service_fn};
use tower_transport::{
    BoxTransport, Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel,
    codec::JsonCodec,
    layer::{
        auth::{
            Credentials, ExpiryLayer, FirstMessageGuard, FirstMessageLayer, Principal, RenewLayer, Token, TokenRequest,
            Tokens,
        },
        batch::BatchPolicy,
        compression::{CompressionLayer, Deflate},
        heartbeat::HeartbeatLayer,
        latest::Latest,
        limit::LimitLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::Backoff,
        resume::{Accepted, SessionStore},
        trace::{TraceContext, TraceLayer},
    },
};

use crate::mixed::{saw::Log, talk::block_on};

const MAGIC: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

/// The places of the client, each below the layer of its name; the outermost first.
const CLIENT: [&str; 16] = [
    "you",
    "latest",
    "codec",
    "trace",
    "limit",
    "outbound service",
    "inbound service",
    "rate limit",
    "queue",
    "batch",
    "reconnect",
    "resume",
    "token in time",
    "first message",
    "compression",
    "heartbeat",
];

fn server_places() -> Vec<&'static str> {
    // It connects nothing, and lets in by the first message without a layer of its own.
    CLIENT.into_iter().filter(|place| !["reconnect", "first message"].contains(place)).collect()
}

fn reversed(places: &[&'static str]) -> Vec<&'static str> {
    places.iter().rev().copied().collect()
}

type End = BoxTransport<String>;

/// All that stands above what connects: a macro, because nobody can write the type.
macro_rules! above {
    ($log:expr, $trace:expr) => {{
        let (log, trace): (&Log, TraceLayer) = ($log, $trace);
        let pass = || service_fn(|message: Message| ready(Ok::<_, Error>(message)));
        let quota = Quota::per_second(NonZeroU32::new(100).unwrap());
        ServiceBuilder::new()
            .layer(log.layer("you"))
            .latest(Latest::new(|value: &String| value.len()))
            .layer(log.layer("latest"))
            .codec(JsonCodec::<String>::new())
            .layer(log.layer("codec"))
            .layer(
                trace
                    .sample_one_in(NonZeroU32::MIN)
                    .propagate(true)
                    .context_of(|_| TraceContext::new(0x1234, 0x56, true)),
            )
            .layer(log.layer("trace"))
            .layer(LimitLayer::new())
            .layer(log.layer("limit"))
            .outbound_service(pass())
            .layer(log.layer("outbound service"))
            .inbound_service(pass())
            .layer(log.layer("inbound service"))
            .layer(RateLimitLayer::per_connection(quota).runtime_clock())
            .layer(log.layer("rate limit"))
            .queue(QueueConfig::messages())
            .layer(log.layer("queue"))
            .batch(BatchPolicy::on_flush(64))
            .layer(log.layer("batch"))
    }};
}

fn deflate() -> Deflate {
    Deflate::new().min_size(64)
}

fn heartbeat() -> HeartbeatLayer {
    HeartbeatLayer::new(Duration::from_secs(20), Duration::from_secs(20)).answer_pings()
}

#[derive(Clone, Debug)]
struct User;

impl Principal for User {
    fn subject(&self) -> Option<&str> {
        Some("ada")
    }

    fn expires_at(&self) -> Option<SystemTime> {
        Some(SystemTime::now() + Duration::from_secs(3600))
    }
}

/// Both ends, connected, with what they saw since.
async fn both() -> ((End, Log), (End, Log)) {
    let (near_log, far_log) = (Log::default(), Log::default());

    let tokens = Tokens::new(service_fn(|_: TokenRequest| ready(Ok::<_, Error>(Token::new("let me in")))));
    let verifier = service_fn(|credentials: Credentials| {
        let is_good = credentials.bearer().is_some_and(|token| token.expose() == "let me in");
        ready(is_good.then_some(User).ok_or_else(|| Error::auth("who are you?")))
    });
    let (dialed, mut incoming) = unbounded_channel();
    let connector = service_fn(move |request: http::Request<()>| {
        assert_eq!(request.headers()[http::header::AUTHORIZATION], "Bearer let me in");
        let (near, far) = channel::<Message, Message>(1);
        dialed.send(far).unwrap();
        ready(Ok::<_, Error>(http::Response::new(near)))
    });
    let client = above!(&near_log, TraceLayer::client("mixed"))
        .reconnect("ws://mixed.test/", Backoff::exponential())
        .per_connection(near_log.layer("reconnect"))
        .resume()
        .per_connection(near_log.layer("resume"))
        .per_connection(RenewLayer::new(tokens.clone()))
        .per_connection(near_log.layer("token in time"))
        .per_connection(FirstMessageLayer::new(tokens.clone()))
        .per_connection(near_log.layer("first message"))
        .per_connection(CompressionLayer::new(deflate()))
        .per_connection(near_log.layer("compression"))
        .per_connection(heartbeat())
        .per_connection(near_log.layer("heartbeat"))
        .auth(tokens)
        .service(connector);
    let mut client: End = TransportExt::into_boxed(client);

    let store = SessionStore::new();
    let accepting = async {
        let wire = ServiceBuilder::new()
            .compress(deflate())
            .layer(far_log.layer("compression"))
            .layer(heartbeat())
            .layer(far_log.layer("heartbeat"))
            .service(incoming.recv().await.unwrap());
        let (wire, user) = FirstMessageGuard::new(verifier).accept(wire).await.unwrap();
        let wire = ServiceBuilder::new()
            .layer(far_log.layer("resume"))
            .layer(ExpiryLayer::new(&user).renewal(verifier, Duration::from_secs(60)))
            .layer(far_log.layer("token in time"))
            .service(wire);
        let Ok(Accepted::New(session)) = store.accept(wire).await else { panic!("no session") };
        session
    };
    // The client connects as it is polled.
    let session = tokio::select! {
        session = accepting => session,
        item = client.next() => panic!("nobody said anything: {item:?}"),
    };
    let server: End = TransportExt::into_boxed(above!(&far_log, TraceLayer::server("mixed")).service(session));
    // The server's welcome comes in.
    assert!(tokio::time::timeout(Duration::from_millis(1), client.next()).await.is_err());
    near_log.clear();
    far_log.clear();
    ((client, near_log), (server, far_log))
}

#[test]
fn an_outgoing_message_meets_the_layers_outermost_first_and_an_incoming_one_last() {
    block_on(async {
        let ((mut client, near), (mut server, far)) = both().await;

        client.send("to the server".to_owned()).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), "to the server");
        assert_eq!(near.places(true), CLIENT);
        assert_eq!(far.places(false), reversed(&server_places()));
        assert_eq!((near.places(false), far.places(true)), (vec![], vec![]));

        near.clear();
        far.clear();
        server.send("and back".to_owned()).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), "and back");
        // The acknowledgement of the first is the resume layer's own: it stands below that alone.
        let passed = |log: &Log, outgoing| log.messages("resume", outgoing).len();
        assert_eq!((passed(&far, true), passed(&near, false)), (1, 1));
        assert_eq!(far.places(true), server_places());
        assert_eq!(near.places(false), reversed(&CLIENT));
    });
}

/// The marks of `docs/wire.md`, taken off by hand: what stands before, and the kind.
fn unmarked(payload: &[u8], layer: u8) -> (&[u8], u8) {
    let (before, mark) = payload.split_at(payload.len() - 8);
    assert_eq!((mark[1], &mark[2..]), (layer, &MAGIC[..]), "{payload:?}");
    (before, mark[0])
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let (before, kind) = unmarked(payload, 1);
    assert_eq!(kind, 1, "a binary message that stands for itself");
    let (data, length) = before.split_at(before.len() - 4);
    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
    let mut plain = Vec::with_capacity(length + 64);
    let data = [data, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&data, &mut plain, FlushDecompress::Sync).unwrap();
    assert_eq!(plain.len(), length);
    plain
}

fn unpacked(payload: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let (before, kind) = unmarked(payload, 2);
    assert_eq!(kind, 1);
    let (before, length) = before.split_at(before.len() - 4);
    let (mut payloads, mut entries) =
        before.split_at(before.len() - u32::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut messages = Vec::new();
    while let [low, rest @ ..] = entries {
        // Of at most two bytes each, here.
        let (entry, rest) = match (low & 0x80, rest) {
            (0, rest) => (u32::from(*low), rest),
            (_, [high, rest @ ..]) => (u32::from(low & 0x7f) | u32::from(*high) << 7, rest),
            _ => panic!("cut short"),
        };
        let (message, behind) = payloads.split_at(entry as usize / 2);
        messages.push((message.to_vec(), entry % 2 == 1));
        (payloads, entries) = (behind, rest);
    }
    assert!(payloads.is_empty());
    messages
}

#[test]
fn what_all_layers_make_of_two_messages_is_one_and_reads_as_the_docs_of_the_wire_say() {
    block_on(async {
        let ((mut client, near), (mut server, far)) = both().await;
        let values = ["first ".repeat(20), "second ".repeat(20)];
        for value in &values {
            client.feed(value.clone()).await.unwrap();
        }
        client.flush().await.unwrap();
        for value in &values {
            assert_eq!(server.next().await.unwrap().unwrap(), *value);
        }
        let wire = near.messages("heartbeat", true);
        assert_eq!(wire.len(), 1);
        assert_eq!(wire, far.messages("heartbeat", false));
        let Message::Binary(wire) = &wire[0] else { panic!("{wire:?}") };

        // Compression, then the batch, then in each message the trace context, then the codec.
        let messages = unpacked(&inflated(wire.as_ref()));
        assert_eq!(messages.len(), 2);
        for ((payload, is_text), value) in messages.iter().zip(&values) {
            assert!(!is_text);
            let (before, kind) = unmarked(payload, 5);
            assert_eq!(kind, 1);
            let (json, context) = before.split_at(before.len() - 27);
            assert_eq!(context[0], 0, "the version");
            assert_eq!(context[1..17], 0x1234_u128.to_be_bytes());
            assert_eq!(context[17..25], 0x56_u64.to_be_bytes());
            assert_eq!(context[25..], [1, 1], "sampled, and it was text");
            assert_eq!(json, format!("\"{value}\"").as_bytes());
        }
        assert!(wire.len() < 150, "{} bytes for {}", wire.len(), values.concat().len());
    });
}
