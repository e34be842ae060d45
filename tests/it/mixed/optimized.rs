//! The recommended stack with any settings at either end, over real sockets that are cut at any byte: what was resumed
//! has no gap and no duplicate.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*};
use tower_transport::{
    QueueConfig,
    layer::{
        batch::BatchPolicy,
        compression::{Deflate, Level},
        heartbeat::HeartbeatLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::{Backoff, Target},
        resume::{ResumeLayer, Verdict},
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::websocket::WebSocketConnector,
};

use crate::mixed::{
    messages::{Said, message},
    proxy::Proxy,
    serve::serve,
};

/// Of one end.
#[derive(Clone, Debug)]
struct Settings {
    batch: Option<(u16, Option<u64>)>,
    /// The least size, the level, and whether the context is kept.
    compression: Option<(usize, u8, bool)>,
    heartbeat: Option<u64>,
    /// How many messages may be unacknowledged.
    resume: Option<usize>,
    sampled: Option<u32>,
    rate: Option<u32>,
    queue: usize,
}

fn settings(resumes: bool) -> impl Strategy<Value = Settings> {
    let resume = if resumes { (1..100usize).prop_map(Some).boxed() } else { option::of(1..100usize).boxed() };
    (
        option::of((1..40u16, option::of(1..4u64))),
        option::of((0..300usize, 1..7u8, any::<bool>())),
        option::of(2..50u64),
        resume,
        option::of(1..4u32),
        option::of(5_000..100_000u32),
        1..50usize,
    )
        .prop_map(|(batch, compression, heartbeat, resume, sampled, rate, queue)| Settings {
            batch,
            compression,
            heartbeat,
            resume,
            sampled,
            rate,
            queue,
        })
}

impl Settings {
    fn builder(&self) -> OptimizedBuilder {
        let batch = self.batch.map(|(count, delay)| match delay {
            Some(millis) => BatchPolicy::new(count, Duration::from_millis(millis)),
            None => BatchPolicy::on_flush(count),
        });
        let compression = self.compression.map(|(min_size, level, keep_context)| {
            let deflate = Deflate::new().min_size(min_size).level(Level::try_from(level).unwrap());
            if keep_context { deflate.keep_context() } else { deflate }
        });
        let heartbeat =
            self.heartbeat.map(|millis| HeartbeatLayer::new(Duration::from_millis(millis), Duration::from_secs(20)));
        let resume = self
            .resume
            .map(|messages| ResumeLayer::new().replay_messages(messages).ack_delay(Duration::from_millis(5)));
        let builder = OptimizedTransport::builder()
            .batch(batch)
            .compression(compression)
            .heartbeat(heartbeat)
            .resume(resume)
            .backoff(Backoff::fixed(Duration::from_millis(1)))
            .queue(QueueConfig::messages().max_messages(NonZeroUsize::new(self.queue).unwrap()));
        let builder = match self.sampled {
            Some(one_in) => builder.sample_one_in(NonZeroU32::new(one_in).unwrap()),
            None => builder,
        };
        match self.rate {
            Some(rate) => {
                builder.rate_limit(RateLimitLayer::per_connection(Quota::per_second(NonZeroU32::new(rate).unwrap())))
            }
            None => builder,
        }
    }
}

async fn send_back(transport: OptimizedTransport) {
    let (sender, mut receiver) = transport.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

async fn check(client: &Settings, server: &Settings, says: Vec<Said>, budgets: Vec<usize>) -> (usize, u64) {
    let acceptor: OptimizedAcceptor = server.builder().acceptor();
    let server = serve(acceptor.upgrade(|transport, _| send_back(transport))).await;
    let proxy = Proxy::start(server, budgets).await;
    let target = Target::parse(&format!("ws://{}/", proxy.address)).unwrap();
    let transport = client.builder().connect_lazily(WebSocketConnector::new(), target);
    let handle = transport.handle();
    let verdicts = handle.resume().map(|resume| resume.verdicts());
    let watching = tokio::spawn(async move {
        let Some(mut verdicts) = verdicts else { return };
        loop {
            let verdict = verdicts.changed().await;
            assert!(!matches!(verdict, Verdict::Fresh { .. }), "{verdict:?}");
        }
    });
    let (sender, mut receiver) = transport.split();
    let saying = says.clone();
    let saying = tokio::spawn(async move {
        for Said(message) in saying {
            sender.send(message).await.unwrap();
        }
        sender
    });
    for (number, due) in says.into_iter().enumerate() {
        loop {
            let message = receiver.receive().await.expect("the stream goes on").unwrap();
            if message.is_data() {
                assert_eq!(Said(message), due, "message {number}");
                break;
            }
        }
    }
    drop(saying.await.unwrap());
    while let Some(item) = receiver.receive().await {
        assert!(!item.as_ref().is_ok_and(|message| message.is_data()), "one too many: {item:?}");
    }
    watching.abort();
    assert!(watching.await.map_or_else(|error| error.is_cancelled(), |()| true), "a session was lost");
    (proxy.cuts.load(Ordering::Relaxed), handle.reconnect().unwrap().connections())
}

fn run(client: &Settings, server: &Settings, says: Vec<Said>, budgets: Vec<usize>) -> (usize, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), check(client, server, says, budgets)).await.expect("it hangs")
    })
}

/// A tenth of what is asked for, since time is real here.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases / 10, max_shrink_iters: 12, failure_persistence: None, ..default }
}

static CUTS: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_either_end_has_on_all_messages_arrive_once_and_in_order(
        client in settings(false),
        server in settings(false),
        says in vec(message(), 0..50),
    ) {
        run(&client, &server, says, Vec::new());
    }

    #[test]
    fn wherever_the_sockets_are_cut_all_messages_arrive_once_and_in_order(
        client in settings(true),
        server in settings(true),
        says in vec(message(), 0..50),
        budgets in vec(0..20_000usize, 0..30),
    ) {
        let (cuts, connections) = run(&client, &server, says, budgets);
        let all = CUTS.fetch_add(cuts, Ordering::Relaxed) + cuts;
        println!("{cuts} cuts, {connections} connections; {all} cuts in all");
    }
}
