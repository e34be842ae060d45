//! One handler and one store for all transports.

use futures_util::SinkExt;
use http::StatusCode;
use tower::ServiceExt;
use tower_transport::{
    Message, TransportExt,
    layer::resume::Verdict,
    stack::{TransportKind, adaptive::SessionServer},
    transport::websocket::WebSocketConnector,
};

use super::{
    Sse, WebSocket, WebTransport,
    house::{Host, House, acceptor, greeter, hear, round_trip},
    within,
};

#[tokio::test]
async fn one_handler_has_the_sessions_of_all_three_in_hyper_and_in_axum() {
    for host in [Host::Hyper, Host::Axum, Host::Routes] {
        let acceptor = acceptor();
        let server = SessionServer::new(acceptor.clone(), greeter());
        let house = House::open(&server, host).await;
        let mut sessions = Vec::new();
        for (number, kind) in TransportKind::all().enumerate() {
            let mut session = house.connect(kind).await.unwrap();
            assert_eq!(hear(&mut session).await, format!("{} {}", number + 1, kind.as_str()), "{host:?}");
            assert!(session.capabilities().resume(), "{kind}");
            sessions.push(session);
        }
        for session in &mut sessions {
            round_trip(session, "hello").await;
            let binary = Message::binary((0..=255).cycle().take(100_000).collect::<Vec<u8>>());
            let (sent, received) = {
                let (mut sink, mut stream) = TransportExt::into_split(session);
                within(async {
                    use futures_util::{SinkExt, StreamExt};
                    tokio::join!(sink.send(binary.clone()), stream.next())
                })
                .await
            };
            sent.unwrap();
            assert_eq!(received.unwrap().unwrap(), binary);
        }
        // One store has them all.
        assert_eq!((acceptor.sessions(), server.session_count()), (3, 3));
        drop(sessions);
    }
}

#[tokio::test]
async fn a_session_that_began_on_one_transport_goes_on_on_each_other() {
    let server = SessionServer::new(acceptor(), greeter());
    let house = House::open(&server, Host::Hyper).await;
    for begins in TransportKind::all() {
        let road = house.road(begins);
        let mut session = road.connect().await.unwrap();
        let greeting = hear(&mut session).await;
        assert!(greeting.ends_with(begins.as_str()), "{greeting}");
        let handle = session.handle();
        let mut connections = 1;
        for goes_on in TransportKind::all() {
            road.take(goes_on);
            handle.reconnect().unwrap().reconnect_now();
            // The same handler answers: another one would greet.
            round_trip(&mut session, &format!("from {begins} to {goes_on}")).await;
            connections += 1;
            assert_eq!(handle.reconnect().unwrap().connections(), connections);
            let verdict = handle.resume().unwrap().verdict().unwrap();
            assert!(matches!(verdict, Verdict::Resumed { .. }), "{begins} to {goes_on}: {verdict:?}");
        }
        assert_eq!(server.session_count(), 1, "a session, however many connections it had");
        within(session.close()).await.unwrap();
        within(async {
            while server.session_count() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_sent_while_the_client_is_between_two_transports_arrives_once() {
    const MESSAGES: u32 = 300;
    let server = SessionServer::new(acceptor(), |mut session: super::house::Session, _| async move {
        for number in 0..MESSAGES {
            if session.send_message(Message::text(number.to_string())).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        support::echo(session).await;
    });
    let house = House::open(&server, Host::Hyper).await;
    let road = house.road(WebTransport);
    let mut session = road.connect().await.unwrap();
    let handle = session.handle();
    let mut roads = [WebSocket, Sse, WebTransport].into_iter().cycle();
    for number in 0..MESSAGES {
        assert_eq!(hear(&mut session).await, number.to_string());
        if number % 50 == 49 {
            road.take(roads.next().unwrap());
            handle.reconnect().unwrap().reconnect_now();
        }
    }
    assert!(matches!(handle.resume().unwrap().verdict(), Some(Verdict::Resumed { .. })));
}

#[tokio::test]
async fn a_client_that_knows_nothing_of_this_crate_gets_plain_messages() {
    let acceptor = acceptor();
    let server = SessionServer::new(acceptor.clone(), greeter()).web_socket_at("/socket").sse_at("/events");
    let http = server.http();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback_service(http)).await });

    let get = |path: &str| http::Request::get(format!("ws://{address}{path}")).body(()).unwrap();
    let mut socket = WebSocketConnector::new().oneshot(get("/socket")).await.unwrap().into_body();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("1 websocket"));
    socket.send_message(Message::text("plain")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("plain"));
    assert_eq!((acceptor.sessions(), server.session_count()), (0, 1));

    let error = WebSocketConnector::new().oneshot(get("/ws")).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    // A seat that led to no session is free again.
    let error = WebSocketConnector::new().oneshot(get("/events")).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::NOT_ACCEPTABLE));
    assert_eq!(server.session_count(), 1);
}
