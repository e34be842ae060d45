//! The settings of the transports with their extremes, over real sockets: a connection works, or fails with an error.

use std::{convert::Infallible, fmt::Debug, net::Ipv4Addr, time::Duration};

use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use http::Request;
use tower::{Layer, ServiceExt, service_fn};
use tower_transport::{
    Connect, Error, Limits, Message, Transport,
    handshake::limit::ConnectionLimitLayer,
    stack::{AdaptiveTransport, OptimizedAcceptor, OptimizedTransport, adaptive::SessionServer},
    transport::{
        sse::{Event, EventStream, SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocketConnector, WebSocketService},
        webtransport::{Certificate, SessionLimits, WebTransportConnector, WebTransportServer},
    },
};

use support::{echo, serve::serve_http};

const SIZES: [usize; 6] = [0, 1, 64, 300, usize::MAX - 1, usize::MAX];
const NUMBERS: [u32; 4] = [0, 1, u32::MAX - 1, u32::MAX];
const TIMES: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];
const TEXT: &str = "a message of forty bytes, to be exchanged";

/// The cases, which all run at once.
#[derive(Default)]
struct Table(Vec<BoxFuture<'static, Option<String>>>);

impl Table {
    fn case<F>(&mut self, name: impl Debug, case: F)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let name = format!("{name:?}");
        let case = tokio::spawn(tokio::time::timeout(Duration::from_secs(25), case));
        self.0.push(Box::pin(async move {
            let end = case.await;
            println!("{name}: {end:?}");
            match end {
                Ok(Ok(_)) => None,
                Ok(Err(_)) => Some(format!("{name} hangs")),
                Err(panic) => Some(format!("{name}: {panic}")),
            }
        }));
    }

    async fn assert_clean(self) {
        let bad: Vec<_> = futures_util::future::join_all(self.0).await.into_iter().flatten().collect();
        assert!(bad.is_empty(), "{} ended badly:\n{}", bad.len(), bad.join("\n"));
    }
}

/// Connects, sends one message and waits for it.
async fn talk<C>(connector: C, url: String) -> Result<(), Error>
where
    C: Connect<ConnectError = Error>,
    C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let mut transport = connector.oneshot(Request::get(url).body(()).unwrap()).await?.into_body();
    transport.send(Message::text(TEXT)).await?;
    while let Some(message) = transport.next().await {
        if message?.is_data() {
            // Ends as it should, or is cut by its own limit.
            return transport.close().await;
        }
    }
    Err(Error::closed("ended"))
}

fn limits() -> Vec<(String, Limits)> {
    let mut all = Vec::new();
    let limits = Limits::new().close(Duration::from_secs(1));
    for size in SIZES {
        all.push((format!("message {size}"), limits.message(size)));
        all.push((format!("frame {size}"), limits.frame(size)));
        all.push((format!("write_buffer {size}"), limits.write_buffer(size)));
        all.push((format!("all {size}"), limits.message(size).frame(size).write_buffer(size)));
    }
    for time in TIMES {
        all.push((format!("handshake {time:?}"), limits.handshake(time)));
        all.push((format!("close {time:?}"), limits.close(time)));
    }
    all
}

#[tokio::test]
async fn limits_of_a_web_socket() {
    let mut table = Table::default();
    for (name, limits) in limits() {
        for (client, server) in [(limits, Limits::new()), (Limits::new(), limits), (limits, limits)] {
            let address = serve_http(WebSocketService::new(|socket, _| echo(socket)).limits(server)).await;
            let connector = WebSocketConnector::new().limits(client);
            let name = ("WebSocket", name.clone(), client == limits, server == limits);
            table.case(name, talk(connector, format!("ws://{address}/")));
        }
    }
    table.assert_clean().await;
}

#[tokio::test]
async fn limits_of_a_duplex_over_sse() {
    let mut table = Table::default();
    for (name, limits) in limits() {
        for (client, server) in [(limits, Limits::new()), (Limits::new(), limits), (limits, limits)] {
            let address = serve_http(SseDuplexServer::new(|session, _| echo(session)).limits(server)).await;
            let connector = SseDuplexConnector::new().limits(client);
            let name = ("SSE + POST", name.clone(), client == limits, server == limits);
            table.case(name, talk(connector, format!("http://{address}/")));
        }
    }
    for size in SIZES {
        let address = serve_http(SseDuplexServer::new(|session, _| echo(session)).sessions(size)).await;
        table.case(("SseDuplexServer::sessions", size), talk(SseDuplexConnector::new(), format!("http://{address}/")));
        let address = serve_http(SseDuplexServer::new(|session, _| echo(session))).await;
        let connector = SseDuplexConnector::new().max_post(size);
        table.case(("SseDuplexConnector::max_post", size), talk(connector, format!("http://{address}/")));
    }
    for time in TIMES {
        let address = serve_http(SseDuplexServer::new(|session, _| echo(session)).keep_alive(time)).await;
        let connector = SseDuplexConnector::new().max_silence(time);
        table.case(("SseDuplexServer::keep_alive, max_silence", time), talk(connector, format!("http://{address}/")));
        let address = serve_http(SseDuplexServer::new(|session, _| echo(session)).keep_alive(time)).await;
        table.case(("keep_alive", time), talk(SseDuplexConnector::new(), format!("http://{address}/")));
    }
    table.assert_clean().await;
}

