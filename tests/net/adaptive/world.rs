//! A server of all three transports, a network in front of it, and clients behind that.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower_transport::{
    Message, Receiver, Sender,
    layer::{heartbeat::HeartbeatLayer, reconnect::Backoff, resume::Verdict},
    stack::{
        OptimizedBuilder, OptimizedHandle, OptimizedTransport, TransportKind,
        adaptive::{AdaptiveConnector, AdaptiveTransport, Endpoints, SessionServer},
    },
    transport::webtransport::{Certificate, CertificateHash, SessionLimits, WebTransportConnector, WebTransportServer},
};

use super::{checker::Checker, network::Network, within};

/// How soon a dead path is noticed, twice over.
pub(crate) const SOON: Duration = Duration::from_millis(300);

pub(crate) fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .heartbeat(HeartbeatLayer::new(SOON, SOON))
}

/// A server of all three transports.
pub(crate) struct Site {
    pub(crate) tcp: SocketAddr,
    checker: Checker,
    sessions: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

pub(crate) async fn site(quic: WebTransportServer) -> Site {
    site_with(quic, |server| server).await
}

async fn site_with(quic: WebTransportServer, change: impl FnOnce(SessionServer) -> SessionServer) -> Site {
    let (checker, sessions) = (Checker::default(), Arc::<AtomicUsize>::default());
    let (taken, counted) = (checker.clone(), sessions.clone());
    let server = change(SessionServer::new(builder().acceptor(), move |session, _| {
        counted.fetch_add(1, Relaxed);
        echo(session, taken)
    }));
    let mut tasks = JoinSet::new();
    tasks.spawn(server.web_transport(quic));
    let tcp = http(&server, &mut tasks).await;
    Site { tcp, checker, sessions, _tasks: tasks }
}

/// Such a server, and a network in front of it.
pub(crate) struct World {
    pub(crate) network: Network,
    site: Site,
    certificate: CertificateHash,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|server| server).await
    }

    /// With a server that is changed first.
    pub(crate) async fn with(change: impl FnOnce(SessionServer) -> SessionServer) -> Self {
        let certificate = Certificate::development(&[]).unwrap();
        let hash = certificate.hash();
        let quic = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
        let udp = quic.local_addr().unwrap();
        let site = site_with(quic, change).await;
        Self { network: Network::new(udp, site.tcp).await, site, certificate: hash }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        let address = self.network.address;
        let endpoints = Endpoints::new(&format!("http://{address}")).unwrap();
        endpoints.web_transport(&format!("https://{address}/wt")).unwrap()
    }

    pub(crate) fn web_transport(&self) -> WebTransportConnector {
        WebTransportConnector::new().certificate_hashes([self.certificate])
    }

    pub(crate) fn connector(&self) -> AdaptiveConnector {
        AdaptiveConnector::new(self.endpoints()).web_transport(self.web_transport())
    }

    pub(crate) fn connector_with(&self, limits: SessionLimits) -> AdaptiveConnector {
        self.connector().web_transport(self.web_transport().session_limits(limits))
    }

    pub(crate) async fn client(&self, builder: OptimizedBuilder, connector: AdaptiveConnector) -> Client {
        let transport = within(builder.connect_with(connector, &self.endpoints())).await.unwrap();
        let handle = transport.handle();
        let (sender, receiver) = transport.split();
        Client { handle, sender, receiver, sent: 0, checker: Checker::default() }
    }
}

async fn echo(session: OptimizedTransport<AdaptiveTransport>, checker: Checker) {
    let (sender, mut receiver) = session.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() {
            checker.take(&message);
            if sender.send(message).await.is_err() {
                return;
            }
        }
    }
}

async fn http(server: &SessionServer, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = server.http();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

/// A client that numbers what it sends, and checks what comes back.
pub(crate) struct Client {
    pub(crate) handle: OptimizedHandle,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    sent: u64,
    checker: Checker,
}

impl Client {
    /// The transport that it is connected by.
    pub(crate) fn kind(&self) -> TransportKind {
        let response = self.handle.reconnect().unwrap().response().unwrap();
        *response.extensions.get().unwrap()
    }

    /// Sends this number of messages, and does not wait for any of them.
    pub(crate) async fn send(&mut self, messages: u64) {
        for _ in 0..messages {
            within(self.sender.send(Checker::message(self.sent))).await.unwrap();
            self.sent += 1;
        }
    }

    /// Gets back what is on its way.
    pub(crate) async fn settle(&mut self) {
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

    /// Sends this number of messages, a few at a time, and receives them.
    pub(crate) async fn exchange(&mut self, messages: u64) {
        for _ in 0..messages / 20 {
            self.send(20).await;
            self.settle().await;
        }
    }

    pub(crate) fn assert_whole(&self, world: &World) {
        self.checker.assert_whole(self.sent);
        world.site.checker.assert_whole(self.sent);
        assert_eq!(world.site.sessions.load(Relaxed), 1, "one handler had it all");
        assert!(matches!(self.handle.resume().unwrap().verdict(), Some(Verdict::New | Verdict::Resumed { .. })));
    }
}
