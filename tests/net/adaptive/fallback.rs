//! Which transport falls back on which, over real sockets.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::{FutureExt, StreamExt};
use http::{Request, StatusCode};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    Error, Limits,
    handshake::auth::AuthGuardLayer,
    layer::{
        auth::StaticTokens,
        reconnect::{Class, classify},
    },
    stack::{
        TransportKind,
        adaptive::{AdaptiveConnector, Decision, Decisions, Endpoints, Reason, Standing},
    },
    transport::webtransport::{CertificateHash, WebTransportConnector},
};

use super::{
    within,
    world::{World, builder},
};

async fn connect(connector: AdaptiveConnector) -> Result<TransportKind, Error> {
    let response = within(connector.oneshot(Request::new(()))).await?;
    assert_eq!(response.extensions().get(), Some(&response.body().kind()));
    Ok(response.body().kind())
}

/// Which fell back or stopped, and why.
fn failures(mut decisions: Decisions) -> Vec<(TransportKind, Reason)> {
    let mut failures = Vec::new();
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        if let Decision::FellBack { kind, reason, .. } | Decision::Stopped { kind, reason, .. } = decided.decision {
            failures.push((kind, reason));
        }
    }
    failures
}

#[tokio::test]
async fn connect_takes_the_base_url_and_tells_what_is_wrong_with_it() {
    let world = World::new().await;
    let base = format!("http://{}", world.network.address);
    let transport = within(world.connector().connect(&base)).await.unwrap();
    assert_eq!(transport.kind(), TransportKind::WebTransport);
    for url in ["no url", "ftp://example.com/", "http://example.com/"] {
        assert!(world.connector().connect(url).await.unwrap_err().is_config(), "{url}");
    }
    // Without endpoints of its own, the connector goes to those below the URL.
    let transport = within(AdaptiveConnector::default().connect(&base)).await.unwrap();
    assert_eq!(transport.kind(), TransportKind::WebSocket, "WebTransport needs https");
}

#[tokio::test]
async fn where_nothing_is_in_the_way_it_is_webtransport() {
    let world = World::new().await;
    assert_eq!(connect(world.connector()).await.unwrap(), TransportKind::WebTransport);
}

#[tokio::test]
async fn where_udp_is_swallowed_it_is_websocket_and_remembered() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    let connector = world.connector();
    assert_eq!(connect(connector.clone()).await.unwrap(), TransportKind::WebSocket);
    world.network.swallow_udp(false);
    let mut decisions = connector.decisions();
    assert_eq!(connect(connector.clone()).await.unwrap(), TransportKind::WebSocket);
    let first = decisions.next().await.unwrap().decision;
    assert!(matches!(first, Decision::Remembered { kind: TransportKind::WebSocket, .. }), "{first:?}");
    connector.forget();
    assert_eq!(connect(connector).await.unwrap(), TransportKind::WebTransport);
}

#[tokio::test]
async fn where_upgrades_are_refused_too_it_is_sse() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    world.network.refuse_upgrades();
    let connector = world.connector();
    let decisions = connector.decisions();
    assert_eq!(connect(connector.clone()).await.unwrap(), TransportKind::Sse);
    assert_eq!(failures(decisions), [(TransportKind::WebSocket, Reason::UpgradeRefused)]);
    let capabilities = connector.capabilities(&"/".parse().unwrap()).unwrap();
    assert_eq!(capabilities.standing(TransportKind::WebTransport), Standing::Untried, "given up, not failed");
    assert!(matches!(
        capabilities.standing(TransportKind::WebSocket),
        Standing::Failed { reason: Reason::UpgradeRefused, .. }
    ));
    assert!(matches!(capabilities.standing(TransportKind::Sse), Standing::Worked { .. }));
    assert!(!capabilities.is_optimized(), "no subprotocol was offered");
}

#[tokio::test]
async fn a_server_that_is_down_is_told_as_that_and_worth_another_attempt() {
    let mut world = World::new().await;
    world.network.swallow_udp(true);
    world.network.down().await;
    let connector = world.connector();
    let decisions = connector.decisions();
    let error = connect(connector).await.unwrap_err();
    assert!(error.is_refused() && classify(&error) == Class::Retry, "{error}");
    assert_eq!(failures(decisions), [(TransportKind::WebSocket, Reason::ServerDown)]);
}

#[tokio::test]
async fn who_is_refused_is_refused_by_the_first_that_answers_and_a_token_goes_to_whichever_is_tried() {
    let tokens = StaticTokens::new().token("secret", "ada");
    let world = World::with(|server| server.guard(AuthGuardLayer::new(tokens))).await;
    let connector = world.connector();
    let decisions = connector.decisions();
    let error = connect(connector.clone()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED), "{error}");
    assert_eq!(failures(decisions), [(TransportKind::WebTransport, Reason::Auth)]);
    for blocked in [false, true] {
        world.network.swallow_udp(blocked);
        let connector = ServiceBuilder::new().layer(AddAuthorizationLayer::bearer("secret")).service(world.connector());
        let response = within(connector.oneshot(Request::new(()))).await.unwrap();
        assert_eq!(response.body().kind() == TransportKind::WebTransport, !blocked);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_never_leads_to_plaintext() {
    let world = World::new().await;
    let stranger = CertificateHash::of_der(b"another one");
    let connector = world.connector().web_transport(WebTransportConnector::new().certificate_hashes([stranger]));
    let error = connect(connector).await.unwrap_err();
    assert!(error.is_tls(), "{error}");
}

#[tokio::test]
async fn what_a_stack_says_of_itself_is_known_of_the_server() {
    let world = World::new().await;
    let connector = world.connector();
    let mut client = world.client(builder(), connector.clone()).await;
    client.exchange(20).await;
    let capabilities = connector.capabilities(&"/".parse().unwrap()).unwrap();
    assert!(capabilities.is_optimized(), "{capabilities}");
    client.assert_whole(&world);
}

#[tokio::test]
async fn where_everything_is_swallowed_the_error_comes_in_time_and_names_each() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    world.network.swallow_tcp();
    let limits = Limits::new().handshake(Duration::from_millis(300));
    let error = connect(world.connector().limits(limits)).await.unwrap_err();
    assert!(error.is_timeout() && classify(&error) == Class::Retry, "{error}");
    for name in ["WebTransport: ", "WebSocket: ", "SSE + POST: "] {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_asked_for_once() {
    let connector = AdaptiveConnector::new(Endpoints::new("https://no-such-host.invalid").unwrap());
    let decisions = connector.decisions();
    let error = connect(connector).await.unwrap_err();
    assert!(error.is_dns(), "{error}");
    assert_eq!(failures(decisions), [(TransportKind::WebTransport, Reason::Dns)]);
}

#[tokio::test]
async fn nobody_at_either_port_is_a_server_that_is_down() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let connector = AdaptiveConnector::new(Endpoints::new(&format!("https://{address}")).unwrap());
    let connector =
        connector.web_transport(WebTransportConnector::new().certificate_hashes([CertificateHash::of_der(b"whoever")]));
    let error = connect(connector).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
}
