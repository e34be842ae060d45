//! One message to many readers: `cargo bench -p benches --bench topics [-- [--quick] SCENARIO...]`.
//!
//! | scenario | |
//! |---|---|
//! | `fan-out` | the CPU time of the server's thread for each receiver, beside a loop that writes the frame to each socket |
//! | `compressed` | the same with permessage-deflate: compressed once, beside once for each connection |
//! | `stalled` | the latency of 990 readers while 10 more read nothing, and the server's memory |
//! | `departure` | the longest publication while 10,000 subscribers leave |
//!
//! Readers have a thread of their own, and read bytes. 10 and 1,000 readers have sockets, 10,000 have streams in
//! memory. The run needs 2,100 file descriptors.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cpu_time::ThreadTime;
use harness::{
    allocator,
    goal::goal,
    loopback::{Loopback, payload},
    plan::Plan,
    statistics::{median, percentile},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    runtime::Builder,
    time::sleep,
};
use tower::Layer;
use tower_transport::{
    Limits, Message, TransportExt,
    layer::topic::{Requests, TopicLayer, TopicProtocol},
    topic::{Event, Policy, Start, Topic, Topics, TopicsConfig},
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketAcceptor},
};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// The payload of a message of the fan-out.
const SIZE: usize = 200;

/// Its header in a frame of a server.
const HEADER: usize = 4;

/// How many messages may be under way before the publisher waits for the readers.
const WINDOW: usize = 8;

fn main() {
    let plan = Plan::from_arguments((3, 10), (9, 1));
    if plan.wants("fan-out") {
        for (readers, messages) in [(10, 20_000), (1_000, 400), (10_000, 60)] {
            fan_out(&plan, readers, plan.count(messages).max(10));
        }
    }
    if plan.wants("compressed") {
        compressed(&plan);
    }
    if plan.wants("stalled") {
        stalled(&plan);
    }
    if plan.wants("departure") {
        departure(&plan);
    }
}

/// The CPU time of this thread, which is the server's.
fn cpu_time() -> Duration {
    ThreadTime::now().as_duration()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}
type Boxed = Box<dyn Stream>;

