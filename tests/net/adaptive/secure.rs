//! TLS on both ports, as a real server has it: one host, one port number, one certificate, one base URL.

use std::{net::Ipv4Addr, sync::Arc};

use futures_util::{FutureExt, StreamExt};
use http::Request;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring::default_provider, pki_types::PrivateKeyDer},
};
use tower::ServiceExt;
use tower_transport::{
    stack::{
        TransportKind,
        adaptive::{AdaptiveConnector, Decision, Endpoints, Reason},
    },
    transport::webtransport::{Certificate, WebTransportServer},
};

use super::{
    within,
    world::{Site, site},
};

/// A server with a certificate of its own authority, and clients that trust it, or do not.
struct Secure {
    endpoints: Endpoints,
    trusting: Arc<ClientConfig>,
    strange: Arc<ClientConfig>,
    _site: Site,
    _tasks: JoinSet<()>,
}

async fn secure() -> Secure {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate =
        Certificate::from_pem(own.cert.pem().as_bytes(), own.signing_key.serialize_pem().as_bytes()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let quic = WebTransportServer::bind(address, certificate).unwrap();
    let site = site(quic).await;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let (tls, tcp) = (TlsAcceptor::from(Arc::new(tls)), site.tcp);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let tls = tls.clone();
            connections.spawn(async move {
                let Ok(mut near) = tls.accept(near).await else { return };
                let mut far = TcpStream::connect(tcp).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Secure {
        endpoints: Endpoints::new(&format!("https://{address}")).unwrap(),
        trusting: client(&own),
        strange: client(&other),
        _site: site,
        _tasks: tasks,
    }
}

fn client(root: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn one_base_url_and_one_tls_configuration_are_enough_for_all_three() {
    let world = secure().await;
    let mut endpoints = world.endpoints.clone();
    for kind in TransportKind::all() {
        let connector = AdaptiveConnector::new(endpoints.clone()).tls(world.trusting.clone());
        let response = within(connector.oneshot(Request::new(()))).await.unwrap();
        assert_eq!(response.body().kind(), kind);
        endpoints = endpoints.without(kind);
    }
}

#[tokio::test]
async fn each_verifies_for_itself_and_a_strange_certificate_is_an_error_of_tls() {
    let world = secure().await;
    let connector = AdaptiveConnector::new(world.endpoints.clone()).tls(world.strange.clone());
    let mut decisions = connector.decisions();
    let error = within(connector.oneshot(Request::new(()))).await.unwrap_err();
    assert!(error.is_tls(), "{error}");
    let mut failed = Vec::new();
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        if let Decision::FellBack { kind, reason, .. } = decided.decision {
            failed.push((kind, reason));
        }
    }
    assert_eq!(failed, TransportKind::all().map(|kind| (kind, Reason::Tls)).collect::<Vec<_>>());
}