#[tokio::test]
async fn settings_of_event_streams() {
    let mut table = Table::default();
    let stream = |time: Duration| {
        let service = service_fn(move |_: Request<hyper::body::Incoming>| async move {
            let events = futures_util::stream::iter([Ok::<_, Infallible>(Event::new(TEXT))]);
            let endless = EventStream::new(events.chain(futures_util::stream::pending()));
            Ok::<_, Infallible>(endless.keep_alive(time).retry(time).into_response())
        });
        serve_http(service)
    };
    async fn read(connector: SseConnector, url: String) -> Result<(), Error> {
        let mut events = connector.oneshot(Request::get(url).body(()).unwrap()).await?.into_body();
        events.next().await.unwrap_or_else(|| Err(Error::closed("ended"))).map(drop)
    }
    for time in TIMES {
        let url = format!("http://{}/", stream(time).await);
        table.case(("EventStream::keep_alive, retry", time), read(SseConnector::new(), url.clone()));
        table.case(("SseConnector::max_silence", time), read(SseConnector::new().max_silence(time), url));
    }
    let url = format!("http://{}/", stream(Duration::from_secs(1)).await);
    for size in SIZES {
        table.case(("SseConnector::max_line", size), read(SseConnector::new().max_line(size), url.clone()));
        table.case(("SseConnector::max_redirects", size), read(SseConnector::new().max_redirects(size), url.clone()));
    }
    for (name, limits) in limits() {
        table.case(("SseConnector::limits", name), read(SseConnector::new().limits(limits), url.clone()));
    }
    table.assert_clean().await;
}

async fn web_transport(client: (Limits, SessionLimits), server: (Limits, SessionLimits)) -> Result<(), Error> {
    let certificate = Certificate::development(&["127.0.0.1"])?;
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut endpoint = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate)?;
    endpoint = endpoint.limits(server.0).session_limits(server.1);
    let url = format!("https://{}/", endpoint.local_addr()?);
    tokio::spawn(async move { endpoint.serve(|stream, _| echo(stream)).await });
    talk(connector.limits(client.0).session_limits(client.1), url).await
}

#[tokio::test]
async fn limits_of_web_transport() {
    let mut table = Table::default();
    let short = Limits::new().handshake(Duration::from_secs(3)).close(Duration::from_secs(1));
    for (name, limits) in limits() {
        for (client, server) in [(limits, short), (short, limits)] {
            let sides = ((client, SessionLimits::new()), (server, SessionLimits::new()));
            let name = ("WebTransport", name.clone(), client == limits);
            table.case(name, web_transport(sides.0, sides.1));
        }
    }
    let mut each = Vec::new();
    for number in NUMBERS {
        let limits = SessionLimits::new();
        each.push((format!("streams {number}"), limits.streams(number)));
        each.push((format!("uni_streams {number}"), limits.uni_streams(number)));
        each.push((format!("stream_window {number}"), limits.stream_window(number)));
        each.push((format!("window {number}"), limits.window(number)));
        each.push((format!("send_window {number}"), limits.send_window(number)));
        each.push((format!("datagrams {number}"), limits.datagrams(number)));
    }
    for time in TIMES {
        each.push((format!("idle {time:?}"), SessionLimits::new().idle(time)));
        each.push((format!("keep_alive {time:?}"), SessionLimits::new().keep_alive(time)));
    }
    for (name, session) in each {
        for (client, server) in [(session, SessionLimits::new()), (SessionLimits::new(), session)] {
            let name = ("SessionLimits", name.clone(), client == session);
            table.case(name, web_transport((short, client), (short, server)));
        }
    }
    table.assert_clean().await;
}

#[tokio::test]
async fn numbers_of_sessions_and_connections() {
    let mut table = Table::default();
    for size in SIZES {
        for (name, sessions, handshakes) in [("sessions", size, 8), ("handshakes", 8, size)] {
            let acceptor: OptimizedAcceptor<AdaptiveTransport> = OptimizedTransport::builder().acceptor();
            let server =
                SessionServer::new(acceptor, |session, _| echo(session)).sessions(sessions).handshakes(handshakes);
            let address = serve_http(server.http()).await;
            table.case(("SessionServer", name, size), async move {
                let _server = server;
                let limits = Limits::new().handshake(Duration::from_secs(3));
                let url = format!("ws://{address}/ws");
                let mut transport = OptimizedTransport::builder().limits(limits).connect(&url).await?;
                transport.send(Message::text(TEXT)).await?;
                transport.next().await.unwrap_or_else(|| Err(Error::closed("ended"))).map(drop)
            });
        }
        let limit = ConnectionLimitLayer::new(size).per_key(size, |_| Some(()));
        let address = serve_http(limit.layer(WebSocketService::new(|socket, _| echo(socket)))).await;
        table.case(("ConnectionLimitLayer", size), talk(WebSocketConnector::new(), format!("ws://{address}/")));
        for (client, server) in [(size, 4 << 20), (4 << 20, size), (size, size)] {
            let builder = |message| OptimizedTransport::builder().limits(Limits::new().message(message));
            let acceptor: OptimizedAcceptor = builder(server).acceptor();
            let address = serve_http(acceptor.upgrade(|session, _| echo(session))).await;
            table.case(("OptimizedTransport", client, server), async move {
                let mut transport = builder(client).connect(&format!("ws://{address}/")).await?;
                transport.send(Message::text(TEXT)).await?;
                transport.next().await.unwrap_or_else(|| Err(Error::closed("ended"))).map(drop)
            });
        }
    }
    table.assert_clean().await;
}
