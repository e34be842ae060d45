//! One guard for the requests of all three transports.

use std::{net::SocketAddr, time::Duration};

use futures_util::SinkExt;
use http::{Request, StatusCode, request};
use tower::{Layer, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_transport::{
    Message, TransportExt,
    handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
    layer::{auth::StaticTokens, resume::Verdict},
    stack::{
        TransportKind,
        adaptive::{SessionServer, server::Admission},
    },
    transport::webtransport::WebTransportConnector,
};

use super::{
    Sse, WebSocket, WebTransport,
    house::{Host, House, Session, acceptor, greeter, hear},
    within,
};
use support::echo;

fn tokens() -> StaticTokens<&'static str> {
    StaticTokens::new().token("a-secret", "ada").token("b-secret", "bob")
}

async fn who(mut session: Session, parts: request::Parts) {
    let name = parts.extensions.get::<&str>().copied().unwrap_or("nobody");
    let _ = session.send_message(Message::text(name)).await;
    echo(session).await;
}

#[tokio::test]
async fn who_shows_no_good_token_is_refused_over_each_and_who_does_is_known_over_each() {
    for host in [Host::Hyper, Host::Axum] {
        let server = SessionServer::new(acceptor(), who).guard(AuthGuardLayer::new(tokens()));
        let house = House::open(&server, host).await;
        for kind in TransportKind::all() {
            for road in [house.road(kind), house.road(kind).token("guessed")] {
                let error = road.connect().await.unwrap_err();
                assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED), "{kind}: {error}");
                assert!(error.is_auth(), "{kind}: {error:?}");
            }
            let mut session = house.road(kind).token("a-secret").connect().await.unwrap();
            assert_eq!(hear(&mut session).await, "ada", "{kind}");
        }
    }
}

#[tokio::test]
async fn another_path_than_webtransports_is_refused_before_the_guard_is_asked() {
    let guard = AuthGuardLayer::new(tokens());
    for (server, path) in [
        (SessionServer::new(acceptor(), greeter()), "/wt"),
        (SessionServer::new(acceptor(), greeter()).web_transport_at("/chat/wt"), "/chat/wt"),
    ] {
        let house = House::open(&server.guard(guard.clone()), Host::Hyper).await;
        let connector = WebTransportConnector::new().certificate_hashes([house.certificate]);
        for (at, status) in
            [(path, StatusCode::UNAUTHORIZED), ("/public", StatusCode::NOT_FOUND), ("/", StatusCode::NOT_FOUND)]
        {
            let request = Request::get(format!("https://{}{at}", house.udp)).body(()).unwrap();
            let error = within(connector.connect_session(request)).await.unwrap_err();
            assert_eq!(error.status(), Some(status), "{at}: {error:?}");
        }
    }
}

#[tokio::test]
async fn so_many_connections_of_one_key_over_all_transports() {
    let limit = ConnectionLimitLayer::new(100)
        .per_key(2, |parts: &request::Parts| parts.extensions.get::<SocketAddr>().map(SocketAddr::ip));
    let server = SessionServer::new(acceptor(), greeter()).guard(limit.clone());
    let house = House::open(&server, Host::Hyper).await;
    let road = house.road(WebTransport);
    let (mut first, _second) = (road.connect().await.unwrap(), house.connect(WebSocket).await.unwrap());
    for kind in TransportKind::all() {
        let error = house.connect(kind).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS), "{kind}: {error}");
    }
    assert_eq!(limit.connections(), 2);

    // A connection that is lost has no place, though its session waits, and comes back.
    hear(&mut first).await;
    let handle = first.handle();
    for kind in TransportKind::all() {
        road.take(kind);
        handle.reconnect().unwrap().reconnect_now();
        super::house::round_trip(&mut first, "back").await;
        assert_eq!(limit.connections(), 2, "{kind}");
    }
    within(first.close()).await.unwrap();
    within(async {
        while limit.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    house.connect(Sse).await.unwrap();
}

#[tokio::test]
async fn a_session_is_found_by_its_owner_alone_whatever_the_transport() {
    let server = SessionServer::new(acceptor(), who)
        .guard(AuthGuardLayer::new(tokens()))
        .owned_by(|parts| parts.extensions.get::<&str>().copied());
    let house = House::open(&server, Host::Hyper).await;
    let road = house.road(WebSocket).token("a-secret");
    let mut session = road.connect().await.unwrap();
    assert_eq!(hear(&mut session).await, "ada");
    let handle = session.handle();
    let verdict = || handle.resume().unwrap().verdict().unwrap();

    road.take(WebTransport);
    handle.reconnect().unwrap().reconnect_now();
    super::house::round_trip(&mut session, "over WebTransport").await;
    assert!(matches!(verdict(), Verdict::Resumed { .. }));

    // Otherwise the message would be reported as lost with the session that is not bob's.
    while handle.resume().unwrap().unacknowledged() > 0 {
        let received = tokio::time::timeout(Duration::from_millis(10), session.receive_message()).await;
        assert!(received.is_err(), "{received:?}");
    }
    // Another one, who knows the session's secret.
    let road = road.token("b-secret");
    road.take(Sse);
    handle.reconnect().unwrap().reconnect_now();
    assert_eq!(hear(&mut session).await, "bob");
    assert!(matches!(verdict(), Verdict::Fresh { .. }));
}

#[tokio::test]
async fn layers_of_tower_and_tower_http_are_guards_too() {
    let stuck = tower::service_fn(|_: Request<()>| {
        std::future::pending::<Result<http::Response<Admission>, tower::BoxError>>()
    });
    let guard = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(http::header::SERVER, http::HeaderValue::from_static("guarded")))
        .layer(TimeoutLayer::new(Duration::from_millis(1)));
    let server = SessionServer::new(acceptor(), greeter()).guard(guard);
    // The headers that a guard adds are in the answer; the request is no handshake.
    let request = Request::get("/ws").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = server.http().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["server"], "guarded");

    // A guard that fails is a refusal.
    let guard = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_millis(1)))
        .layer(tower::layer::layer_fn(move |_| stuck));
    let server = SessionServer::new(acceptor(), greeter()).guard(guard);
    let house = House::open(&server, Host::Hyper).await;
    for kind in TransportKind::all() {
        let error = house.connect(kind).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{kind}: {error}");
    }
    assert_eq!(server.session_count(), 0);
}

#[tokio::test]
async fn a_layer_around_the_whole_service_sees_each_request() {
    let server = SessionServer::new(acceptor(), greeter());
    let service = AuthGuardLayer::new(tokens()).layer(server.http());
    let request = Request::post("/sse").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
