//! Every setting with its extremes: 0, 1, the largest number, no time and all time. A stack either works, or refuses
//! with an error. None panics, hangs or keeps its task busy.

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    num::{NonZeroU32, NonZeroUsize},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::mpsc,
    task::Poll,
    thread,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, header::SEC_WEBSOCKET_PROTOCOL};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_transport::{
    Channel, Error, Limits, Message, QueueConfig, Transport, TransportExt, WhenFull, channel,
    layer::{
        auth::{Credentials, FirstMessageGuard, Token, TokenRequest, Tokens},
        batch::{BatchLayer, BatchPolicy},
        cache::CacheLayer,
        compression::{CompressionLayer, Deflate},
        heartbeat::HeartbeatLayer,
        latest::{Latest, LatestLayer},
        limit::LimitLayer,
        queue::QueueLayer,
        rate_limit::{KeyedRateLimiter, Quota, RateLimitLayer},
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
        resume::{Accepted, ResumeLayer, SessionStore},
        service::ServiceLayer,
    },
    service::{Client, InOrder, Server},
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport, pool::PoolBuilder},
};

const SIZES: [usize; 6] = [0, 1, 64, 300, usize::MAX - 1, usize::MAX];
const COUNTS: [NonZeroUsize; 3] = [NonZeroUsize::MIN, NonZeroUsize::new(usize::MAX - 1).unwrap(), NonZeroUsize::MAX];
const TIMES: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];

/// How a case ended, in the order from good to bad.
#[derive(Debug, PartialEq)]
enum End {
    Arrived,
    /// The stack said why not.
    Refused(String),
    /// Nothing came within the day, and no error told why.
    Silent,
    /// A task was woken again and again while no time passed.
    Busy,
    Panicked(String),
    /// A poll did not return.
    Stuck,
}

/// Polls a future in vain this often at most. A paused clock stands still while a task is busy.
const POLLS: u32 = 200_000;

async fn judged(case: impl Future<Output = Result<(), Error>>) -> End {
    let mut case = pin!(tokio::time::timeout(Duration::from_secs(86_400), case));
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        if polls > POLLS {
            return Poll::Ready(End::Busy);
        }
        case.as_mut().poll(cx).map(|outcome| match outcome {
            Ok(Ok(())) => End::Arrived,
            Ok(Err(error)) => End::Refused(error.to_string()),
            Err(_) => End::Silent,
        })
    })
    .await
}

/// Runs each case on a thread and a runtime of its own, and returns those that ended badly.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn case<F>(&mut self, name: impl Debug, case: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), Error>>,
    {
        let (done, end) = mpsc::channel();
        thread::spawn(move || {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                // Built in the runtime, as a user does.
                runtime.unwrap().block_on(async { judged(case()).await })
            };
            let end = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                End::Panicked(
                    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default(),
                )
            });
            let _ = done.send(end);
        });
        let end = end.recv_timeout(Duration::from_secs(30)).unwrap_or(End::Stuck);
        if !matches!(end, End::Arrived | End::Refused(_)) {
            self.0.push(format!("{name:?}: {end:?}"));
        }
    }

    fn assert_clean(self) {
        assert!(self.0.is_empty(), "{} ended badly:\n{}", self.0.len(), self.0.join("\n"));
    }
}

const TEXT: &str = "a message of forty bytes, to be exchanged";

/// Sends one message from a layer to one like it and back, then lets an hour pass.
async fn exchange<L>(layer: L) -> Result<(), Error>
where
    L: Layer<Channel, Service: Transport<Message, In = Message, TransportError = Error> + Unpin>,
{
    let (here, there) = channel(4);
    talk(layer.layer(here), layer.layer(there)).await
}

