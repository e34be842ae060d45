//! The end of a server.

use std::time::Duration;

use http::StatusCode;
use tower_transport::{
    CloseCode, Message, TransportExt,
    stack::{TransportKind, adaptive::SessionServer},
};

use super::{
    WebSocket,
    house::{Host, House, Session, acceptor, greeter, hear},
    within,
};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_session_is_told_1001_and_nobody_gets_in_any_more() {
    let server = SessionServer::new(acceptor(), greeter());
    let house = House::open(&server, Host::Hyper).await;
    let mut reading = Vec::new();
    for kind in TransportKind::ALL {
        let mut session = house.connect(kind).await.unwrap();
        hear(&mut session).await;
        reading.push(tokio::spawn(async move {
            loop {
                match session.receive_message().await {
                    Some(Ok(Message::Close(Some(frame)))) => return Some(frame.code),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.close_frame().map(|frame| frame.code),
                    None => return None,
                }
            }
        }));
    }
    within(server.close(LONG)).await.unwrap();
    assert_eq!(server.session_count(), 0);
    for (kind, reading) in TransportKind::ALL.into_iter().zip(reading) {
        assert_eq!(within(reading).await.unwrap(), Some(CloseCode::AWAY), "{kind}");
    }
    let error = house.connect(WebSocket).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{error}");
    // Once more is once too many, and does no harm.
    server.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn whose_handler_does_not_end_is_cut_when_the_time_is_over() {
    let server = SessionServer::new(acceptor(), |session: Session, _| async move {
        std::future::pending::<()>().await;
        drop(session);
    });
    let house = House::open(&server, Host::Hyper).await;
    let mut sessions = Vec::new();
    for kind in TransportKind::ALL {
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
