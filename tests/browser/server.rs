//! The server of the page. It prints `listening on` and its addresses, and runs until it is killed.

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::{
        net::{Ipv4Addr, SocketAddr},
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Duration,
    };

    use futures_util::StreamExt;
    use http::request::Parts;
    use hyper::server::conn::http1;
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::sleep,
    };
    use tower::ServiceBuilder;
    use tower_transport::{
        CloseCode, CloseFrame, Error, Message, ServiceBuilderExt, Transport, TransportExt,
        codec::JsonCodec,
        handshake::auth::AuthGuardLayer,
        layer::{
            auth::StaticTokens,
            compression::Deflate,
            heartbeat::HeartbeatLayer,
            resume::{Accepted, SessionStore},
        },
        transport::websocket::{WebSocket, WebSocketService},
    };

    /// The connections that `carry` has to cut before it lets one live.
    const CUTS: u32 = 25;

    /// Returns the number behind `name=` in the query.
    fn number(parts: &Parts, name: &str) -> usize {
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    async fn echo<T: Transport<Message, In = Message, TransportError = Error> + Unpin>(mut transport: T) {
        while let Some(Ok(message)) = transport.receive_message().await {
            if message.as_text() == Some("cut") {
                return; // Dropping a transport is a cut.
            }
            if message.is_data() && transport.send_message(message).await.is_err() {
                return;
            }
        }
    }

    async fn handle(mut socket: WebSocket, parts: Parts, store: SessionStore<WebSocket>) {
        match parts.uri.path() {
            "/echo" => echo(socket).await,
            "/close" => {
                let code = CloseCode::new(number(&parts, "code") as u16).unwrap_or(CloseCode::NORMAL);
                let _ = socket.close(Some(CloseFrame::new(code, "as asked"))).await;
            }
            // Records what comes, for `/last`.
            "/closed" => {
                let mut messages = 0;
                while let Some(Ok(message)) = socket.receive_message().await {
                    messages += usize::from(message.is_data());
                }
                *LAST_CLOSE.lock().unwrap() = format!("{messages} messages, {:?}", socket.close_frame());
            }
            "/last" => {
                let last = LAST_CLOSE.lock().unwrap().clone();
                let _ = socket.send_message(Message::text(last)).await;
                echo(socket).await;
            }
            // Reads late, and then echoes.
            "/late" => {
                sleep(Duration::from_millis(number(&parts, "ms") as u64)).await;
                echo(socket).await;
            }
            "/flood" => {
                let payload = vec![7; number(&parts, "bytes")];
                for _ in 0..number(&parts, "count") {
                    if socket.send_message(Message::binary(payload.clone())).await.is_err() {
                        return;
                    }
                }
                echo(socket).await;
            }
            "/stack" => {
                let layers = ServiceBuilder::new()
                    .codec(JsonCodec::<browser::Quote>::new())
                    .batch(browser::batch())
                    .compress(Deflate::new());
                let (sender, mut receiver) = socket.layer(layers).drive(tower_transport::QueueConfig::values()).spawn();
                while let Some(Ok(quote)) = receiver.receive().await {
                    let _ = sender.send(quote).await;
                }
            }
            "/heartbeat" => {
                echo(socket.layer(HeartbeatLayer::answer_only().answer_application_level())).await;
            }
            "/resume" => {
                let Ok(Accepted::New(mut session)) = store.accept(socket).await else { return };
                while let Some(Ok(message)) = session.next().await {
                    if message.is_data() && session.send_message(message).await.is_err() {
                        return;
                    }
                }
            }
            _ => {}
        }
    }

    static LAST_CLOSE: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Carries a connection to `server`. The first ones are cut after some bytes.
    async fn carry(mut near: TcpStream, server: SocketAddr) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let mut left = if number < CUTS { 2_000 + number as usize * 7919 % 60_000 } else { usize::MAX };
        let Ok(mut far) = TcpStream::connect(server).await else { return };
        let (mut there, mut back) = ([0; 4096], [0; 4096]);
        while left > 0 {
            let (read, target, buffer) = tokio::select! {
                read = near.read(&mut there) => (read, &mut far, &there),
                read = far.read(&mut back) => (read, &mut near, &back),
            };
            let some = read.unwrap_or(0).min(left);
            if some == 0 || target.write_all(&buffer[..some]).await.is_err() {
                return;
            }
            left -= some;
        }
    }

    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn main() {
        let store = SessionStore::new();
        let upgrade = WebSocketService::new(move |socket, parts| handle(socket, parts, store.clone()))
            .subprotocol("chat.v1")
            .and_then(|upgrade| upgrade.subprotocol("chat.v0"))
            .unwrap()
            .allow_any_origin();
        let guard = AuthGuardLayer::new(StaticTokens::new().token("6f1c", "ada"));
        let (main, main_address) = listen().await;
        let (guarded, guarded_address) = listen().await;
        let (cutting, cutting_address) = listen().await;
        // Accepts in the kernel alone, and says nothing.
        let (_silent, silent_address) = listen().await;

        let open = upgrade.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = main.accept().await {
                let service = TowerToHyperService::new(open.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
            }
        });
        tokio::spawn(async move {
            while let Ok((tcp, _)) = guarded.accept().await {
                let service = ServiceBuilder::new().layer(guard.clone()).service(upgrade.clone());
                let service = TowerToHyperService::new(service);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
            }
        });
        tokio::spawn(async move {
            while let Ok((tcp, _)) = cutting.accept().await {
                tokio::spawn(carry(tcp, main_address));
            }
        });

        let came = browser::talk(&format!("ws://{main_address}/stack")).await.unwrap();
        println!("the client of both targets had {came} values echoed natively");
        print!("listening on main={main_address}&guarded={guarded_address}");
        println!("&cutting={cutting_address}&silent={silent_address}");
        std::future::pending::<()>().await;
    }
}

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    native::main();
}
