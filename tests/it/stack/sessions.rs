//! A server's sessions of the recommended stack, over channels.

use std::{future::ready, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, header::SEC_WEBSOCKET_PROTOCOL};
use tokio::time::{Instant, timeout};
use tower::service_fn;
use tower_transport::{
    Channel, Error, Message, channel,
    stack::{OptimizedAcceptor, OptimizedTransport},
};

const MARK: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

type Secret = [u8; 16];

/// A connection of a client that can only resume, accepts messages up to `max_message`, and opens a session after it
/// has received `received` messages: by `docs/wire.md`.
async fn opening(max_message: u32, session: Option<(Secret, Secret)>, received: u64, epoch: u64) -> (Channel, Channel) {
    let (mut near, far) = channel::<Message, Message>(16);
    let hello = [&[0b1001, 0, 0, 0][..], &max_message.to_le_bytes(), &[1, 7], &MARK].concat();
    near.send(Message::binary(hello)).await.unwrap();
    let (id, token) = session.unwrap_or_default();
    let window = [1024_u32, 1 << 20].map(u32::to_le_bytes).concat();
    let flags = u8::from(session.is_some());
    let hello = [
        &[1, flags][..],
        &id,
        &token,
        &window,
        &received.to_le_bytes(),
        &[0; 24],
        &epoch.to_le_bytes(),
        &[1, 3],
        &MARK,
    ]
    .concat();
    near.send(Message::binary(hello)).await.unwrap();
    (near, far)
}

#[tokio::test(start_paused = true)]
async fn a_session_takes_the_limit_of_its_clients_newest_connection() {
    let acceptor: OptimizedAcceptor<Channel> = OptimizedTransport::builder().acceptor();
    let (mut near, far) = opening(1000, None, 0, 1).await;
    let mut session = acceptor.accept_over(far, true).await.unwrap().unwrap();
    assert!(session.capabilities().resume());
    assert!(near.next().await.unwrap().unwrap().is_data(), "the hello of the stack");
    let welcome = near.next().await.unwrap().unwrap();
    let named = |range: std::ops::Range<usize>| welcome.as_bytes()[range].try_into().unwrap();
    let secrets = Some((named(2..18), named(18..34)));

    for (epoch, limit) in [(2, 5000), (3, 500), (4, 3000)] {
        let (newer, far) = opening(limit, secrets, epoch - 2, epoch).await;
        let accepting = tokio::spawn({
            let acceptor = acceptor.clone();
            async move { acceptor.accept_over(far, true).await }
        });
        let item = timeout(Duration::from_secs(1), session.next()).await;
        assert!(item.is_err(), "connection {epoch}: {item:?}");
        assert!(accepting.await.unwrap().unwrap().is_none(), "the session goes on");
        near = newer;
        let limit = limit as usize;
        let error = session.send("x".repeat(limit + 1).into()).await.unwrap_err();
        assert!(
            error.is_too_large() && error.is_rejection() && error.to_string().contains(&limit.to_string()),
            "{error}"
        );
        session.send("x".repeat(limit).into()).await.unwrap();
        while near.next().await.unwrap().unwrap().len() != limit {}
    }
}

/// On the paused clock: a session that has to wait for an acknowledgement, because others hold the pool of all, takes
/// 100 ms.
#[tokio::test(start_paused = true)]
async fn thousands_of_sessions_of_one_server_answer_without_waiting_for_each_others_memory() {
    const SESSIONS: usize = 4_300;
    let builder = || OptimizedTransport::builder().max_sessions(SESSIONS);
    let acceptor: OptimizedAcceptor<Channel> = builder().acceptor();
    let accepting = acceptor.clone();
    let connector = service_fn(move |_: Request<()>| {
        let (near, far) = channel::<Message, Message>(4);
        let acceptor = accepting.clone();
        tokio::spawn(async move {
            let mut session = acceptor.accept_over(far, true).await.unwrap().unwrap();
            while let Some(Ok(message)) = session.next().await {
                if message.is_data() && session.send(message).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(near);
        let name = HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        ready(Ok::<_, Error>(response))
    });
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(builder().connect_with(connector.clone(), "ws://host/").await.unwrap());
    }
    let began = Instant::now();
    for round in ["one", "two", "three", "four"] {
        for client in &mut clients {
            client.send(round.into()).await.unwrap();
        }
        for client in &mut clients {
            while client.next().await.unwrap().unwrap() != Message::text(round) {}
        }
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(acceptor.sessions(), SESSIONS);
}
