use std::net::{Ipv4Addr, SocketAddr};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower_transport::{
    BoxError,
    stack::{
        OptimizedBuilder, OptimizedTransport,
        adaptive::{AdaptiveTransport, SessionServer},
    },
    transport::{
        accept,
        webtransport::{Certificate, CertificateHash, WebTransportServer},
    },
};

use crate::checker::Checker;

/// One handler at `/ws`, at `/sse` and at the WebTransport endpoint.
pub(crate) struct Server {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) certificate: CertificateHash,
    pub(crate) checker: Checker,
    sessions: SessionServer,
    connections: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(stack: OptimizedBuilder) -> Result<Self, BoxError> {
        let checker = Checker::default();
        let taken = checker.clone();
        let sessions = SessionServer::new(stack.acceptor(), move |session, _| echo(session, taken));
        let certificate = Certificate::development(&[])?;
        let hash = certificate.hash();
        let quic = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate)?;
        let udp = quic.local_addr()?;
        tokio::spawn(sessions.web_transport(quic));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tcp = listener.local_addr()?;
        let mut server = Self { udp, tcp, certificate: hash, checker, sessions, connections: JoinSet::new() };
        server.listen(listener);
        Ok(server)
    }

    fn listen(&mut self, listener: TcpListener) {
        let service = self.sessions.http();
        self.connections.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = accept(|| listener.accept()).await;
                let service = TowerToHyperService::new(service.clone());
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(tcp), service)
                    .with_upgrades();
                connections.spawn(async move {
                    // The client reports the reason more precisely.
                    let _ = connection.await;
                });
            }
        });
    }

    /// Cuts all HTTP connections and stops listening. Sessions are in memory, and wait for their clients.
    pub(crate) async fn kill(&mut self) {
        self.connections.shutdown().await;
    }

    /// Listens again on the same address.
    pub(crate) async fn revive(&mut self) -> Result<(), BoxError> {
        let listener = TcpListener::bind(self.tcp).await?;
        self.listen(listener);
        Ok(())
    }
}

/// Sends back every message.
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
