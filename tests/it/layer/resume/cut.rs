//! The link is cut, at every byte and at random ones: what the verdict says is what was delivered.

use std::{
    future::{Ready, poll_fn, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc::unbounded_channel,
};
use tower::{Layer, service_fn};
use tower_transport::{
    Error, Limits, Message, Transport,
    layer::resume::{Accepted, ResumeHandle, ResumeLayer, Session, SessionStore, Verdict},
    test_util::fault::{Cut, Direction, FaultIo, IoFaults},
    transport::websocket::WebSocket,
};

use super::support::connect;

type Far = WebSocket<DuplexStream>;

/// A fault of one connection.
#[derive(Clone, Copy, Debug)]
struct Plan {
    direction: Direction,
    after: usize,
    cut: Cut,
    trickles: bool,
}

#[derive(Clone, Debug)]
struct Setup {
    messages: usize,
    /// Of the client and of the server.
    windows: (usize, usize),
    /// How much the byte stream holds.
    pipe: usize,
    /// One for each connection; those after the last are good.
    plans: Vec<Plan>,
    ttl: Duration,
    /// How long the client stays away after a cut.
    away: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            messages: 12,
            windows: (8, 4),
            pipe: 256,
            plans: Vec::new(),
            ttl: Duration::from_secs(60),
            away: Duration::ZERO,
        }
    }
}

/// Of several sizes and both kinds, some like marks of this layer.
fn nth(who: &str, i: usize) -> Message {
    match i % 4 {
        0 => Message::text(format!("{who}{i}")),
        1 => Message::binary(format!("{who}{i}").repeat(i * 3).into_bytes()),
        2 => Message::binary([format!("{who}{i}").as_bytes(), &[3, 3, 0xf8, b't', b't', b'x', 1, 0xff]].concat()),
        // The same for all: no content tells them apart.
        _ => Message::binary(""),
    }
}

/// The messages that one end sent and received within one session.
#[derive(Debug, Default, Clone)]
struct Log {
    sent: usize,
    got: Vec<Message>,
}

/// Sends all, receives all; ready when both is done, or with the end.
fn poll_talk<T>(transport: &mut T, who: &str, log: &mut Log, all: usize, cx: &mut Context<'_>) -> Poll<Option<Error>>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let mut transport = std::pin::Pin::new(transport);
    for _ in 0..2 {
        if log.sent == all {
            break;
        }
        match transport.as_mut().poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
            Poll::Pending => break,
        }
        match transport.as_mut().start_send(nth(who, log.sent)) {
            Ok(()) => log.sent += 1,
            Err(error) => return Poll::Ready(Some(error)),
        }
        cx.waker().wake_by_ref();
    }
    if let Poll::Ready(Err(error)) = transport.as_mut().poll_flush(cx) {
        return Poll::Ready(Some(error));
    }
    while let Poll::Ready(item) = transport.as_mut().poll_next(cx) {
        match item {
            Some(Ok(message)) if message.is_data() => log.got.push(message),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Some(error)),
            None => return Poll::Ready(Some(Error::closed("the end"))),
        }
    }
    Poll::Pending
}

/// The totals.
#[derive(Debug, Default)]
struct Story {
    verdicts: Vec<Verdict>,
    /// One for each session of the client, the last one whole.
    client: Vec<Log>,
    /// One for each session of the server.
    server: Vec<Log>,
    /// The bytes of the first connection, each way.
    bytes: (usize, usize),
}

