//! A server that drains under load, again and again, while its clients go to the next one: nothing is lost or doubled.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header::SEC_WEBSOCKET_PROTOCOL};
use proptest::prelude::*;
use tokio::{task::JoinHandle, time::sleep};
use tower::service_fn;
use tower_transport::{
    Channel, Error, Message, TransportExt, channel,
    layer::{reconnect::State, resume::Verdict},
    stack::{OptimizedAcceptor, OptimizedTransport},
    transport::Drain,
};

/// The server that new connections reach, and what all servers together have seen.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    current: Option<(OptimizedAcceptor<Channel>, u32)>,
    /// The client's messages in the order in which handlers got them, as process and number.
    received: Vec<(u32, u64)>,
    /// The server's messages that were accepted, as process and number.
    accepted: Vec<(u32, u64)>,
    handlers: Vec<JoinHandle<()>>,
}

/// How a handler behaves.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Milliseconds between two of its messages and before it reads the next one.
    writes: u64,
    reads: u64,
    is_driven: bool,
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// Starts the next process, which takes all new connections. Returns the drain of the one before.
    fn next_process(&self) -> Option<Drain> {
        let acceptor = OptimizedTransport::builder()
            .acceptor()
            .with_drain(&Drain::new().spread_returns(Duration::from_millis(500)));
        let mut seen = self.lock();
        let number = seen.current.as_ref().map_or(0, |(_, number)| number + 1);
        let before = seen.current.replace((acceptor, number));
        before.map(|(acceptor, _)| acceptor.drain().clone())
    }

    fn connector(
        &self,
        pace: Pace,
    ) -> impl tower::Service<
        Request<()>,
        Response = Response<Channel>,
        Error = Error,
        Future = std::future::Ready<Result<Response<Channel>, Error>>,
    > + Clone
    + Send
    + 'static {
        let world = self.clone();
        service_fn(move |_: Request<()>| {
            let (acceptor, process) = world.lock().current.clone().unwrap();
            if acceptor.is_closed() {
                return ready(Err(Error::refused("draining")));
            }
            let (near, far) = channel::<Message, Message>(4);
            let handling = world.clone();
            let handler = tokio::spawn(async move {
                if let Ok(Some(session)) = acceptor.accept_over(far, true).await {
                    if pace.is_driven {
                        let (sender, receiver) = session.split();
                        tokio::join!(
                            handling.write_driven(sender, process, pace),
                            handling.read_driven(receiver, process, pace)
                        );
                    } else {
                        let (sink, stream) = session.into_split();
                        tokio::join!(handling.write(sink, process, pace), handling.read(stream, process, pace));
                    }
                }
            });
            world.lock().handlers.push(handler);
            let mut response = Response::new(near);
            let name = HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
            ready(Ok(response))
        })
    }

    async fn write_driven(&self, sender: tower_transport::Sender<Message>, process: u32, pace: Pace) {
        for number in 0.. {
            if sender.send(Message::text(format!("{process} {number}"))).await.is_err() {
                return;
            }
            self.lock().accepted.push((process, number));
            sleep(Duration::from_millis(pace.writes)).await;
        }
    }

    async fn read_driven(&self, mut receiver: tower_transport::Receiver<Message>, process: u32, pace: Pace) {
        while let Some(Ok(message)) = receiver.receive().await {
            self.got(process, &message);
            sleep(Duration::from_millis(pace.reads)).await;
        }
    }

    async fn write<S>(&self, mut sink: S, process: u32, pace: Pace)
    where
        S: futures_util::Sink<Message, Error = Error> + Unpin,
    {
        use futures_util::SinkExt;

        for number in 0.. {
            if sink.feed(Message::text(format!("{process} {number}"))).await.is_err() {
                return;
            }
            self.lock().accepted.push((process, number));
            if sink.flush().await.is_err() {
                return;
            }
            sleep(Duration::from_millis(pace.writes)).await;
        }
    }

    async fn read<S>(&self, mut stream: S, process: u32, pace: Pace)
    where
        S: futures_util::Stream<Item = Result<Message, Error>> + Unpin,
    {
        use futures_util::StreamExt;

        while let Some(Ok(message)) = stream.next().await {
            self.got(process, &message);
            sleep(Duration::from_millis(pace.reads)).await;
        }
    }

    fn got(&self, process: u32, message: &Message) {
        if let Some(text) = message.as_text() {
            self.lock().received.push((process, text.parse().unwrap()));
        }
    }
}

