//! The effects of the settings of `OptimizedBuilder`, over channels on a paused clock; owners of sessions over real
//! sockets.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Ready, ready},
};
use http::{Request, Response, header::SEC_WEBSOCKET_PROTOCOL};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower::{ServiceBuilder, service_fn};
use tower_transport::{
    Channel, CloseCode, Connect, Error, Message, QueueConfig, TransportExt, WhenFull, channel,
    layer::{
        heartbeat::HeartbeatLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::{Backoff, State},
        resume::Verdict,
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::serve::serve;

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_secs(1)))
}

type Connected = Result<Response<Channel>, Error>;

/// Reaches an echo with these settings, from the second attempt on when `fails_first`.
fn echo(
    acceptor: OptimizedAcceptor<Channel>,
    fails_first: bool,
) -> impl Connect<Transport = Channel, Future: Send + 'static> + Clone + Send + Sync + 'static {
    let attempts = Arc::new(AtomicUsize::new(0));
    service_fn(move |_: Request<()>| -> Ready<Connected> {
        if attempts.fetch_add(1, Relaxed) == 0 && fails_first {
            return ready(Err(Error::refused("nobody yet")));
        }
        let (here, there) = channel(64);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(Some(mut session)) = acceptor.accept_over(there, true).await else { return };
            while let Some(Ok(message)) = session.receive_message().await {
                if message.is_data() {
                    let _ = session.send_message(message).await;
                }
            }
        });
        let response = Response::builder().header(SEC_WEBSOCKET_PROTOCOL, OptimizedAcceptor::SUBPROTOCOL);
        ready(Ok(response.body(here).unwrap()))
    })
}

fn to_echo() -> impl Connect<Transport = Channel, Future: Send + 'static> + Clone + Send + Sync + 'static {
    echo(builder().acceptor(), false)
}