async fn talk(setup: Setup) -> Story {
    let (dialed, mut incoming) = unbounded_channel::<Far>();
    let mut plans = setup.plans.clone().into_iter();
    let pipe = setup.pipe;
    let counters = Arc::new(Mutex::new(Vec::new()));
    let counted = counters.clone();
    let dial = service_fn(move |_: http::Request<()>| -> Ready<Result<_, Error>> {
        let (near, far) = tokio::io::duplex(pipe);
        let (near, count) = Count::new(near);
        counted.lock().unwrap().push(count);
        let (near, faults): (_, IoFaults) = FaultIo::new(near);
        if let Some(plan) = plans.next() {
            faults.cut_after(plan.direction, plan.after, plan.cut);
            if plan.trickles {
                faults.trickle(plan.direction);
            }
        }
        let _ = dialed.send(WebSocket::server(far, Limits::default()));
        ready(Ok(http::Response::new(WebSocket::client(near, Limits::default()))))
    });
    let store = SessionStore::new().replay_messages(setup.windows.1).ttl(setup.ttl);
    let logs = Arc::new(Mutex::new(Vec::<Log>::new()));
    let (server_logs, all) = (logs.clone(), setup.messages);
    let serving = tokio::spawn(async move {
        while let Some(far) = incoming.recv().await {
            let (store, logs) = (store.clone(), server_logs.clone());
            tokio::spawn(async move {
                if let Ok(Accepted::New(session)) = store.accept(far).await {
                    serve(session, &logs, all).await;
                }
            });
        }
    });

    let handle = ResumeHandle::new();
    let layer = ResumeLayer::new().replay_messages(setup.windows.0).handle(handle.clone());
    let mut client = layer.layer(dial);
    let mut story = Story::default();
    let mut log = Log::default();
    'session: loop {
        let (mut near, verdict) = match connect(&mut client).await {
            Ok(connected) => connected,
            Err(error) => {
                assert!(error.is_closed(), "{error:?}");
                tokio::time::sleep(setup.away).await;
                continue;
            }
        };
        story.verdicts.push(verdict);
        if let Verdict::Fresh { .. } = verdict {
            let next = Log { sent: log.sent, got: Vec::new() };
            story.client.push(std::mem::replace(&mut log, next));
        }
        let ended = poll_fn(|cx| match poll_talk(&mut near, "c", &mut log, all, cx) {
            Poll::Pending if log.sent == all && log.got.len() >= all && handle.unacknowledged() == 0 => {
                Poll::Ready(None)
            }
            other => other,
        })
        .await;
        match ended {
            None => break 'session,
            Some(error) => assert!(error.is_closed(), "{error:?}"),
        }
        drop(near);
        tokio::time::sleep(setup.away).await;
    }
    serving.abort();
    story.client.push(log);
    story.server = logs.lock().unwrap().clone();
    story.bytes = counters.lock().unwrap()[0].get();
    story
}

async fn serve(mut session: Session<Far>, logs: &Mutex<Vec<Log>>, all: usize) {
    let number = {
        let mut logs = logs.lock().unwrap();
        logs.push(Log::default());
        logs.len() - 1
    };
    let mut log = Log::default();
    let error = poll_fn(|cx| {
        let polled = poll_talk(&mut session, "s", &mut log, all, cx);
        logs.lock().unwrap()[number] = log.clone();
        polled
    })
    .await;
    assert!(error.unwrap().is_closed());
}

/// Everything that was delivered, in its order, is what was sent from the first message on.
fn is_prefix(got: &[Message], who: &str) -> bool {
    got.iter().enumerate().all(|(i, message)| *message == nth(who, i))
}

/// Whatever was cut: each end got a beginning of what the other sent in that session, each message once.
fn check_order(story: &Story) {
    assert_eq!(story.verdicts[0], Verdict::New, "{story:?}");
    for log in &story.client {
        assert!(is_prefix(&log.got, "s"), "the client got something else than was sent: {story:?}");
    }
    for log in &story.server {
        // A later session of the client goes on where the earlier one was lost.
        assert!(is_run(&log.got, "c"), "the server got something else than was sent: {story:?}");
    }
}

fn is_run(got: &[Message], who: &str) -> bool {
    (0..=64).any(|from| got.iter().enumerate().all(|(i, message)| *message == nth(who, from + i)))
}

/// No session was lost: all arrived.
fn check_whole(story: &Story, all: usize) {
    check_order(story);
    assert!(story.verdicts.iter().skip(1).all(|verdict| !matches!(verdict, Verdict::Fresh { .. })), "{story:?}");
    let [client] = &story.client[..] else { panic!("{story:?}") };
    assert_eq!(client.got.len(), all, "{story:?}");
    let served: Vec<_> = story.server.iter().map(|log| log.got.len()).collect();
    assert_eq!(served.iter().sum::<usize>(), all, "{served:?} {story:?}");
    assert!(served.contains(&all), "{served:?}");
}

/// Sessions were lost: of the messages that the client's transports accepted, those that did not arrive are counted.
fn check_losses(story: &Story, all: usize) {
    check_order(story);
    let lost: u64 = story.verdicts.iter().map(|v| if let Verdict::Fresh { lost } = v { *lost } else { 0 }).sum();
    let served: usize = story.server.iter().map(|log| log.got.len()).sum();
    assert!(served <= all, "a duplicate: {story:?}");
    assert!(all - served <= lost as usize, "{} are missing, and {lost} were said to be: {story:?}", all - served);
}

