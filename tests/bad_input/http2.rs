//! Floods of HTTP/2, in raw frames, against the server of the deployment guide. The bounds are those of h2 and hyper,
//! except where a line says otherwise.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, future::join_all};

use http::request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{
    Message, TransportExt,
    transport::websocket::{Http2, WebSocket, WebSocketConnector, WebSocketService},
};

use crate::{allocator::Growth, within};

const KIB: usize = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn serve<H, F>(handler: H) -> SocketAddr
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let upgrade = WebSocketService::new(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(upgrade.clone());
            tokio::spawn(async move {
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http1().timer(TokioTimer::new());
                http.http2()
                    .enable_connect_protocol()
                    .timer(TokioTimer::new())
                    .keep_alive_interval(Duration::from_secs(20))
                    .max_concurrent_streams(200)
                    .initial_stream_window_size(256 * 1024)
                    .initial_connection_window_size(200 * 256 * 1024)
                    .max_send_buf_size(64 * 1024);
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
            });
        }
    });
    address
}

async fn read_all(mut socket: WebSocket, _: request::Parts) {
    while let Some(Ok(_)) = socket.receive_message().await {}
}

async fn read_nothing(socket: WebSocket, _: request::Parts) {
    std::future::pending::<()>().await;
    drop(socket);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as a literal without indexing (RFC 7541, section 6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut header = vec![0, name.len() as u8];
    header.extend(name.as_bytes());
    header.push(value.len() as u8);
    header.extend(value.as_bytes());
    header
}

fn handshake() -> Vec<u8> {
    [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/"),
        ("sec-websocket-version", "13"),
    ]
    .map(|(name, value)| header(name, value))
    .concat()
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &handshake())
}

/// A connection whose settings are these, and which acknowledges those of the server.
fn begin(settings: &[u8]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, settings));
    bytes.extend(frame(SETTINGS, ACK, 0, &[]));
    bytes
}

/// The answers of a server: the number of frames of each kind, the resets by code, and the code of a GOAWAY.
#[derive(Debug, Default)]
struct Answers {
    frames: HashMap<u8, usize>,
    resets: HashMap<u32, usize>,
    goaway: Option<u32>,
}

impl Answers {
    /// Reads until the server closes, or is silent for a second after the attack.
    fn read(mut tcp: TcpStream, is_over: &AtomicBool) -> Self {
        tcp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut answers = Self::default();
        let mut head = [0; 9];
        loop {
            match tcp.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !is_over.load(SeqCst) => continue,
                Err(_) => break,
            }
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            if tcp.read_exact(&mut payload).is_err() {
                break;
            }
            *answers.frames.entry(head[3]).or_default() += 1;
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match head[3] {
                RST_STREAM => *answers.resets.entry(code(0)).or_default() += 1,
                GOAWAY => answers.goaway = Some(code(4)),
                _ => {}
            }
        }
        answers
    }
}

/// The server's peak memory during an attack, and its answers. `reads` tells whether the attacker reads them meanwhile.
async fn attacked(
    address: SocketAddr,
    reads: bool,
    attack: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> (usize, Answers) {
    // The needs of a good connection are not counted.
    let growth = Growth::start();
    let answers = tokio::task::spawn_blocking(move || {
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let other = tcp.try_clone().unwrap();
        if reads {
            let is_over = Arc::new(AtomicBool::new(false));
            let over = is_over.clone();
            let reader = std::thread::spawn(move || Answers::read(other, &over));
            // The server may hang up, or not read any more.
            let _ = attack(&mut tcp);
            is_over.store(true, SeqCst);
            reader.join().unwrap()
        } else {
            let _ = attack(&mut tcp);
            Answers::read(other, &AtomicBool::new(true))
        }
    });
    let answers = within(answers).await.unwrap();
    (growth.peak(), answers)
}

/// A client of the same server is served.
async fn is_well(address: SocketAddr) {
    let connector = WebSocketConnector::new().http2(Http2::new().prior_knowledge());
    let mut socket = within(connector.connect(&format!("ws://{address}/"))).await.unwrap();
    socket.send_message(Message::text("hello")).await.unwrap();
}

#[tokio::test]
async fn continuations_without_an_end_are_cut() {
    let address = serve(read_all).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&[begin(&[]), frame(HEADERS, 0, 1, &handshake())].concat())?;
        let flood = frame(CONTINUATION, 0, 1, &header("x", &"y".repeat(100))).repeat(1000);
        (0..1000).try_for_each(|_| tcp.write_all(&flood))
    })
    .await;
    println!("1,000,000 CONTINUATION frames: {} KiB held at most, {answers:?}", held / KIB);
    assert!(answers.goaway.is_some() && held < 256 * KIB, "{held} {answers:?}");
    is_well(address).await;
}

