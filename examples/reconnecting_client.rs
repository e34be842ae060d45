//! A client whose network fails twice, and whose server is then killed. In the first two cases nothing is lost; in the
//! last the loss is reported.
//!
//! `cargo run --release --example reconnecting_client --features reconnect,resume`

use std::{io, net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
    sync::watch,
};
use tower::ServiceBuilder;
use tower_transport::{
    BoxError, Error, Message, QueueConfig, Receiver, Sender, TransportExt,
    layer::{
        reconnect::{Backoff, Keep, ReconnectHandle, ReconnectLayer, State, WhenLost},
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    },
    transport::{
        accept,
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
    },
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = Server::start(None).await?;
    let network = Network::start(server.address).await?;

    // The client: reconnect on top, resume below it, the WebSocket at the bottom.
    let session = ResumeHandle::new();
    let backoff = Backoff::exponential().base(Duration::from_millis(50)).cap(Duration::from_millis(300));
    let reconnect =
        ReconnectLayer::new(format!("ws://{}/", network.address), backoff).when_lost(WhenLost::Keep(Keep::messages()));
    let handle = reconnect.handle();
    let transport = ServiceBuilder::new()
        .layer(reconnect)
        .layer(ResumeLayer::new().handle(session.clone()))
        .service(WebSocketConnector::new());
    let (sender, mut receiver) = transport.drive(QueueConfig::messages()).spawn();
    tokio::spawn(watch(handle.clone(), session.clone()));

    println!("1000 orders over a network that works");
    exchange(&sender, &mut receiver, 0..1000).await?;

    println!("\n1000 orders, and the network cuts every connection again and again");
    network.cut_for(Duration::from_millis(3), 5);
    exchange(&sender, &mut receiver, 1000..2000).await?;

    println!("\n1000 orders, and the network is down for half a second");
    network.fail_for(Duration::from_millis(500));
    exchange(&sender, &mut receiver, 2000..3000).await?;
    println!("3000 orders were answered: each once, in order");

    println!("\nthe server is killed, and another takes its place, which knows no session");
    let mut verdicts = session.verdicts();
    let address = server.address;
    server.kill();
    for number in 3000..3010 {
        sender.send(order(number)).await?;
    }
    let server = Server::start(Some(address)).await?;
    let verdict = verdicts.changed().await;
    println!("ten orders were on their way; the client is told what became of them: {}", told(Some(verdict)));
    server.kill();
    Ok(())
}

/// Prints the changes of the connection's state as they happen.
async fn watch(handle: ReconnectHandle, session: ResumeHandle) {
    let mut states = handle.states();
    while let Some(state) = states.next().await {
        match state {
            State::Connected => println!("    connected: {}", told(session.verdict())),
            State::Reconnecting { attempt, cause, after, .. } => {
                println!("    attempt {attempt} in {after:.0?}, because: {cause}");
            }
            _ => {}
        }
    }
}

fn told(verdict: Option<Verdict>) -> String {
    match verdict {
        Some(Verdict::New) => "a new session".into(),
        Some(Verdict::Resumed { replayed }) => {
            format!("the session goes on, {replayed} messages sent again, none lost")
        }
        Some(Verdict::Fresh { lost }) => format!("the server has forgotten us, {lost} messages are lost"),
        _ => "no session".into(),
    }
}

fn order(number: u64) -> Message {
    Message::text(number.to_string())
}

/// Sends orders and checks the answers: each must arrive once and in order.
async fn exchange(
    sender: &Sender<Message>,
    receiver: &mut Receiver<Message>,
    numbers: std::ops::Range<u64>,
) -> Result<(), BoxError> {
    let (writer, all) = (sender.clone(), numbers.clone());
    let writing = tokio::spawn(async move {
        for number in all {
            writer.send(order(number)).await?;
        }
        Ok::<_, Error>(())
    });
    for number in numbers {
        let answer = receiver.receive().await.ok_or("the transport ended")??;
        assert_eq!(answer, order(number), "a gap or a duplicate");
    }
    Ok(writing.await??)
}

/// A server with its own runtime, so that it can be killed with all of its state.
struct Server {
    address: SocketAddr,
    runtime: Runtime,
}

impl Server {
    async fn start(address: Option<SocketAddr>) -> Result<Self, BoxError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (address, listener) = runtime
            .spawn(async move {
                let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
                // A server that was killed may hold the port for a moment longer.
                let listener = loop {
                    match listen(address) {
                        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        listener => break listener?,
                    }
                };
                Ok::<_, BoxError>((listener.local_addr()?, listener))
            })
            .await??;
        let store = SessionStore::new();
        runtime.spawn(async move {
            let upgrade = WebSocketService::new(move |socket, _parts| session(store.clone(), socket));
            loop {
                let (tcp, _) = accept(|| listener.accept()).await;
                let service = TowerToHyperService::new(upgrade.clone());
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new()) // cuts a client that never ends its request
                    .serve_connection(TokioIo::new(tcp), service)
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        Ok(Self { address, runtime })
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

/// Runs one session, however many connections it takes: it sends back incoming messages.
async fn session(store: SessionStore<WebSocket>, socket: WebSocket) {
    // A connection of an existing session is handed to it, and nothing is left to do.
    let Ok(Accepted::New(mut session)) = store.accept(socket).await else { return };
    while let Some(Ok(message)) = session.receive_message().await {
        if session.send_message(message).await.is_err() {
            return;
        }
    }
}

/// The network between the two, which fails.
struct Network {
    address: SocketAddr,
    /// Whether it carries data; each change cuts all connections.
    works: watch::Sender<bool>,
}

impl Network {
    async fn start(server: SocketAddr) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let works = watch::Sender::new(true);
        let state = works.subscribe();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = accept(|| listener.accept()).await;
                let mut state = state.clone();
                if !*state.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, works })
    }

    fn cut_for(&self, every: Duration, times: u32) {
        let works = self.works.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                tokio::time::sleep(every).await;
                works.send_replace(true);
            }
        });
    }

    fn fail_for(&self, time: Duration) {
        let works = self.works.clone();
        tokio::spawn(async move {
            works.send_replace(false);
            tokio::time::sleep(time).await;
            works.send_replace(true);
        });
    }
}