/// Waits for longer than any drain takes.
async fn until(what: &str, is_true: impl Fn() -> bool) {
    let waiting = async {
        while !is_true() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// One client through several processes. `drains` are the milliseconds before each restart.
async fn deploys(drains: Vec<u64>, client_pace: u64, pace: Pace) {
    let world = World::default();
    world.next_process();
    let builder = OptimizedTransport::builder().named("drained");
    let transport = builder.connect_with(world.connector(pace), "ws://host/").await.unwrap();
    let handle = transport.handle();
    let (mut sender, mut receiver) = transport.split();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    let reading = tokio::spawn(async move {
        while let Some(message) = receiver.receive().await {
            let message = message.unwrap();
            let Some((process, number)) = message.as_text().and_then(|text| text.split_once(' ')) else { continue };
            hearing.lock().unwrap().push((process.parse().unwrap(), number.parse().unwrap()));
        }
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn({
        let sender = sender.clone();
        async move {
            tokio::pin!(stopped);
            let mut accepted = 0_u64;
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => return accepted,
                    () = sleep(Duration::from_millis(client_pace)) => {}
                }
                sender.send(Message::text(accepted.to_string())).await.unwrap();
                accepted += 1;
            }
        }
    });
    for wait in drains {
        sleep(Duration::from_millis(wait)).await;
        let drained = world.next_process().unwrap().drain(Duration::from_secs(60)).await;
        assert_eq!(drained.cut, 0);
        until("the client is back", || matches!(handle.state(), State::Connected)).await;
    }
    sleep(Duration::from_secs(1)).await;
    stop.send(()).unwrap();
    let accepted = writing.await.unwrap();
    sender.flush().await.unwrap();
    until("everything is acknowledged", || handle.resume().unwrap().unacknowledged() == 0).await;
    // The last process drains with nowhere to go.
    let drain = world.lock().current.as_ref().unwrap().0.drain().clone();
    assert_eq!(drain.drain(Duration::from_secs(60)).await.cut, 0);
    sleep(Duration::from_secs(1)).await;
    let handlers = std::mem::take(&mut world.lock().handlers);
    for handler in handlers {
        handler.await.unwrap();
    }
    reading.abort();
    let seen = world.lock();
    // The handler of an old process may still read what it got while the client is with the next one. So the messages
    // are in order for each process, and each is there once.
    let mut received = seen.received.clone();
    for pair in received.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1 + 1 == pair[1].1, "{pair:?}");
    }
    received.sort_unstable_by_key(|(_, number)| *number);
    let numbers: Vec<_> = received.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (0..accepted).collect::<Vec<_>>(), "the client's messages");
    assert!(received.is_sorted_by_key(|(process, _)| *process), "a process got messages after a later one");
    assert_eq!(*heard.lock().unwrap(), seen.accepted, "the servers' messages");
    assert!(!matches!(handle.resume().unwrap().verdict(), Some(Verdict::Fresh { lost: 1.. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn drains_at_any_moment_lose_and_double_nothing_over_a_resuming_stack(
        drains in prop::collection::vec(0_u64..400, 1..4),
        client_pace in 3_u64..15,
        writes in 3_u64..15,
        reads in 0_u64..20,
        is_driven: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(deploys(drains, client_pace, Pace { writes, reads, is_driven }));
    }
}
