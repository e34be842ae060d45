//! The end of a server.

use std::time::Duration;

use http::{Request, StatusCode};
use tower::ServiceExt;
use tower_transport::{
    CloseCode, Message, TransportExt,
    layer::reconnect::{Backoff, State},
    stack::{OptimizedTransport, TransportKind, adaptive::SessionServer},
};

use super::{
    Sse, WebSocket,
    house::{Host, House, Session, acceptor, greeter, hear},
    within,
};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_client_is_told_1001_and_nobody_gets_in_any_more() {
    let server = SessionServer::new(acceptor(), greeter());
    let house = House::open(&server, Host::Hyper).await;
    let mut clients = Vec::new();
    for kind in TransportKind::all() {
        // Without the stack, which would go on to another server.
        let response = within(house.road(kind).oneshot(Request::new(()))).await.unwrap();
        let mut transport = response.into_body();
        assert!(within(transport.receive_message()).await.unwrap().unwrap().is_data());
        clients.push(tokio::spawn(async move {
            let told = transport.receive_message().await;
            let end = transport.receive_message().await;
            (told, end.is_none())
        }));
    }
    within(server.close(LONG)).await.unwrap();
    assert_eq!(server.session_count(), 0);
    for (kind, client) in TransportKind::all().zip(clients) {
        let (told, is_over) = within(client).await.unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = told else { panic!("{kind}: {told:?}") };
        assert_eq!(frame.code(), CloseCode::AWAY, "{kind}");
        assert!(is_over, "{kind}");
    }
    for kind in [WebSocket, Sse] {
        let error = house.connect(kind).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{error}");
    }
    // Once more is once too many, and does no harm.
    server.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_client_of_this_crate_looks_for_another_server() {
    let server = SessionServer::new(acceptor(), greeter());
    let house = House::open(&server, Host::Hyper).await;
    let mut clients = Vec::new();
    for kind in TransportKind::all() {
        let builder = OptimizedTransport::builder().backoff(Backoff::fixed(LONG));
        let mut session = within(builder.connect_with(house.road(kind), "https://localhost/")).await.unwrap();
        hear(&mut session).await;
        let handle = session.handle();
        tokio::spawn(async move { session.receive_message().await });
        clients.push((kind, handle));
    }
    within(server.close(LONG)).await.unwrap();
    for (kind, handle) in clients {
        let cause = within(async {
            loop {
                match handle.state() {
                    State::Reconnecting { cause, .. } => break cause,
                    _ => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        assert_eq!(cause.close_frame().map(|frame| frame.code()), Some(CloseCode::AWAY), "{kind}: {cause:?}");
    }
}

#[tokio::test]
async fn whose_handler_does_not_end_is_cut_when_the_time_is_over() {
    let server = SessionServer::new(acceptor(), |session: Session, _| async move {
        std::future::pending::<()>().await;
        drop(session);
    });
    let house = House::open(&server, Host::Hyper).await;
    let mut sessions = Vec::new();
    for kind in TransportKind::all() {
        sessions.push(house.connect(kind).await.unwrap());
    }
    let error = within(server.close(Duration::from_millis(10))).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().starts_with('3'), "{error}");
    within(async {
        while server.session_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