async fn talk<A, B>(mut here: A, mut there: B) -> Result<(), Error>
where
    A: Transport<Message, In = Message, TransportError = Error> + Unpin,
    B: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let echo = async {
        while let Some(message) = there.next().await {
            let message = message?;
            if message.is_data() {
                there.send(message).await?;
            }
        }
        Err(Error::closed("the far end has ended"))
    };
    let test = async {
        here.send(Message::text(TEXT)).await?;
        loop {
            match here.next().await {
                Some(message) if message.as_ref().is_ok_and(|message| !message.is_data()) => {}
                Some(message) => return message.map(drop),
                None => return Err(Error::closed("ended")),
            }
        }
    };
    let mut echo = pin!(echo);
    let answered = tokio::select! {
        end = test => end,
        end = &mut echo => end,
    };
    answered?;
    // Nothing more is sent. A stack that is idle now may end, but is not busy.
    let idle = async { while let Some(Ok(_)) = here.next().await {} };
    tokio::select! {
        _ = idle => {}
        _ = echo => {}
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    Ok(())
}

#[test]
fn layers_of_sizes() {
    let mut table = Table::default();
    for size in SIZES {
        table.case(("LimitLayer::max_message", size), move || exchange(LimitLayer::new().max_message(size)));
        table.case(("LimitLayer::max_incoming, skip_large", size), move || {
            exchange(LimitLayer::new().max_incoming(size).skip_large())
        });
        table.case(("BatchPolicy::max_bytes", size), move || {
            exchange(BatchLayer::new(BatchPolicy::on_flush(64).max_bytes(size)))
        });
        table.case(("BatchPolicy::alone_from", size), move || {
            exchange(BatchLayer::new(BatchPolicy::on_flush(64).alone_from(size)))
        });
        table.case(("BatchLayer::max_items", size), move || {
            exchange(BatchLayer::new(BatchPolicy::on_flush(64)).max_items(size))
        });
        for (name, deflate) in [
            ("Deflate::min_size", Deflate::new().min_size(size)),
            ("Deflate::max_inflated", Deflate::new().min_size(0).max_inflated(size)),
            ("Deflate::max_ratio", Deflate::new().min_size(0).max_ratio(u32::try_from(size).unwrap_or(u32::MAX))),
        ] {
            table.case((name, size), move || exchange(CompressionLayer::new(deflate)));
            table.case((name, "keep_context", size), move || exchange(CompressionLayer::new(deflate.keep_context())));
        }
        for count in [0, 1, u16::MAX] {
            let policy = BatchPolicy::new(count, Duration::MAX).max_bytes(size);
            table.case(("BatchPolicy::new", count, size), move || exchange(BatchLayer::new(policy)));
        }
        table.case(("FirstMessageGuard::max_size", size), move || async move {
            let (mut here, there) = channel(4);
            here.send(Message::text(r#"{"type":"auth","token":"t"}"#)).await?;
            let verify = service_fn(|_: Credentials| async { Ok::<_, Error>(()) });
            FirstMessageGuard::new(verify).max_size(size).accept(there).await.map(drop)
        });
        table.case(("Cache::capacity", size), move || async move {
            let layer = CacheLayer::<u32, u32, _>::shared(|number: &u32| Some(*number)).capacity(size as u64);
            let mut service = layer.layer(service_fn(|number: u32| async move { Ok::<_, Error>(number) }));
            for _ in 0..2 {
                service.ready().await?.call(1).await?;
            }
            Ok(())
        });
        table.case(("channel", size), move || async move {
            let (here, there) = channel(size);
            talk(here, there).await
        });
    }
    table.assert_clean();
}

#[test]
fn layers_of_counts() {
    let mut table = Table::default();
    for count in COUNTS {
        table.case(("LimitLayer::max_in_flight", count), move || exchange(LimitLayer::new().max_in_flight(count)));
        for (name, queue) in [
            ("QueueConfig::max_messages", QueueConfig::messages().max_messages(count)),
            ("QueueConfig::max_bytes", QueueConfig::messages().max_bytes(count)),
            ("QueueConfig::max_inbox", QueueConfig::messages().max_inbox(count)),
        ] {
            for full in [WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest] {
                let (layered, driven) = (queue.clone().when_full(full.clone()), queue.clone().when_full(full));
                table.case((name, "layer", count), move || exchange(QueueLayer::new(layered)));
                table.case((name, "drive", count), move || async move {
                    let (here, there) = channel(4);
                    let (sender, mut receiver, driver) = here.drive(driven).into_parts();
                    tokio::spawn(driver);
                    let (mut far_sink, mut far_stream) = StreamExt::split(there);
                    sender.send(Message::text(TEXT)).await?;
                    let message = far_stream.next().await.unwrap()?;
                    far_sink.send(message).await?;
                    receiver.receive().await.unwrap().map(drop)
                });
            }
        }
        table.case(("ServiceLayer::concurrency", count), move || {
            let same = service_fn(|message: Message| async move { Ok::<_, Error>(message) });
            exchange(ServiceLayer::outbound(same).concurrency(count))
        });
        table.case(("ServiceLayer::concurrency, inbound", count), move || {
            let same = service_fn(|message: Message| async move { Ok::<_, Error>(message) });
            exchange(ServiceLayer::inbound(same).concurrency(count))
        });
        table.case(("Latest::with_max_keys", count), move || async move {
            let latest = Latest::with_max_keys(count, |message: &Message| message.len());
            latest.publish(Message::text(TEXT));
            let (here, mut there) = channel::<Message, Message>(4);
            let mut here = LatestLayer::shared(latest).layer(here);
            tokio::select! {
                _ = here.next() => {}
                message = there.next() => message.unwrap().map(drop)?,
            }
            Ok(())
        });
        table.case(("KeyedRateLimiter::max_keys", count), move || async move {
            let keyed = KeyedRateLimiter::new(Quota::per_second(NonZeroU32::MIN)).max_keys(count);
            keyed.check("a")?;
            exchange(keyed.for_key("b")).await
        });
        for keep in [Keep::messages().max_messages(count), Keep::messages().max_bytes(count)] {
            table.case(("Keep", count), move || {
                reconnected(Backoff::fixed(Duration::from_secs(1)), WhenLost::Keep(keep))
            });
        }
        table.case(("Client and Server", count), move || async move {
            let (here, there) = channel::<u32, u32>(4);
            let same = service_fn(|number: u32| async move { Ok::<_, Error>(number) });
            tokio::spawn(Server::in_order(there, same).concurrency(count));
            let mut client: Client<_, u32, u32, _> = Client::with_max_in_flight(here, InOrder, count);
            client.ready().await?.call(1).await.map(drop)
        });
        table.case(("Server::as_they_finish", count), move || async move {
            let (here, there) = channel(4);
            let same = service_fn(|number: u32| async move { Ok::<_, Error>(number) });
            tokio::spawn(Server::as_they_finish(there, same).concurrency(count));
            Client::<_, u32, u32, _>::by_tag(here).ready().await?.call(1).await.map(drop)
        });
    }
    table.assert_clean();
}

#[test]
fn layers_of_times() {
    let mut table = Table::default();
    for time in TIMES {
        table.case(("LimitLayer::idle_timeout", time), move || exchange(LimitLayer::new().idle_timeout(time)));
        table.case(("LimitLayer::lifetime", time), move || exchange(LimitLayer::new().lifetime(time)));
        for jitter in TIMES {
            table.case(("LimitLayer::lifetime_jitter", time, jitter), move || {
                exchange(LimitLayer::new().lifetime(time).lifetime_jitter(jitter))
            });
            table.case(("HeartbeatLayer::new", time, jitter), move || exchange(HeartbeatLayer::new(time, jitter)));
            table.case(("Backoff::base, cap", time, jitter), move || {
                reconnected(Backoff::exponential().base(time).cap(jitter).max_retries(5), WhenLost::Drop)
            });
        }
        table.case(("HeartbeatLayer::application_level", time), move || {
            exchange(HeartbeatLayer::new(time, Duration::from_secs(10)).application_level())
        });
        table.case(("HeartbeatLayer::custom", time), move || {
            let heartbeat = HeartbeatLayer::new(time, Duration::from_secs(10));
            exchange(heartbeat.custom(|_| Message::text("ping"), |message: &Message| *message == Message::text("ping")))
        });
        table.case(("BatchPolicy::new", time), move || exchange(BatchLayer::new(BatchPolicy::new(64, time))));
        table.case(("FirstMessageGuard::deadline", time), move || async move {
            let (mut here, there) = channel(4);
            here.send(Message::text(r#"{"type":"auth","token":"t"}"#)).await?;
            let verify = service_fn(|_: Credentials| async { Ok::<_, Error>(()) });
            FirstMessageGuard::new(verify).deadline(time).accept(there).await.map(drop)
        });
        table.case(("Tokens::with_margin", time), move || async move {
            for life in TIMES {
                let token = move |_: TokenRequest| async move { Ok::<_, Error>(Token::new("t").expires_in(life)) };
                let tokens = Tokens::with_margin(service_fn(token), time);
                tokens.get().await?;
                tokens.get().await?;
            }
            Ok(())
        });
        table.case(("Cache::time_to_live", time), move || async move {
            let layer = CacheLayer::<u32, u32, _>::shared(|number: &u32| Some(*number)).time_to_live(time);
            let mut service = layer.layer(service_fn(|number: u32| async move { Ok::<_, Error>(number) }));
            for _ in 0..2 {
                service.ready().await?.call(1).await?;
            }
            Ok(())
        });
        table.case(("Quota::with_period", time), move || {
            exchange(RateLimitLayer::per_connection(Quota::with_period(time)).runtime_clock())
        });
        for cost in [0, 1, u32::MAX] {
            table.case(("Quota::with_period, cost_by", time, cost), move || {
                let quota = Quota::with_period(time).allow_burst(NonZeroU32::MAX);
                exchange(RateLimitLayer::per_connection(quota).cost_by(move |_: &Message| cost).runtime_clock())
            });
        }
        table.case(("Backoff::fixed", time), move || reconnected(Backoff::fixed(time).max_retries(5), WhenLost::Drop));
        table.case(("Backoff::max_retry_after", time), move || {
            reconnected(Backoff::fixed(Duration::from_secs(1)).max_retry_after(time).max_retries(5), WhenLost::Drop)
        });
    }
    for factor in [f32::NAN, f32::NEG_INFINITY, -1.0, 0.0, 1.0, f32::MAX, f32::INFINITY] {
        table.case(("Backoff::factor", factor), move || {
            reconnected(Backoff::exponential().factor(factor).max_retries(5), WhenLost::Drop)
        });
    }
    table.assert_clean();
}

/// A connector whose first two attempts fail, and whose first connection is cut after one exchange.
async fn reconnected(backoff: Backoff, when_lost: WhenLost<Message>) -> Result<(), Error> {
    let mut attempts = 0;
    let connector = service_fn(move |_: Request<()>| {
        attempts += 1;
        let (here, mut there) = channel(4);
        let refuses = attempts <= 2;
        tokio::spawn(async move {
            for _ in 0..if attempts == 3 { 1 } else { 100 } {
                let Some(Ok(message)) = there.next().await else { return };
                if there.send(message).await.is_err() {
                    return;
                }
            }
        });
        async move {
            match refuses {
                true => Err(Error::refused("not yet").with_retry_after(Duration::MAX)),
                false => Ok(Response::new(here)),
            }
        }
    });
    let mut transport = Box::pin(ReconnectLayer::new("ws://channel/", backoff).when_lost(when_lost).layer(connector));
    let exchanges = async {
        for _ in 0..2 {
            transport.send(Message::text(TEXT)).await?;
            // A message may be lost with its connection.
            match tokio::time::timeout(Duration::from_secs(3600), transport.next()).await {
                Ok(Some(message)) => drop(message?),
                Ok(None) => return Err(Error::closed("ended")),
                Err(_) => return Err(Error::timeout("lost")),
            }
        }
        Ok(())
    };
    let waited = tokio::time::timeout(Duration::from_secs(10_000), exchanges).await;
    waited.unwrap_or_else(|_| Err(Error::timeout("the delay is as long as was asked for")))
}

/// Exchanges one message in a session.
async fn resumed(layer: ResumeLayer, store: SessionStore<Channel>) -> Result<(), Error> {
    let (here, there) = channel(4);
    let accepted = async {
        match store.accept(there).await? {
            Accepted::New(mut session) => loop {
                match session.next().await {
                    Some(Ok(message)) => session.send(message).await?,
                    Some(Err(error)) => return Err::<(), _>(error),
                    None => return Err(Error::closed("the session has ended")),
                }
            },
            Accepted::Resumed => Ok(()),
        }
    };
    let client = async {
        let mut session = layer.open(here).await?;
        session.send(Message::text(TEXT)).await?;
        session.next().await.unwrap_or_else(|| Err(Error::closed("ended")))?;
        tokio::select! {
            _ = async { while let Some(Ok(_)) = session.next().await {} } => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        Ok(())
    };
    tokio::select! {
        end = client => end,
        end = accepted => end,
    }
}

#[test]
fn sessions() {
    let mut table = Table::default();
    let (layer, store) = (ResumeLayer::new, SessionStore::<Channel>::new);
    for size in SIZES {
        let stalled = u32::try_from(size).unwrap_or(u32::MAX);
        table.case(("ResumeLayer::replay_messages", size), move || resumed(layer().replay_messages(size), store()));
        table.case(("ResumeLayer::replay_bytes", size), move || resumed(layer().replay_bytes(size), store()));
        table.case(("ResumeLayer::max_stalled_connections", stalled), move || {
            resumed(layer().max_stalled_connections(stalled), store().max_stalled_connections(stalled))
        });
        for (name, set) in [
            ("sessions", SessionStore::sessions as fn(SessionStore<Channel>, usize) -> SessionStore<Channel>),
            ("sessions_per_key", SessionStore::sessions_per_key),
            ("replay_messages", SessionStore::replay_messages),
            ("replay_bytes", SessionStore::replay_bytes),
            ("total_replay_bytes", SessionStore::total_replay_bytes),
        ] {
            table.case(("SessionStore", name, size), move || resumed(layer(), set(store(), size)));
        }
    }
    for time in TIMES {
        table.case(("ResumeLayer::ack_delay", time), move || resumed(layer().ack_delay(time), store().ack_delay(time)));
        table.case(("ResumeLayer::deadline", time), move || resumed(layer().deadline(time), store()));
        table.case(("SessionStore::deadline", time), move || resumed(layer(), store().deadline(time)));
        table.case(("SessionStore::ttl", time), move || resumed(layer(), store().ttl(time)));
    }
    table.assert_clean();
}

/// Connects both ends of the recommended stack, each with its settings, over channels, and exchanges one message.
async fn optimized(client: OptimizedBuilder, server: OptimizedBuilder) -> Result<(), Error> {
    let acceptor: OptimizedAcceptor<Channel> = server.acceptor();
    let connector = service_fn(move |_: Request<()>| {
        let (here, there) = channel(8);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(Some(mut session)) = acceptor.accept_over(there, true).await else { return };
            while let Some(Ok(message)) = session.receive_message().await {
                if message.is_data() && session.send_message(message).await.is_err() {
                    return;
                }
            }
        });
        let response = Response::builder().header(SEC_WEBSOCKET_PROTOCOL, OptimizedAcceptor::SUBPROTOCOL);
        std::future::ready(response.body(here).map_err(|_| Error::other("")))
    });
    let mut transport = client.connect_with(connector, "ws://channel/").await?;
    transport.send_message(Message::text(TEXT)).await?;
    let answer = tokio::time::timeout(Duration::from_secs(600), transport.receive_message()).await;
    let answer = answer.map_err(|_| Error::timeout("no answer within ten minutes"))?;
    answer.unwrap_or_else(|| Err(Error::closed("ended")))?;
    let idle = async { while let Some(Ok(_)) = transport.receive_message().await {} };
    let _ = tokio::time::timeout(Duration::from_millis(200), idle).await;
    Ok(())
}

#[test]
fn the_recommended_stack() {
    let mut table = Table::default();
    let builder = || OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_secs(1)).max_retries(5));
    let mut both = |name: &'static str, value: String, set: &dyn Fn(OptimizedBuilder) -> OptimizedBuilder| {
        for (client, server) in [(true, false), (false, true), (true, true)] {
            let set = |is_set: bool| if is_set { set(builder()) } else { builder() };
            let (near, far) = (set(client), set(server));
            table.case((name, &value, client, server), move || optimized(near, far));
        }
    };
    for size in SIZES {
        let limits = Limits::new();
        both("Limits::message", size.to_string(), &|builder| builder.limits(limits.message(size)));
        both("Limits::frame", size.to_string(), &|builder| builder.limits(limits.frame(size)));
        both("Limits::write_buffer", size.to_string(), &|builder| builder.limits(limits.write_buffer(size)));
        both("max_sessions", size.to_string(), &|builder| builder.max_sessions(size));
        both("sessions_per_key", size.to_string(), &|builder| builder.sessions_per_key(size));
        both("total_replay_bytes", size.to_string(), &|builder| builder.total_replay_bytes(size));
    }
    for time in TIMES {
        let (limits, value) = (Limits::new(), format!("{time:?}"));
        both("Limits::handshake", value.clone(), &|builder| builder.limits(limits.handshake(time)));
        both("Limits::close", value.clone(), &|builder| builder.limits(limits.close(time)));
        both("idle_timeout", value.clone(), &|builder| builder.idle_timeout(time));
        both("session_ttl", value.clone(), &|builder| builder.session_ttl(time));
        both("heartbeat", value.clone(), &|builder| builder.heartbeat(HeartbeatLayer::new(time, time)));
    }
    table.assert_clean();
}