#[tokio::test]
async fn handshakes_that_are_reset_at_once_hold_nothing() {
    const STREAMS: u32 = 50_000;
    let address = serve(read_all).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&begin(&[]))?;
        for batch in 0..STREAMS / 100 {
            let streams = (batch * 100..batch * 100 + 100).map(|number| number * 2 + 1);
            let flood = streams.flat_map(|stream| [open(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())]);
            tcp.write_all(&flood.collect::<Vec<_>>().concat())?;
        }
        Ok(())
    })
    .await;
    println!("{STREAMS} handshakes with a reset each: {} KiB held at most, {answers:?}", held / KIB);
    assert!(held < 1024 * KIB, "{held}");
    is_well(address).await;
}

#[tokio::test]
async fn settings_and_pings_whose_answers_are_not_read_stop_the_reading() {
    for (name, flood) in
        [("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])), ("PING", frame(PING, 0, 0, &[7; 8]))]
    {
        let address = serve(read_all).await;
        let flood = flood.repeat(1000);
        let (held, answers) = attacked(address, false, move |tcp| {
            tcp.write_all(&begin(&[]))?;
            (0..2000).try_for_each(|_| tcp.write_all(&flood))
        })
        .await;
        println!("2,000,000 {name} frames: {} KiB held at most, {answers:?}", held / KIB);
        assert!(held < 512 * KIB, "{name}: {held}");
        is_well(address).await;
    }
}

#[tokio::test]
async fn empty_data_frames_are_cut() {
    let address = serve(read_all).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&[begin(&[]), open(1)].concat())?;
        let flood = frame(DATA, 0, 1, &[]).repeat(1000);
        (0..1000).try_for_each(|_| tcp.write_all(&flood))
    })
    .await;
    println!("1,000,000 empty DATA frames: {} KiB held at most, {answers:?}", held / KIB);
    assert_eq!(answers.goaway, Some(ENHANCE_YOUR_CALM), "{answers:?}");
    assert!(held < 256 * KIB, "{held}");
    is_well(address).await;
}

/// Each frame costs more than its bytes, which are all that the window counts.
#[tokio::test]
async fn single_bytes_that_are_not_read_are_cut_by_their_number() {
    let address = serve(read_nothing).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&begin(&[]))?;
        for stream in (1..400).step_by(2) {
            tcp.write_all(&open(stream))?;
        }
        std::thread::sleep(Duration::from_millis(300));
        for stream in (1..400).step_by(2) {
            let flood = frame(DATA, 0, stream, &[0x82]).repeat(1000);
            (0..256).try_for_each(|_| tcp.write_all(&flood))?;
        }
        Ok(())
    })
    .await;
    println!("200 unread streams of single bytes: {} KiB held at most, {answers:?}", held / KIB);
    assert_eq!(answers.goaway, Some(ENHANCE_YOUR_CALM), "{answers:?}");
    assert!(held < 48 * 1024 * KIB, "{held}");
    is_well(address).await;
}

#[tokio::test]
async fn windows_that_are_not_read_hold_what_they_permit() {
    let address = serve(read_nothing).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&begin(&[]))?;
        for stream in (1..400).step_by(2) {
            tcp.write_all(&open(stream))?;
        }
        std::thread::sleep(Duration::from_millis(300));
        let flood = frame(DATA, 0, 0, &[7; 16 * KIB]);
        for stream in (1..400_u32).step_by(2) {
            let mut flood = flood.clone();
            flood[5..9].copy_from_slice(&stream.to_be_bytes());
            (0..16).try_for_each(|_| tcp.write_all(&flood))?;
        }
        Ok(())
    })
    .await;
    println!("200 unread streams with full windows: {} KiB held at most, {answers:?}", held / KIB);
    assert!(held < 64 * 1024 * KIB, "{held}");
    is_well(address).await;
}

/// The bound of each WebSocket is `Limits::write_buffer`, the message that crossed it, and four pieces in hyper.
#[tokio::test]
async fn a_client_that_permits_nothing_makes_each_websocket_hold_its_write_buffer() {
    let address = serve(|mut socket: WebSocket, _| async move {
        while socket.feed(Message::binary(vec![7; 1000])).await.is_ok() {}
    })
    .await;
    // SETTINGS_INITIAL_WINDOW_SIZE is zero.
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&begin(&[0, 4, 0, 0, 0, 0]))?;
        for stream in (1..400).step_by(2) {
            tcp.write_all(&open(stream))?;
        }
        Ok(())
    })
    .await;
    let each = held / 200;
    println!("200 WebSockets without a window: {} KiB each at most, {answers:?}", each / KIB);
    assert_eq!(answers.frames[&HEADERS], 200);
    assert!(each < 160 * KIB, "{each}");
}