fn run(setup: Setup) -> Story {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(3600), talk(setup.clone()))
            .await
            .unwrap_or_else(|_| panic!("it does not end: {setup:?}"))
    })
}

/// Each byte of a first connection that carries the whole conversation, each way, by both ends of a TCP connection.
#[test]
fn cut_at_every_byte_all_is_delivered_once_and_in_order() {
    let setup = Setup { messages: 24, ..Setup::default() };
    let whole = run(setup.clone());
    check_whole(&whole, setup.messages);
    assert_eq!(whole.verdicts, [Verdict::New]);
    let (out, back) = whole.bytes;
    assert!(out > 400 && back > 400, "{:?}", whole.bytes);
    let mut resumed = 0;
    for (direction, bytes) in [(Direction::Outgoing, out), (Direction::Incoming, back)] {
        for after in 0..bytes {
            let cut = if after % 2 == 0 { Cut::Eof } else { Cut::Reset };
            let plan = Plan { direction, after, cut, trickles: false };
            let story = run(Setup { plans: vec![plan], ..setup.clone() });
            check_whole(&story, setup.messages);
            resumed += usize::from(story.verdicts.len() > 1);
        }
    }
    // Before the session is open there is nothing to resume; the last bytes may be cut when all is done.
    assert!(resumed > (out + back) / 2, "{resumed} of {}", out + back);
}

/// The same when the server gives sessions up at once: then the losses are counted.
#[test]
fn cut_at_every_byte_without_a_session_to_go_on_with_the_losses_are_counted() {
    let setup = Setup { messages: 6, ttl: Duration::ZERO, away: Duration::from_millis(10), ..Setup::default() };
    let (out, back) = run(setup.clone()).bytes;
    let mut fresh = 0;
    for (direction, bytes) in [(Direction::Outgoing, out), (Direction::Incoming, back)] {
        for after in 0..bytes {
            let plan = Plan { direction, after, cut: Cut::Reset, trickles: false };
            let story = run(Setup { plans: vec![plan], ..setup.clone() });
            assert!(story.verdicts.iter().all(|verdict| !matches!(verdict, Verdict::Resumed { .. })), "{story:?}");
            fresh += story.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Fresh { .. })).count();
            check_losses(&story, 6);
        }
    }
    assert!(fresh > 100, "{fresh}");
}

fn plan() -> impl Strategy<Value = Plan> {
    (any::<bool>(), 0..900usize, any::<bool>(), any::<bool>()).prop_map(|(outgoing, after, eof, trickles)| Plan {
        direction: if outgoing { Direction::Outgoing } else { Direction::Incoming },
        after,
        cut: if eof { Cut::Eof } else { Cut::Reset },
        trickles,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cut_again_and_again_with_any_bounds_all_is_delivered_once_and_in_order(
        plans in proptest::collection::vec(plan(), 0..8),
        windows in (1..9usize, 1..9usize),
        pipe in 1..600usize,
        messages in 1..40usize,
        away in 0..300u64,
    ) {
        let away = Duration::from_millis(away);
        let story = run(Setup { messages, windows, pipe, plans, away, ..Setup::default() });
        check_whole(&story, messages);
    }

    #[test]
    fn cut_again_and_again_while_sessions_expire_the_losses_are_counted(
        plans in proptest::collection::vec(plan(), 0..8),
        windows in (1..9usize, 1..9usize),
        ttl in 0..400u64,
        away in 0..400u64,
    ) {
        let (ttl, away) = (Duration::from_millis(ttl), Duration::from_millis(away));
        let story = run(Setup { messages: 20, windows, plans, ttl, away, ..Setup::default() });
        check_losses(&story, 20);
    }
}

/// Counts what passes.
struct Count<T> {
    inner: T,
    bytes: Arc<Mutex<(usize, usize)>>,
}

#[derive(Clone)]
struct Counted(Arc<Mutex<(usize, usize)>>);

impl Counted {
    fn get(&self) -> (usize, usize) {
        *self.0.lock().unwrap()
    }
}

impl<T> Count<T> {
    fn new(inner: T) -> (Self, Counted) {
        let bytes = Arc::<Mutex<_>>::default();
        (Self { inner, bytes: bytes.clone() }, Counted(bytes))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Count<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.bytes.lock().unwrap().1 += buf.filled().len() - before;
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Count<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            self.bytes.lock().unwrap().0 += written;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