/// The ends of the readers, which they read on a thread of their own.
#[derive(Default)]
struct Readers {
    bytes: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Readers {
    /// Reads all of them, in a task each.
    fn start(&self, ends: Vec<Boxed>) -> thread::JoinHandle<()> {
        let (bytes, over) = (self.bytes.clone(), self.over.clone());
        thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                for mut end in ends {
                    let bytes = bytes.clone();
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 16 << 10];
                        while let Ok(read @ 1..) = end.read(&mut buffer).await {
                            bytes.fetch_add(read as u64, Relaxed);
                        }
                    });
                }
                while !over.load(Relaxed) {
                    sleep(Duration::from_millis(2)).await;
                }
            });
        })
    }

    /// Waits until they have read `bytes`.
    async fn reach(&self, bytes: u64) {
        while self.bytes.load(Relaxed) < bytes {
            sleep(Duration::from_micros(200)).await;
        }
    }

    /// Waits until nothing arrives any more. Returns what they have read.
    async fn settle(&self) -> u64 {
        let mut before = u64::MAX;
        loop {
            let now = self.bytes.load(Relaxed);
            if now == before {
                return now;
            }
            before = now;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn pairs(readers: usize, is_in_memory: bool) -> (Vec<Boxed>, Vec<Boxed>) {
    let loopback = Loopback::bind().await;
    let (mut servers, mut clients): (Vec<Boxed>, Vec<Boxed>) = (Vec::new(), Vec::new());
    for _ in 0..readers {
        if is_in_memory {
            let (server, client) = duplex(16 << 10);
            servers.push(Box::new(server));
            clients.push(Box::new(client));
        } else {
            let (client, server) = loopback.connect().await;
            servers.push(Box::new(server));
            // It is read on another runtime.
            clients.push(Box::new(Foreign::Waiting(Some(client.into_std().unwrap()))));
        }
    }
    (servers, clients)
}

/// A socket that registers with the runtime that reads it.
enum Foreign {
    Waiting(Option<std::net::TcpStream>),
    Here(tokio::net::TcpStream),
}

impl Foreign {
    fn here(&mut self) -> std::pin::Pin<&mut tokio::net::TcpStream> {
        if let Self::Waiting(socket) = self {
            *self = Self::Here(tokio::net::TcpStream::from_std(socket.take().unwrap()).unwrap());
        }
        let Self::Here(socket) = self else { unreachable!() };
        std::pin::Pin::new(socket)
    }
}

impl AsyncRead for Foreign {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.here().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Foreign {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.here().poll_write(cx, bytes)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.here().poll_shutdown(cx)
    }
}

/// Sends what is published as it is, and has no requests.
#[derive(Clone)]
struct AsPublished;

impl TopicProtocol for AsPublished {
    type Topic = u32;
    type Message = Message;
    type In = Message;
    type Out = Message;

    fn read(&mut self, message: Message, _: &mut Requests<u32, Message>) -> Option<Message> {
        Some(message)
    }

    fn event(&mut self, event: Event<u32, Message>, mut send: impl FnMut(Message)) {
        if let Event::Message(publication) = event {
            send(publication.message().clone());
        }
    }
}

/// A session for each stream: two lines, and a task that reads.
fn serve<S: Stream>(topics: &Topics<u32>, socket: WebSocket<S>) {
    let layer = TopicLayer::new(topics.clone(), AsPublished, Policy::drop_oldest()).subscribed_to(0u32, Start::Live);
    let mut session = layer.layer(socket);
    tokio::spawn(async move { while let Some(Ok(_)) = session.receive_message().await {} });
}

/// Runs the server on this thread. The result is the CPU time in nanoseconds, and the allocations, of each receiver.
fn run<F: Future<Output = (f64, f64)>>(scenario: impl FnOnce(Readers) -> F) -> (f64, f64) {
    let readers = Readers::default();
    let over = readers.over.clone();
    let measured = Builder::new_current_thread().enable_all().build().unwrap().block_on(scenario(readers));
    over.store(true, Relaxed);
    measured
}

fn bare(count: usize, messages: usize, is_in_memory: bool) -> (f64, f64) {
    run(|readers| async move {
        let (mut servers, clients) = pairs(count, is_in_memory).await;
        readers.start(clients);
        let frame: Vec<u8> = [&[0x82, 126, 0, SIZE as u8][..], &payload(SIZE)].concat();
        // In a task, as the sessions of the other row.
        tokio::spawn(async move {
            let mut cpu = cpu_time();
            for message in 0..=messages {
                if message == 1 {
                    cpu = cpu_time();
                }
                for server in &mut servers {
                    server.write_all(&frame).await.unwrap();
                }
                tokio::task::yield_now().await;
                readers.reach(((message + 1).saturating_sub(WINDOW) * frame.len() * count) as u64).await;
            }
            ((cpu_time() - cpu).as_nanos() as f64 / (messages * count) as f64, 0.0)
        })
        .await
        .unwrap()
    })
}

async fn publish_all(
    readers: &Readers,
    topic: &Topic<u32>,
    message: &Message,
    size: usize,
    count: usize,
    messages: usize,
) -> (f64, f64) {
    topic.publish(message.clone());
    let before = readers.settle().await;
    let (cpu, allocations) = (cpu_time(), allocator::allocations());
    for sent in 1..=messages {
        topic.publish(message.clone());
        tokio::task::yield_now().await;
        readers.reach(before + (sent.saturating_sub(WINDOW) * size * count) as u64).await;
    }
    readers.reach(before + (messages * size * count) as u64).await;
    let each = (messages * count) as f64;
    ((cpu_time() - cpu).as_nanos() as f64 / each, (allocator::allocations() - allocations) as f64 / each)
}

fn topics(count: usize, messages: usize, is_in_memory: bool) -> (f64, f64) {
    run(|readers| async move {
        let (servers, clients) = pairs(count, is_in_memory).await;
        readers.start(clients);
        let topics = Topics::<u32>::new();
        for server in servers {
            serve(&topics, WebSocket::server(server, Limits::default()));
        }
        let topic = topics.topic(&0).unwrap();
        let message = Message::binary(payload(SIZE));
        tokio::spawn(async move { publish_all(&readers, &topic, &message, SIZE + HEADER, count, messages).await })
            .await
            .unwrap()
    })
}

fn fan_out(plan: &Plan, count: usize, messages: usize) {
    let is_in_memory = count > 1_000;
    let (mut bares, mut ours, mut allocations) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        bares.push(bare(count, messages, is_in_memory).0);
        let (cpu, allocated) = topics(count, messages, is_in_memory);
        ours.push(cpu);
        allocations.push(allocated);
    }
    let ratio = median(ours.iter().zip(&bares).map(|(ours, bare)| ours / bare));
    let kind = if is_in_memory { "streams in memory" } else { "sockets" };
    println!("\nfan-out to {count} readers, {kind}, {SIZE} bytes: CPU ns and allocations of each receiver");
    println!("  a loop that writes the frame     {:>10.1}", median(bares));
    println!("  topics                           {:>10.1} {:>8.4}", median(ours), median(allocations.iter().copied()));
    goal(&format!("topics/fan-out-to-bare {count}"), ratio, 1.10);
    // The readers' runtime and the timer that waits for them allocate a little.
    goal(&format!("topics/allocations {count}"), median(allocations), 0.01 + 5.0 / count as f64);
}

/// Text that shrinks as JSON does.
fn news() -> Message {
    let rows = (0..40).map(|row| format!(r#"{{"symbol":"S{row}","price":{},"size":{}}}"#, row * 7919 % 1000, row * 31));
    Message::text(format!("[{}]", rows.collect::<Vec<_>>().join(",")))
}

fn compressed_fan_out(count: usize, messages: usize, config: TopicsConfig<u32>) -> f64 {
    run(|readers| async move {
        let (servers, mut clients) = pairs(count, true).await;
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n";
        for client in &mut clients {
            client.write_all(request.as_bytes()).await.unwrap();
        }
        readers.start(clients);
        let topics = Topics::with_config(config);
        let acceptor = WebSocketAcceptor::new().per_message_deflate(PerMessageDeflate::new());
        for server in servers {
            let (_, socket) = acceptor.accept(server).await.unwrap();
            assert!(socket.extensions().is_some());
            serve(&topics, socket);
        }
        let topic = topics.topic(&0).unwrap();
        tokio::spawn(async move {
            let before = readers.settle().await;
            topic.publish(news());
            let size = (readers.settle().await - before) as usize / count;
            publish_all(&readers, &topic, &news(), size, count, messages).await
        })
        .await
        .unwrap()
    })
    .0
}

fn compressed(plan: &Plan) {
    let (count, messages) = (200, plan.count(200).max(10));
    let (mut once, mut each) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        once.push(compressed_fan_out(count, messages, TopicsConfig::messages()));
        // The same hub, whose messages are not prepared.
        each.push(compressed_fan_out(count, messages, TopicsConfig::values_sized_by(Message::len)));
    }
    let ratio = median(once.iter().zip(&each).map(|(once, each)| once / each));
    println!("\ncompressed fan-out to {count} readers, {} bytes: CPU ns of each receiver", news().len());
    println!("  compressed once                  {:>10.1}", median(once));
    println!("  compressed for each              {:>10.1}", median(each));
    goal("topics/compressed-once-to-each", ratio, 0.25);
}

/// The latencies in microseconds of all readers that read, and the bytes that the process holds more in the end, if
/// `stalled` readers read nothing.
fn with_stalled(count: usize, stalled: usize, messages: usize) -> (Vec<f64>, f64) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    let (latencies, told) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let (topic, topics) = runtime.block_on(async {
        let (servers, clients) = pairs(count, false).await;
        let topics = Topics::<u32>::new();
        for server in servers {
            serve(&topics, WebSocket::server(server, Limits::default()));
        }
        let over = over.clone();
        thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let mut idle = Vec::new();
                for (index, mut client) in clients.into_iter().enumerate() {
                    if index < stalled {
                        idle.push(client);
                        continue;
                    }
                    let latencies = latencies.clone();
                    tokio::spawn(async move {
                        let mut frame = [0; SIZE + HEADER];
                        while client.read_exact(&mut frame).await.is_ok() {
                            let sent = u64::from_le_bytes(frame[HEADER..HEADER + 8].try_into().unwrap());
                            let latency = began.elapsed().as_nanos() as u64 - sent;
                            let _ = latencies.send(latency as f64 / 1e3);
                        }
                    });
                }
                drop(latencies);
                while !over.load(Relaxed) {
                    sleep(Duration::from_millis(2)).await;
                }
            });
        });
        (topics.topic(&0).unwrap(), topics)
    });
    let before = allocator::live_bytes();
    runtime.block_on(async {
        tokio::spawn(async move {
            for _ in 0..messages {
                let mut bytes = payload(SIZE).to_vec();
                bytes[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
                topic.publish(Message::Binary(Bytes::from(bytes)));
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        sleep(Duration::from_millis(50)).await;
    });
    let held = allocator::live_bytes() as f64 - before as f64;
    over.store(true, Relaxed);
    drop((runtime, topics));
    (told.into_iter().collect(), held)
}

fn stalled(plan: &Plan) {
    // More than the queue of a reader that stalls and its socket's buffers hold.
    let messages = plan.count(1_000).max(100);
    let (mut with, mut without, mut ratios, mut held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds.min(3) {
        let (latencies, bytes_without) = with_stalled(1_000, 0, messages);
        let without_any = percentile(latencies, 0.99);
        let (latencies, bytes) = with_stalled(1_000, 10, messages);
        let with_some = percentile(latencies, 0.99);
        ratios.push(with_some / without_any);
        with.push(with_some);
        without.push(without_any);
        // Both runs also hold the latencies.
        held.push((bytes - bytes_without) / 1024.0);
    }
    println!("\n1,000 readers, {messages} messages: the p99 in us of those who read");
    println!("  none stalled                     {:>10.1}", median(without));
    println!("  10 of them stalled               {:>10.1}", median(with));
    println!("  bytes held for the 10, KiB       {:>10.1}", median(held.iter().copied()));
    goal("topics/stalled-p99", median(ratios), 1.10);
    // Ten queues, and the messages that they share.
    goal("topics/stalled-KiB", median(held), 512.0);
}

fn departure(plan: &Plan) {
    let mut longest = Vec::new();
    for _ in 0..plan.rounds {
        let topics = Topics::<u32>::new();
        let members: Vec<_> =
            (0..10_000).map(|_| topics.subscribe(&0, Start::Live, Policy::default()).unwrap()).collect();
        let topic = topics.topic(&0).unwrap();
        let message = Message::binary(payload(SIZE));
        topic.publish(message.clone());
        let gone = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                drop(members);
                gone.store(true, Relaxed);
            });
            let mut worst = Duration::ZERO;
            while !gone.load(Relaxed) {
                let began = Instant::now();
                topic.publish(message.clone());
                worst = worst.max(began.elapsed());
            }
            longest.push(worst.as_secs_f64() * 1e3);
        });
    }
    println!("\n10,000 subscribers leave: the longest publication in ms {:>10.2}", median(longest.iter().copied()));
    goal("topics/departure-ms", median(longest), 10.0);
}
