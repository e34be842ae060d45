//! The choice among the three transports, by what a page can see of their failures.

use futures_util::{FutureExt, StreamExt};
use tower::ServiceExt;
use tower_transport::{
    Error, Message,
    stack::{
        OptimizedTransport,
        adaptive::{AdaptiveConnector, Decision, Decisions, Endpoints, Reason, TransportKind},
    },
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{http_url, ms, parameter, request, web_transport};

/// Returns a connector to a listener over TCP and one over UDP.
fn connector(tcp: &str, udp: &str) -> AdaptiveConnector {
    let udp = format!("https://{}/wt", parameter(udp));
    let endpoints = Endpoints::new(&http_url(tcp, "/")).unwrap().web_transport(&udp).unwrap();
    // No transport is started before another has failed, however slow the machine is.
    AdaptiveConnector::new(endpoints).web_transport(web_transport::connector()).head_start(ms(60_000))
}

/// Connects, and returns the kind of the transport.
async fn kind(connector: &AdaptiveConnector) -> Result<TransportKind, Error> {
    let response = connector.clone().oneshot(request("/")).await?;
    assert_eq!(response.extensions().get(), Some(&response.body().kind()));
    Ok(response.body().kind())
}

/// Returns the failures, and the reasons that they were put down to.
fn failures(decisions: &mut Decisions) -> Vec<(TransportKind, Reason)> {
    let mut failures = Vec::new();
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        if let Decision::FellBack { kind, reason, .. } | Decision::Stopped { kind, reason, .. } = decided.decision {
            failures.push((kind, reason));
        }
    }
    failures
}

#[wasm_bindgen_test]
async fn web_transport_is_the_first_choice() {
    let connector = connector("adaptive", "adaptive-udp");
    let mut decisions = connector.decisions();
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::WebTransport);
    assert!(failures(&mut decisions).is_empty());
}

#[wasm_bindgen_test]
async fn where_udp_is_refused_the_web_socket_is_next() {
    let connector = connector("adaptive", "adaptive-no-udp");
    let mut decisions = connector.decisions();
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::WebSocket);
    assert_eq!(failures(&mut decisions), [(TransportKind::WebTransport, Reason::UdpBlocked)]);
}

#[wasm_bindgen_test]
async fn where_udp_is_silent_the_head_start_ends_the_wait() {
    let connector = connector("adaptive", "wt-silent").head_start(ms(50));
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::WebSocket);
}

#[wasm_bindgen_test]
async fn where_upgrades_are_refused_sse_is_next_although_a_page_does_not_see_the_status() {
    let endpoints = Endpoints::new(&http_url("adaptive-refusing", "/")).unwrap();
    let connector = AdaptiveConnector::new(endpoints).head_start(ms(60_000));
    let mut decisions = connector.decisions();
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::Sse);
    assert_eq!(failures(&mut decisions), [(TransportKind::WebSocket, Reason::Cut)]);
}

#[wasm_bindgen_test]
async fn where_both_are_refused_sse_works_and_is_remembered() {
    let connector = connector("adaptive-refusing", "adaptive-no-udp");
    let mut decisions = connector.decisions();
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::Sse);
    let both = [(TransportKind::WebTransport, Reason::UdpBlocked), (TransportKind::WebSocket, Reason::Cut)];
    assert_eq!(failures(&mut decisions), both);
    // The next attempt begins with what worked, and asks nothing else.
    assert_eq!(kind(&connector.clone()).await.unwrap(), TransportKind::Sse);
    let first = decisions.next().await.unwrap().decision;
    assert!(matches!(first, Decision::Remembered { kind: TransportKind::Sse, .. }), "{first:?}");
    assert!(failures(&mut decisions).is_empty());
    connector.forget();
    assert_eq!(kind(&connector).await.unwrap(), TransportKind::Sse);
    assert_eq!(failures(&mut decisions), both);
}

#[wasm_bindgen_test]
async fn a_refused_token_is_seen_by_sse_and_ends_the_attempt() {
    let endpoints = Endpoints::new(&http_url("adaptive-guarded", "/")).unwrap();
    let connector = AdaptiveConnector::new(endpoints).head_start(ms(60_000));
    let mut decisions = connector.decisions();
    let error = kind(&connector).await.unwrap_err();
    assert!(error.is_auth() && error.status().is_some_and(|status| status == 401), "{error:?}");
    assert_eq!(failures(&mut decisions), [(TransportKind::WebSocket, Reason::Cut), (TransportKind::Sse, Reason::Auth)]);
    // A page has the token in the query, which each transport sends.
    let admitted = connector.oneshot(request("/?token=6f1c")).await.unwrap();
    assert_eq!(admitted.body().kind(), TransportKind::WebSocket);
}

#[wasm_bindgen_test]
async fn a_server_that_is_down_is_an_io_error_that_names_each_transport() {
    let endpoints = Endpoints::new("http://127.0.0.1:1").unwrap().web_transport("https://127.0.0.1:1/").unwrap();
    let error = kind(&AdaptiveConnector::new(endpoints)).await.unwrap_err();
    assert!(error.is_io(), "{error:?}");
    for kind in TransportKind::all() {
        assert!(error.to_string().contains(&kind.to_string()), "{error}");
    }
}

#[wasm_bindgen_test]
async fn the_recommended_stack_runs_over_whatever_works() {
    for (tcp, udp, expected) in [
        ("adaptive", "adaptive-udp", "webtransport"),
        ("adaptive", "adaptive-no-udp", "websocket"),
        ("adaptive-refusing", "adaptive-no-udp", "sse"),
    ] {
        let udp = format!("https://{}/wt", parameter(udp));
        let endpoints = Endpoints::new(&http_url(tcp, "/")).unwrap().web_transport(&udp).unwrap();
        let connector =
            AdaptiveConnector::new(endpoints.clone()).web_transport(web_transport::connector()).head_start(ms(60_000));
        let transport = OptimizedTransport::builder().connect_with(connector, &endpoints).await.unwrap();
        let capabilities = transport.capabilities();
        assert!(capabilities.batch() && capabilities.compression() && capabilities.resume(), "{capabilities}");
        let (sender, mut receiver) = transport.split();
        assert_eq!(receiver.receive().await.unwrap().unwrap().as_text(), Some(expected));
        for number in 0..1000 {
            sender.send(Message::text(format!("number {number}"))).await.unwrap();
        }
        for number in 0..1000 {
            let message = receiver.receive().await.unwrap().unwrap();
            assert_eq!(message.as_text(), Some(format!("number {number}").as_str()));
        }
    }
}
