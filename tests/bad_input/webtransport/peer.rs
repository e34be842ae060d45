//! The attacker, with a thread and a runtime of its own, so that what it holds is not counted.

use std::{net::SocketAddr, ops::Deref, sync::Arc, thread, time::Duration};

use tokio_rustls::rustls::{self, RootCertStore, client::Resumption, pki_types::CertificateDer};
use tower_transport::{
    Limits,
    transport::webtransport::{
        Certificate, CertificateHash, Session, SessionLimits, WebTransportConnector, WebTransportServer,
    },
};
use web_transport_quinn::quinn::{self, crypto::rustls::QuicClientConfig};

/// The attacker's knowledge of its victim.
#[derive(Clone, Debug)]
pub(crate) struct Victim {
    pub(crate) address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Victim {
    fn hash(&self) -> CertificateHash {
        CertificateHash::of_der(&self.certificate)
    }

    fn uri(&self) -> String {
        format!("https://{}/", self.address)
    }

    /// A session below our types, which opens and writes what it likes.
    pub(crate) async fn session(&self) -> Attacker {
        let quic = self.quic(Resumption::disabled());
        let connection = quic.connect(self.address, "localhost").unwrap().await.unwrap();
        let session = web_transport_quinn::Session::connect(connection, self.uri().parse::<url::Url>().unwrap()).await;
        Attacker { quic, session: session.unwrap() }
    }

    /// QUIC without HTTP/3 in it, which would send early data if it could.
    pub(crate) fn quic(&self, resumption: Resumption) -> quinn::Endpoint {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h3".to_vec()];
        config.resumption = resumption;
        config.enable_early_data = true;
        let config = QuicClientConfig::try_from(config).unwrap();
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        endpoint
    }

    /// One who means well.
    pub(crate) async fn honest(&self) -> Session {
        let request = http::Request::get(self.uri()).body(()).unwrap();
        let connector = WebTransportConnector::new().certificate_hashes([self.hash()]);
        connector.connect_session(request).await.unwrap().into_body()
    }
}

/// A session, and the socket that it is on.
pub(crate) struct Attacker {
    quic: quinn::Endpoint,
    session: web_transport_quinn::Session,
}

impl Attacker {
    /// Goes, and says so: a runtime that just ends would leave the victim to wait for an idle peer.
    pub(crate) async fn leave(self) {
        quinn::Connection::close(&self.session, 0_u32.into(), b"");
        drop(self.session);
        self.quic.wait_idle().await;
    }
}

impl Deref for Attacker {
    type Target = web_transport_quinn::Session;

    fn deref(&self) -> &Self::Target {
        &self.session
    }
}

/// Runs `ours` on this thread with a server of its own, and `attacker` on another. The attacker's connections are
/// closed then.
pub(crate) fn attack<T: Send + 'static>(
    limits: Limits,
    session_limits: SessionLimits,
    attacker: impl AsyncFnOnce(Victim) -> T + Send + 'static,
    ours: impl AsyncFnOnce(WebTransportServer),
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // So many names that it does not fit what may be sent to an address which has not shown itself.
        let names = (0..200).map(|number| format!("a-host-with-a-long-name-{number}.example.com"));
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()].into_iter().chain(names);
        let certified = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>()).unwrap();
        let key = certified.signing_key.serialize_pem();
        let certificate = Certificate::from_pem(certified.cert.pem().as_bytes(), key.as_bytes()).unwrap();
        let server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let server = server.limits(limits).session_limits(session_limits);
        let victim = Victim { address: server.local_addr().unwrap(), certificate: certified.cert.der().clone() };
        let attacker = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attacker(victim))
        });
        // Many times what it takes: a debug build on a busy machine is slow.
        tokio::time::timeout(Duration::from_secs(120), ours(server)).await.expect("it hangs");
        attacker.join().unwrap()
    })
}