/// Calls through a pool whose server answers after 50 ms.
async fn pooled<S>(builder: PoolBuilder<S>) -> Result<(), Error>
where
    S: tower_transport::Connect<Transport = Channel<u32, u32>, Future: Send> + Clone + Send + Sync + 'static,
{
    let pool = builder.in_order::<u32, u32>();
    pool.warm();
    for number in 0..3 {
        pool.clone().oneshot(number).await?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

#[test]
fn the_pool() {
    let builder = || {
        let connector = service_fn(|_: Request<()>| async {
            let (here, there) = channel::<u32, u32>(4);
            let slow = service_fn(|number: u32| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, Error>(number)
            });
            tokio::spawn(Server::in_order(there, slow));
            Ok::<_, Error>(Response::new(here))
        });
        PoolBuilder::new(connector, Request::new(()))
    };
    let mut table = Table::default();
    for count in COUNTS {
        table.case(("PoolBuilder::max_connections", count), move || pooled(builder().max_connections(count)));
        table.case(("PoolBuilder::calls_per_connection", count), move || pooled(builder().calls_per_connection(count)));
    }
    for size in SIZES {
        table.case(("PoolBuilder::max_waiting", size), move || pooled(builder().max_waiting(size)));
        table.case(("PoolBuilder::min_connections", size), move || pooled(builder().min_connections(size)));
    }
    for time in TIMES {
        table.case(("PoolBuilder::max_wait", time), move || pooled(builder().max_wait(time)));
        table.case(("PoolBuilder::idle_timeout", time), move || pooled(builder().idle_timeout(time)));
        table.case(("PoolBuilder::idle_timeout, min", time), move || {
            pooled(builder().idle_timeout(time).min_connections(1))
        });
        table.case(("PoolBuilder::max_lifetime", time), move || pooled(builder().max_lifetime(time)));
        table.case(("PoolBuilder::backoff", time), move || {
            pooled(builder().min_connections(1).backoff(Backoff::fixed(time)).max_lifetime(time))
        });
    }
    table.assert_clean();
}