#[tokio::test]
async fn handshakes_over_the_limit_of_streams_are_refused() {
    let address = serve(read_all).await;
    let (held, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&begin(&[]))?;
        (0..1000).try_for_each(|number| tcp.write_all(&open(number * 2 + 1)))
    })
    .await;
    println!("1,000 handshakes in one connection: {} KiB held at most, {answers:?}", held / KIB);
    assert!(answers.frames[&HEADERS] <= 200, "{answers:?}");
    assert!(answers.resets[&REFUSED_STREAM] >= 20 || answers.goaway.is_some(), "{answers:?}");
    assert!(held < 2 * 1024 * KIB, "{held}");
}

#[tokio::test]
async fn windows_that_overflow_end_the_connection() {
    let address = serve(read_all).await;
    let (_, answers) = attacked(address, true, |tcp| {
        tcp.write_all(&[begin(&[]), open(1)].concat())?;
        (0..3).try_for_each(|_| tcp.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())))
    })
    .await;
    assert_eq!(answers.goaway, Some(3), "{answers:?}");
    is_well(address).await;
}

/// hyper has no time limit here, so each costs its memory for as long as the client likes.
#[tokio::test]
async fn half_prefaces_hold_little() {
    const HALVES: usize = 200;
    let address = serve(read_all).await;
    is_well(address).await;
    let growth = Growth::start();
    let halves = tokio::task::spawn_blocking(move || {
        let half = |_| {
            let mut tcp = TcpStream::connect(address).unwrap();
            tcp.write_all(&begin(&[])[..20]).unwrap();
            tcp
        };
        (0..HALVES).map(half).collect::<Vec<_>>()
    });
    let halves = within(halves).await.unwrap();
    is_well(address).await;
    let each = growth.peak() / HALVES;
    println!("{HALVES} half prefaces: {each} bytes each");
    assert!(each < 8 * KIB, "{each}");
    drop(halves);
}

/// A server over TLS with both versions.
async fn secure() -> (String, Arc<tokio_rustls::rustls::ClientConfig>) {
    let (acceptor, config) = support::tls::localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upgrade = WebSocketService::new(|socket, _| support::echo(socket));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(upgrade.clone()));
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http2()
                    .enable_connect_protocol()
                    .max_concurrent_streams(200)
                    .initial_stream_window_size(256 * 1024)
                    .initial_connection_window_size(200 * 256 * 1024)
                    .max_send_buf_size(64 * 1024);
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tls), service).await;
            });
        }
    });
    (format!("wss://localhost:{port}/"), config)
}

/// The figures are those of docs/benchmarks.md. Both ends are on this thread.
#[tokio::test]
async fn fifty_websockets_of_one_connection_hold_less_than_fifty_connections() {
    const COUNT: usize = 50;
    let (url, config) = secure().await;
    let plain = WebSocketConnector::new().tls(config);
    for round in 0..2 {
        let mut held = Vec::new();
        for (name, connector) in [("HTTP/1.1", plain.clone()), ("HTTP/2", plain.clone().http2(Http2::new()))] {
            let growth = Growth::start();
            let start = Instant::now();
            let mut sockets: Vec<_> =
                join_all((0..COUNT).map(|_| connector.connect(&url))).await.into_iter().map(Result::unwrap).collect();
            let connected = start.elapsed();
            let message = Message::binary(vec![7; 32]);
            let mut times = Vec::new();
            for _ in 0..20 {
                for socket in &mut sockets {
                    let start = Instant::now();
                    socket.send_message(message.clone()).await.unwrap();
                    assert!(socket.receive_message().await.unwrap().unwrap() == message);
                    times.push(start.elapsed());
                }
            }
            times.sort_unstable();
            let start = Instant::now();
            join_all(sockets.iter_mut().map(async |socket| {
                for _ in 0..100 {
                    socket.send_message(message.clone()).await.unwrap();
                    assert!(socket.receive_message().await.unwrap().unwrap() == message);
                }
            }))
            .await;
            let together = start.elapsed();
            held.push(growth.peak());
            println!(
                "{round} {name}: connected in {connected:?}; {} KiB at most each; a round trip alone {:?}, of all at \
                 once {:?}",
                held.last().unwrap() / COUNT / KIB,
                times[times.len() / 2],
                together / 100 / COUNT as u32,
            );
            drop(sockets);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(held[1] < held[0], "{held:?}");
    }
}
