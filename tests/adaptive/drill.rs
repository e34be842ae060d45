//! The fallback drill: one session over a network that gets worse and worse, and a checker on each end.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tower_transport::{
    Limits, Message, Receiver, Sender,
    layer::{heartbeat::HeartbeatLayer, reconnect::Backoff, resume::Verdict},
    stack::{
        OptimizedBuilder, OptimizedHandle, OptimizedTransport, TransportKind,
        adaptive::{AdaptiveConnector, Decision, Endpoints},
    },
    transport::webtransport::{SessionLimits, WebTransportConnector},
};

use super::{
    checker::Checker,
    network::Network,
    server::{Handler, Http, Quic, http, quic},
    within,
};

pub(crate) const SOON: Duration = Duration::from_millis(300);

pub(crate) fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .heartbeat(HeartbeatLayer::new(SOON, SOON))
}

/// A server, and a network in front of it.
pub(crate) struct World {
    pub(crate) handler: Handler,
    pub(crate) network: Network,
    pub(crate) quic: Quic,
    pub(crate) http: Http,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Handler::new(builder())).await
    }

    pub(crate) async fn with(handler: Handler) -> Self {
        let (quic, http) = (quic(&handler), http(&handler).await);
        let network = Network::new(quic.address, http.address).await;
        Self { handler, network, quic, http }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        let address = self.network.address;
        let endpoints = Endpoints::new(&format!("http://{address}")).unwrap();
        endpoints.web_transport(&format!("https://{address}/wt")).unwrap()
    }

    pub(crate) fn connector(&self) -> AdaptiveConnector {
        self.connector_with(SessionLimits::default())
    }

    pub(crate) fn connector_with(&self, limits: SessionLimits) -> AdaptiveConnector {
        let web_transport = WebTransportConnector::new().session_limits(limits).certificate_hashes([self.quic.hash]);
        AdaptiveConnector::new(self.endpoints()).web_transport(web_transport)
    }

    pub(crate) async fn client(&self, builder: OptimizedBuilder, connector: AdaptiveConnector) -> Client {
        let transport = within(builder.connect_with(connector, &self.endpoints())).await.unwrap();
        let handle = transport.handle();
        let (sender, receiver) = transport.split();
        Client { handle, sender, receiver, sent: 0, checker: Checker::default() }
    }
}

/// A client that numbers what it sends and gets back.
pub(crate) struct Client {
    pub(crate) handle: OptimizedHandle,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    sent: u64,
    checker: Checker,
}

impl Client {
    pub(crate) fn kind(&self) -> TransportKind {
        let response = self.handle.reconnect().unwrap().response().unwrap();
        *response.extensions.get().unwrap()
    }

    /// Gets so many more messages back, with at most 64 on their way.
    pub(crate) async fn exchange(&mut self, messages: u64) {
        within(async {
            let due = self.sent + messages;
            while self.checker.counts().received < due {
                while self.sent < due && self.sent - self.checker.counts().received < 64 {
                    self.sender.send(Checker::message(self.sent)).await.unwrap();
                    self.sent += 1;
                }
                let message = self.receiver.receive().await.unwrap().unwrap();
                if message.is_data() {
                    self.checker.take(&message);
                }
            }
        })
        .await;
    }

    /// Puts so many messages on their way and waits for none of them.
    async fn send(&mut self, messages: u64) {
        for _ in 0..messages {
            within(self.sender.send(Checker::message(self.sent))).await.unwrap();
            self.sent += 1;
        }
    }

    /// Gets back what is on its way.
    async fn settle(&mut self) {
        within(async {
            while self.checker.counts().received < self.sent {
                let message = self.receiver.receive().await.unwrap().unwrap();
                if message.is_data() {
                    self.checker.take(&message);
                }
            }
        })
        .await;
    }

    pub(crate) fn assert_whole(&self, world: &World) {
        self.checker.assert_whole(self.sent);
        world.handler.checker.assert_whole(self.sent);
        assert_eq!(world.handler.sessions.load(Relaxed), 1, "one handler had it all");
        assert!(matches!(self.handle.resume().unwrap().verdict(), Some(Verdict::New | Verdict::Resumed { .. })));
    }
}

#[tokio::test]
async fn a_session_survives_its_transports_without_a_gap_or_a_duplicate() {
    let mut world = World::new().await;
    let connector = world.connector();
    let mut decisions = connector.decisions();
    let mut client = world.client(builder(), connector).await;
    assert_eq!(client.kind(), TransportKind::WebTransport);
    client.exchange(300).await;

    client.send(50).await;
    world.network.swallow_udp(true);
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);

    client.send(50).await;
    world.network.refuse_upgrades();
    world.network.cut();
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::Sse);
    assert!(world.network.upgrades_refused() > 0);

    client.send(50).await;
    world.network.down().await;
    client.send(50).await;
    world.network.up().await;
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::Sse);

    client.assert_whole(&world);
    let mut connected = Vec::new();
    let mut lost = Vec::new();
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        match decided.decision {
            Decision::Connected { kind, .. } => connected.push(kind),
            Decision::LostMidSession { kind, .. } => lost.push(kind),
            _ => {}
        }
    }
    assert_eq!(lost, [TransportKind::WebTransport], "a cut is no dead path");
    connected.dedup();
    assert_eq!(connected, TransportKind::ALL);
}

#[tokio::test]
async fn without_a_heartbeat_quic_itself_notices_that_its_path_is_dead() {
    let world = World::new().await;
    let connector = world.connector_with(SessionLimits::new().idle(SOON).keep_alive(SOON / 3));
    let mut decisions = connector.decisions();
    let mut client = world.client(builder().heartbeat(None), connector).await;
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebTransport);
    world.network.swallow_udp(true);
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);
    client.assert_whole(&world);
    let lost = async {
        while let Some(decided) = decisions.next().await {
            if let Decision::LostMidSession { kind, .. } = decided.decision {
                return Some(kind);
            }
        }
        None
    };
    assert_eq!(within(lost).await, Some(TransportKind::WebTransport));
}

#[tokio::test]
async fn a_dead_path_that_nobody_reports_is_found_by_the_heartbeat_over_tcp_as_well() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    let connector = world.connector().limits(Limits::new().handshake(Duration::from_secs(2)));
    let mut client = world.client(builder(), connector.clone()).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);
    client.exchange(20).await;
    world.network.swallow_udp(false);
    world.network.swallow_tcp();
    world.network.cut();
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebTransport, "when TCP is swallowed, UDP may do");
    client.assert_whole(&world);
    let _ = &world.http;
}