async fn connect(builder: OptimizedBuilder) -> OptimizedTransport<Channel> {
    builder.connect_with(to_echo(), "ws://channel/").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_heartbeat_never_pings_and_answers_a_peer_that_does() {
    const LONG: Duration = Duration::from_secs(86_400 * 365 * 20);

    let off = || builder().heartbeat(None::<HeartbeatLayer>);
    let pings = builder().heartbeat(HeartbeatLayer::default().application_level());
    let mut transport = pings.connect_with(echo(off().acceptor(), false), "ws://channel/").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(600), transport.receive_message()).await.is_err());
    assert!(transport.handle().rtt().is_some());
    assert_eq!(transport.handle().reconnect().unwrap().connections(), 1);

    for is_known in [true, false] {
        let (here, mut there) = channel::<Message, Message>(8);
        if is_known {
            // A hello without any feature.
            there.send_message(Message::binary(&b"\x01\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff"[..])).await.unwrap();
        }
        let mut session = off().acceptor().accept_over(here, is_known).await.unwrap().unwrap();
        if is_known {
            assert!(there.receive_message().await.unwrap().unwrap().is_data());
        }
        assert!(tokio::time::timeout(LONG, session.receive_message()).await.is_err());
        assert!(there.receive_message().now_or_never().is_none(), "a ping");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_transport_ends_at_its_idle_timeout_however_the_heartbeat_beats() {
    let mut transport = connect(builder().idle_timeout(Duration::from_secs(90))).await;
    let start = tokio::time::Instant::now();
    let mut pings = 0;
    let error = loop {
        match transport.receive_message().await.unwrap() {
            Ok(message) => pings += usize::from(matches!(message, Message::Ping(_))),
            Err(error) => break error,
        }
    };
    assert!(error.is_timeout() && pings > 0, "{error}");
    assert_eq!(start.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_for_what_is_sent_and_is_counted_in_the_handle() {
    let quota = Quota::per_second(NonZeroU32::new(2).unwrap());
    let limit = RateLimitLayer::per_connection(quota).outbound().runtime_clock();
    let mut transport = connect(builder().rate_limit(limit)).await;
    let start = tokio::time::Instant::now();
    for _ in 0..6 {
        transport.send_message("x".into()).await.unwrap();
    }
    assert_eq!(start.elapsed().as_secs(), 2, "2 at once, and 2 in each second after");
    assert!(transport.handle().rate_limit().unwrap().waited() > 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_the_halves_is_the_one_that_was_chosen() {
    let queue = QueueConfig::messages().max_messages(NonZeroUsize::new(2).unwrap()).when_full(WhenFull::DropOldest);
    let (sender, mut receiver) = connect(builder().queue(queue)).await.split();
    for i in 0..5 {
        sender.send(Message::text(i.to_string())).await.unwrap();
    }
    assert_eq!(sender.dropped(), 3, "nothing has left yet");
    for i in 3..5 {
        assert_eq!(receiver.receive().await.unwrap().unwrap(), Message::text(i.to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn connected_lazily_it_goes_on_after_a_first_attempt_that_fails() {
    let mut transport = builder().connect_lazily(echo(builder().acceptor(), true), "ws://channel/");
    assert!(!transport.handle().state().is_connected() && !transport.capabilities().is_known());
    transport.send_message("hello".into()).await.unwrap();
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), "hello".into());
    assert!(transport.capabilities().is_known());
    let error = builder().connect_with(echo(builder().acceptor(), true), "ws://channel/").await.unwrap_err();
    assert!(error.is_refused(), "without laziness the first failure is told: {error}");
}

#[tokio::test(start_paused = true)]
async fn the_hook_of_a_connect_sees_the_verdict_and_what_it_gives_is_sent_first() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let verdicts = seen.clone();
    let builder = builder().on_connect(move |parts| {
        let verdict = parts.extensions.get::<Verdict>().copied();
        verdicts.lock().unwrap().push(verdict);
        if matches!(verdict, Some(Verdict::Resumed { .. })) { vec![] } else { vec!["subscribe".into()] }
    });
    let mut transport = connect(builder).await;
    for round in 0..2 {
        transport.send_message("data".into()).await.unwrap();
        if round == 0 {
            assert_eq!(transport.receive_message().await.unwrap().unwrap(), "subscribe".into());
            assert_eq!(transport.receive_message().await.unwrap().unwrap(), "data".into());
            transport.handle().reconnect().unwrap().reconnect_now();
        } else {
            assert_eq!(transport.receive_message().await.unwrap().unwrap(), "data".into());
        }
    }
    let seen = seen.lock().unwrap();
    assert!(matches!(seen[..], [Some(Verdict::New), Some(Verdict::Resumed { .. })]), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn the_trace_context_is_on_where_both_ends_sample() {
    let samples = || builder().sample_one_in(NonZeroU32::MIN);
    for (ours, theirs, is_on) in
        [(samples(), samples(), true), (samples(), builder(), false), (builder(), samples(), false)]
    {
        let connector = echo(theirs.acceptor(), false);
        let mut transport = ours.connect_with(connector, "ws://channel/").await.unwrap();
        assert_eq!(transport.capabilities().trace_context(), is_on);
        transport.send_message("hello".into()).await.unwrap();
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), "hello".into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_has_no_more_sessions_than_it_may_until_one_has_expired() {
    let acceptor: OptimizedAcceptor<Channel> =
        builder().max_sessions(1).session_ttl(Duration::from_secs(30)).acceptor();
    let attempt = || builder().connect_with(echo(acceptor.clone(), false), "ws://channel/");
    let first = attempt().await.unwrap();
    assert_eq!(acceptor.sessions(), 1);
    let error = attempt().await.unwrap_err();
    assert_eq!(error.close_frame().map(|frame| frame.code()), Some(CloseCode::TRY_AGAIN), "{error}");
    drop(first);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(acceptor.sessions(), 1, "its client may come back");
    tokio::time::sleep(Duration::from_secs(31)).await;
    attempt().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_stack_reports_what_the_handle_knows() {
    let quota = Quota::per_second(NonZeroU32::new(1).unwrap());
    let limit = RateLimitLayer::per_connection(quota).outbound().runtime_clock();
    let recorder = DebuggingRecorder::new();
    let _here = metrics::set_default_local_recorder(&recorder);
    let mut transport = connect(builder().named("orders").rate_limit(limit)).await;
    for _ in 0..2 {
        transport.send_message("again and again ".repeat(100).into()).await.unwrap();
        transport.receive_message().await.unwrap().unwrap();
    }
    transport.handle().reconnect().unwrap().reconnect_now();
    transport.send_message("hello".into()).await.unwrap();
    transport.receive_message().await.unwrap().unwrap();

    tokio::time::sleep(Duration::from_secs(6)).await;
    let is_of_client = |key: &metrics_util::CompositeKey| key.key().labels().any(|label| label.value() == "client");
    let counts: std::collections::HashMap<_, _> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) if is_of_client(&key) => Some((key.key().name().to_owned(), count)),
            _ => None,
        })
        .collect();
    use tower_transport::layer::trace::{
        COMPRESSION_PLAIN_BYTES, COMPRESSION_WIRE_BYTES, RATE_LIMITED, RECONNECTS, RESUMED,
    };
    assert_eq!((counts[RECONNECTS], counts[RESUMED]), (1, 1));
    assert!(counts[RATE_LIMITED] > 0);
    assert!(counts[COMPRESSION_WIRE_BYTES] > 0 && counts[COMPRESSION_WIRE_BYTES] < counts[COMPRESSION_PLAIN_BYTES]);
}

#[tokio::test]
async fn a_session_is_found_again_by_its_owner_alone() {
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let upgrade = WebSocketService::new(move |socket, parts| {
        let acceptor = acceptor.clone();
        async move {
            let owner = parts.headers.get("x-owner").unwrap().as_bytes();
            let Ok(Some(mut session)) = acceptor.accept_as(socket, owner).await else { return };
            while let Some(Ok(message)) = session.receive_message().await {
                if message.is_data() {
                    let _ = session.send_message(message).await;
                }
            }
        }
    });
    let server = serve(upgrade.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap()).await;
    // The same client comes as ada, as ada again, and as bob with ada's session.
    let connects = Arc::new(AtomicUsize::new(0));
    let connector = ServiceBuilder::new()
        .map_request(move |mut request: Request<()>| {
            let owner = if connects.fetch_add(1, Relaxed) < 2 { "ada" } else { "bob" };
            request.headers_mut().insert("x-owner", owner.parse().unwrap());
            request
        })
        .service(WebSocketConnector::new());
    let builder = OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)));
    let test = async {
        let mut transport = builder.connect_with(connector, format!("ws://{server}/").as_str()).await.unwrap();
        let handle = transport.handle();
        let mut verdicts = Vec::new();
        for _ in 0..3 {
            transport.send_message("hello".into()).await.unwrap();
            assert_eq!(transport.receive_message().await.unwrap().unwrap(), "hello".into());
            let session = handle.resume().unwrap();
            verdicts.push(session.verdict().unwrap());
            // Otherwise the message would be reported as lost with the session that is not bob's.
            while session.unacknowledged() > 0 {
                let received = tokio::time::timeout(Duration::from_millis(10), transport.receive_message()).await;
                assert!(received.is_err(), "{received:?}");
            }
            handle.reconnect().unwrap().reconnect_now();
        }
        assert!(matches!(verdicts[..], [Verdict::New, Verdict::Resumed { .. }, Verdict::Fresh { .. }]), "{verdicts:?}");
        assert!(matches!(handle.state(), State::Connected | State::Reconnecting { .. } | State::Connecting { .. }));
    };
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it hangs");
}
