//! Real sockets: a server that is killed, stays away and comes back on its port.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tower::ServiceBuilder;
use tower_transport::{
    Message, QueueConfig, TransportExt,
    layer::reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
    transport::websocket::WebSocketConnector,
};

/// Echoes until it is dropped, which cuts every connection without a word.
struct Server(JoinSet<()>);

impl Server {
    async fn start(address: &str) -> (Self, String) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(async move {
                    let Ok(mut socket) = tokio_tungstenite::accept_async(tcp).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        if message.is_text() && socket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (Self(tasks), address)
    }

    async fn kill(mut self) {
        self.0.shutdown().await;
    }
}

#[tokio::test]
async fn messages_go_on_when_a_server_is_killed_and_comes_back() {
    let (mut server, address) = Server::start("127.0.0.1:0").await;
    let backoff = Backoff::exponential().base(Duration::from_millis(10)).cap(Duration::from_millis(20));
    let layer = ReconnectLayer::new(format!("ws://{address}/"), backoff)
        .when_lost(WhenLost::Keep(Keep::messages()))
        .on_connect(|_| vec![Message::text("subscribe")]);
    let handle = layer.handle();
    let transport = ServiceBuilder::new().layer(layer).service(WebSocketConnector::new());
    let (sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);

    for round in 0..5 {
        // Sent while there is a server, or while there is not.
        sender.send(format!("round {round}").into()).await.unwrap();
        let mut echoes = Vec::new();
        while echoes.last() != Some(&Message::text(format!("round {round}"))) {
            echoes.push(receiver.receive().await.unwrap().unwrap());
        }
        assert_eq!(echoes.first(), Some(&Message::text("subscribe")));
        assert_eq!(handle.connections(), round + 1);

        server.kill().await;
        // It notices, and is refused at least once.
        handle.states().any(async |state| !state.is_connected()).await;
        server = Server::start(&address).await.0;
    }
    drop(sender);
    while receiver.receive().await.is_some() {}
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_with_retry_after_says_for_how_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await;
            let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n";
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    let layer = ReconnectLayer::new(format!("ws://{address}/"), Backoff::none());
    let mut transport = ServiceBuilder::new().layer(layer).service(WebSocketConnector::new());
    let error = transport.next().await.unwrap().unwrap_err();
    assert_eq!(error.status().unwrap(), 503);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    let _: Option<Result<Message, _>> = transport.receive_message().await;
}

/// The server of the docs: values over a codec, driven, whose handlers return when it stops. Their last senders close
/// with 1000.
struct Documented {
    stop: tokio::sync::watch::Sender<bool>,
    tasks: JoinSet<()>,
}
impl Documented {
    async fn start(address: &str) -> (Self, String) {
        use hyper_util::{rt::TokioIo, service::TowerToHyperService};
        use tower_transport::{codec::JsonCodec, layer::codec::CodecLayer, transport::websocket::WebSocketService};

        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let upgrade = WebSocketService::new(move |socket, _| {
            let mut stopped = stopped.clone();
            async move {
                let socket = socket.layer(CodecLayer::new(JsonCodec::<u32>::new()));
                let (sender, mut receiver, driver) = socket.drive(QueueConfig::values()).into_parts();
                let driver = tokio::spawn(driver);
                let echo = async {
                    while let Some(Ok(number)) = receiver.receive().await {
                        sender.send(number).await.unwrap();
                    }
                };
                tokio::select! {
                    () = echo => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
                drop(sender);
                let _ = driver.await;
            }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let service = TowerToHyperService::new(upgrade.clone());
                let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
                connections.spawn(async move {
                    let _ = http.with_upgrades().await;
                });
            }
        });
        (Self { stop, tasks }, address)
    }

    /// As on ctrl-c: the handlers return.
    async fn restart(mut self, address: &str) -> Self {
        self.stop.send(true).unwrap();
        self.tasks.shutdown().await;
        Self::start(address).await.0
    }
}
#[tokio::test]
async fn the_documented_client_survives_rolling_restarts_of_the_documented_server() {
    use tower_transport::{ServiceBuilderExt, codec::JsonCodec};

    let (mut server, address) = Documented::start("127.0.0.1:0").await;
    let transport = ServiceBuilder::new()
        .codec(JsonCodec::<u32>::new())
        .reconnect(format!("ws://{address}/"), Backoff::exponential())
        .service(WebSocketConnector::new());
    let (sender, mut receiver, driver) = transport.drive(QueueConfig::values()).into_parts();
    let driver = tokio::spawn(driver);
    for number in 0..4 {
        // A message that is sent into a connection about to end may be lost.
        let echoed = loop {
            sender.send(number).await.unwrap();
            if let Ok(echoed) = timeout(Duration::from_millis(300), receiver.receive()).await {
                match echoed.expect("the client has ended") {
                    Ok(echoed) if echoed == number => break echoed,
                    Ok(_) => {}
                    Err(error) => assert!(error.is_rejection(), "{error}"),
                }
            }
        };
        assert_eq!(echoed, number);
        server = server.restart(&address).await;
    }
    assert!(!driver.is_finished());
    drop(server);
}
