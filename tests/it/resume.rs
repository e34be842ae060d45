//! Two processes, real sockets, and a proxy between them that cuts the connection at random, 1,000 times: every message
//! of both directions arrives once, in order.

use std::{
    env,
    future::poll_fn,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceBuilder;
use tower_transport::{
    Error, Message, Transport,
    layer::{
        reconnect::{Backoff, ReconnectLayer},
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    },
    transport::websocket::{WebSocketConnector, WebSocketService},
};

const CUTS: usize = 1_000;
/// Each way.
const MESSAGES: u64 = 50_000;
const SERVER: &str = "TOWER_TRANSPORT_RESUME_SERVER";

/// How far one end is.
#[derive(Debug, Default)]
struct Progress {
    sent: u64,
    received: u64,
}

fn nth(number: u64) -> Message {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + number as usize % 32, 7);
    Message::binary(payload)
}

/// Sends and receives the numbers in turn. Ready at the end of the transport, or when `is_done`.
fn poll_talk<T>(
    mut transport: Pin<&mut T>,
    progress: &mut Progress,
    cx: &mut Context<'_>,
    is_done: impl Fn(&Progress) -> bool,
) -> Poll<Result<(), Error>>
where
    T: Transport<Message, In = Message, TransportError = Error>,
{
    for turn in 0.. {
        if progress.sent == MESSAGES || transport.as_mut().poll_ready(cx)?.is_pending() {
            break;
        }
        transport.as_mut().start_send(nth(progress.sent))?;
        progress.sent += 1;
        if turn == 64 {
            cx.waker().wake_by_ref();
            break;
        }
    }
    let _ = transport.as_mut().poll_flush(cx)?;
    for _ in 0..64 {
        match transport.as_mut().poll_next(cx) {
            Poll::Ready(Some(message)) => {
                let message = message?;
                if message.is_data() {
                    assert_eq!(message, nth(progress.received), "a gap, a duplicate or another order");
                    progress.received += 1;
                }
            }
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending if is_done(progress) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Not a test of its own: the server's process, which the test below starts.
#[tokio::test]
async fn server_process() {
    if env::var_os(SERVER).is_none() {
        return;
    }
    let store = SessionStore::new().replay_messages(200);
    let upgrade = WebSocketService::new(move |socket, _| {
        let store = store.clone();
        async move {
            let Ok(Accepted::New(mut session)) = store.accept(socket).await else { return };
            let talking = tokio::spawn(async move {
                let mut progress = Progress::default();
                poll_fn(|cx| poll_talk(Pin::new(&mut session), &mut progress, cx, |_| false)).await.map(|()| progress)
            });
            // One line for each session that its client has closed, or that went wrong.
            println!("server {:?}", talking.await);
        }
    });
    println!("port {}", crate::serve::serve(upgrade).await.port());
    std::future::pending().await
}

/// Ends with the test, however that ends.
struct Server {
    process: Child,
    lines: std::sync::mpsc::Receiver<String>,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "resume::server_process", "--nocapture"])
            .env(SERVER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (read, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| read.send(line)));
        let port = loop {
            let line = lines.recv_timeout(Duration::from_secs(60)).expect("the server starts");
            if let Some(port) = line.split("port ").nth(1) {
                break port.trim().parse().unwrap();
            }
        };
        Self { process, lines, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Carries this many bytes in total between two sockets, then cuts both.
async fn carry(mut near: TcpStream, port: u16, mut bytes: usize) {
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    while bytes > 0 {
        let (read, target, buffer) = tokio::select! {
            read = near.read(&mut there) => (read, &mut far, &there),
            read = far.read(&mut back) => (read, &mut near, &back),
        };
        let Ok(read) = read else { return };
        let some = read.min(bytes);
        if some == 0 || target.write_all(&buffer[..some]).await.is_err() {
            return;
        }
        bytes -= some;
    }
}

/// A proxy that cuts each of the first [`CUTS`] connections somewhere.
async fn proxy(port: u16, cuts: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut random = 7u64;
        while let Ok((near, _)) = listener.accept().await {
            let cut = cuts.load(Ordering::Relaxed) < CUTS;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = if cut { 1 + (random >> 33) as usize % 4_000 } else { usize::MAX };
            let cuts = cuts.clone();
            tokio::spawn(async move {
                carry(near, port, bytes).await;
                cuts.fetch_add(usize::from(cut), Ordering::Relaxed);
            });
        }
    });
    address
}

#[tokio::test]
async fn a_link_that_is_cut_1000_times_loses_and_doubles_nothing_of_100000_messages() {
    if env::var_os(SERVER).is_some() {
        return;
    }
    let server = Server::start();
    let cuts = Arc::new(AtomicUsize::new(0));
    let address = proxy(server.port, cuts.clone()).await;

    let handle = ResumeHandle::new();
    let mut verdicts = handle.verdicts();
    let seen = tokio::spawn(async move {
        let mut resumed = 0u32;
        while let Some(verdict) = verdicts.next().await {
            assert!(!matches!(verdict, Verdict::Fresh { .. }), "{verdict:?}");
            resumed += u32::from(matches!(verdict, Verdict::Resumed { .. }));
            if resumed >= 500 {
                break;
            }
        }
    });
    let backoff = Backoff::exponential().base(Duration::from_millis(1)).cap(Duration::from_millis(4));
    let mut transport = Box::pin(
        ServiceBuilder::new()
            .layer(ReconnectLayer::new(format!("ws://{address}/").parse::<http::Uri>().unwrap(), backoff))
            .layer(ResumeLayer::new().replay_messages(100).handle(handle.clone()))
            .service(WebSocketConnector::new()),
    );
    let mut progress = Progress::default();
    let is_done = |progress: &Progress| {
        progress.sent == MESSAGES && progress.received == MESSAGES && handle.unacknowledged() == 0
    };
    poll_fn(|cx| poll_talk(transport.as_mut(), &mut progress, cx, is_done)).await.unwrap();
    assert_eq!((progress.sent, progress.received), (MESSAGES, MESSAGES));
    assert!(cuts.load(Ordering::Relaxed) >= CUTS, "{cuts:?}");
    seen.await.unwrap();

    // The server has received all of it, in order, within one session, and says so when that is closed.
    poll_fn(|cx| futures_util::Sink::poll_close(transport.as_mut(), cx)).await.unwrap();
    let line = tokio::task::spawn_blocking(move || {
        let line = server.lines.iter().find(|line| line.contains("server "));
        drop(server);
        line
    });
    let line = line.await.unwrap().unwrap();
    assert!(line.contains(&format!("Ok(Ok(Progress {{ sent: {MESSAGES}, received: {MESSAGES} }}))")), "{line}");
}
