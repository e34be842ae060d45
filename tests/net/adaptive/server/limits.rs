//! The limits that count over all transports.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::SinkExt;
use http::{Request, StatusCode};
use tower::{Layer, ServiceExt};
use tower_transport::{
    Error, Limits, Message, TransportExt,
    handshake::auth::AuthGuardLayer,
    layer::{
        auth::StaticTokens,
        rate_limit::{KeyedRateLimiter, Quota},
        reconnect::State,
        resume::Verdict,
    },
    stack::{
        OptimizedHandle, TransportKind,
        adaptive::{SessionServer, server::Admission},
    },
    transport::webtransport::{SessionLimits, WebTransportConnector},
};

use web_transport_quinn::proto::{ConnectError, ConnectRequest, ConnectResponse, Settings};

use super::{
    Sse, WebSocket, WebTransport,
    house::{Host, House, Session, acceptor, builder, greeter, hear, round_trip},
    within,
};

#[tokio::test]
async fn so_many_sessions_over_all_transports_and_no_more() {
    for host in [Host::Hyper, Host::Axum] {
        let server = SessionServer::new(acceptor(), greeter()).sessions(2);
        let house = House::open(&server, host).await;
        let road = house.road(Sse);
        let mut first = road.connect().await.unwrap();
        hear(&mut first).await;
        let mut second = house.connect(WebSocket).await.unwrap();
        hear(&mut second).await;
        for kind in TransportKind::all() {
            // A client that knows the stack might have come back to a session.
            let mut session = house.connect(kind).await.unwrap();
            let handle = session.handle();
            tokio::spawn(async move { session.receive_message().await });
            let cause = lost(&handle).await;
            assert_eq!(cause.close_frame().map(|frame| frame.code().get()), Some(1013), "{kind}: {cause:?}");
            handle.reconnect().unwrap().close();
            // Another client could not.
            let error = within(house.road(kind).oneshot(Request::new(()))).await.unwrap_err();
            assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{kind}: {error}");
        }
        // Those that are in are not disturbed, and come back to their sessions.
        round_trip(&mut first, "still here").await;
        for kind in TransportKind::all() {
            road.take(kind);
            let handle = first.handle();
            handle.reconnect().unwrap().reconnect_now();
            round_trip(&mut first, "and again").await;
            assert!(matches!(handle.resume().unwrap().verdict(), Some(Verdict::Resumed { .. })), "{kind}");
        }
        within(second.close()).await.unwrap();
        within(async {
            while server.session_count() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut third = house.connect(WebTransport).await.unwrap();
        hear(&mut third).await;
    }
}

#[tokio::test]
async fn so_many_handshakes_at_once_over_all_transports() {
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    // A guard that lets nobody on.
    let stuck = tower::service_fn(move |_: Request<()>| {
        started.send(()).unwrap();
        std::future::pending::<Result<http::Response<Admission>, tower::BoxError>>()
    });
    let guard = tower::layer::layer_fn(move |_| stuck.clone());
    let server = SessionServer::new(acceptor(), greeter()).guard(guard).handshakes(2);
    let house = House::open(&server, Host::Hyper).await;
    for kind in [WebTransport, WebSocket] {
        let road = house.road(kind);
        tokio::spawn(async move { road.oneshot(Request::new(())).await });
        within(starts.recv()).await.unwrap();
    }
    for kind in TransportKind::all() {
        let error = house.connect(kind).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{kind}: {error}");
    }
}

#[tokio::test]
async fn who_is_refused_over_webtransport_and_does_not_hang_up_takes_no_handshakes_place() {
    let guard = AuthGuardLayer::new(StaticTokens::new().token("a-secret", "ada"));
    let server = SessionServer::new(acceptor(), greeter()).guard(guard).handshakes(1);
    let house = House::open(&server, Host::Hyper).await;
    let quic = within(super::raw::connect(house.udp, house.certificate)).await;
    let mut control = quic.open_uni().await.unwrap();
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    settings.write(&mut control).await.unwrap();
    let (mut send, mut receive) = quic.open_bi().await.unwrap();
    let url = format!("https://{}/wt", house.udp).parse::<url::Url>().unwrap();
    ConnectRequest::new(url).write(&mut send).await.unwrap();
    let answer = within(ConnectResponse::read(&mut receive)).await;
    assert!(matches!(answer, Err(ConnectError::WrongStatus(Some(StatusCode::UNAUTHORIZED)))), "{answer:?}");
    for kind in TransportKind::all() {
        let mut session = house.road(kind).token("a-secret").connect().await.unwrap();
        hear(&mut session).await;
    }
    assert!(quic.close_reason().is_none(), "the test took too long to show anything");
}

#[tokio::test]
async fn a_session_over_webtransport_has_one_stream_unless_the_endpoint_says_more() {
    for more in [false, true] {
        let server = SessionServer::new(acceptor(), greeter());
        let house = House::open_with(&server, Host::Hyper, |endpoint| match more {
            true => endpoint.session_limits(SessionLimits::new().streams(2)),
            false => endpoint,
        })
        .await;
        let connector = WebTransportConnector::new()
            .certificate_hashes([house.certificate])
            .limits(Limits::new().handshake(Duration::from_secs(1)));
        let request = Request::get(format!("https://{}/wt", house.udp)).body(()).unwrap();
        let session = within(connector.connect_session(request)).await.unwrap().into_body();
        let _first = session.open().await.unwrap();
        match session.open().await {
            Ok(_) => assert!(more),
            Err(error) => assert!(!more && error.is_timeout(), "{error:?}"),
        }
    }
}

/// Waits until the connection is lost; gives why.
async fn lost(handle: &OptimizedHandle) -> Error {
    within(async {
        loop {
            match handle.state() {
                State::Reconnecting { cause, .. } | State::Failed { cause, .. } => break cause,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_stores_own_limit_is_one_for_all_as_well() {
    let server = SessionServer::new(builder().max_sessions(1).acceptor(), greeter());
    let house = House::open(&server, Host::Hyper).await;
    let _first = house.connect(Sse).await.unwrap();
    for kind in TransportKind::all() {
        let error = house.connect(kind).await.unwrap_err();
        assert_eq!(error.close_frame().map(|frame| frame.code().get()), Some(1013), "{kind}: {error:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_by_address_is_one_for_all_transports() {
    const BURST: usize = 7;
    for host in [Host::Hyper, Host::Axum] {
        // So slow that nothing comes back while the test runs.
        let quota = Quota::per_hour(NonZeroU32::new(BURST as u32).unwrap());
        let limiter = KeyedRateLimiter::<IpAddr>::new(quota);
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let server = SessionServer::new(acceptor(), move |session: Session, parts: http::request::Parts| async move {
            let address = parts.extensions.get::<SocketAddr>().unwrap().ip();
            let mut session = limiter.for_key(address).inbound().reject().layer(session);
            while let Some(item) = session.receive_message().await {
                match item {
                    Ok(message) if message.is_data() => session.send_message(message).await.unwrap(),
                    Ok(_) => {}
                    Err(error) if error.is_rate_limited() => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => return,
                }
            }
        });
        let house = House::open(&server, host).await;
        let mut sessions = Vec::new();
        for kind in TransportKind::all() {
            sessions.push(house.connect(kind).await.unwrap());
        }
        for number in 0..BURST {
            round_trip(&mut sessions[number % 3], "within the quota").await;
        }
        for session in &mut sessions {
            session.send_message(Message::text("one too many")).await.unwrap();
        }
        within(async {
            while refused.load(Ordering::Relaxed) < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
