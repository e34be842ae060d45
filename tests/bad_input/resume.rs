//! The memory that strangers and greedy clients can make a store of sessions hold. Each test is alone on its thread,
//! whose memory is measured; a connection is a channel, so that little else counts.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::{Layer, Service};
use tower_transport::{
    Channel, Error, Message, Transport, TransportExt, channel,
    layer::resume::{Accepted, ResumeLayer, Session, SessionStore},
};

use crate::allocator::Growth;

const KIB: usize = 1024;
const MARK: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

type Secret = [u8; 16];

/// A client's first message, by `docs/wire.md`.
fn hello(session: Option<(Secret, Secret)>, epoch: u64) -> Message {
    hello_with([64, 1 << 20], session, epoch)
}

fn hello_with(window: [u32; 2], session: Option<(Secret, Secret)>, epoch: u64) -> Message {
    let (id, token) = session.unwrap_or_default();
    let window = window.map(u32::to_le_bytes).concat();
    let flags = u8::from(session.is_some());
    Message::binary([&[1, flags][..], &id, &token, &window, &[0; 32], &epoch.to_le_bytes(), &[1, 3], &MARK].concat())
}

/// The id and the token of a welcome.
fn welcome(message: &Message) -> (Secret, Secret) {
    let bytes = message.as_bytes();
    assert_eq!((bytes.len(), bytes[bytes.len() - 8]), (82, 2), "{message:?}");
    (bytes[2..18].try_into().unwrap(), bytes[18..34].try_into().unwrap())
}

fn connection(first: Message) -> (Channel, Channel) {
    let (mut near, far) = channel::<Message, Message>(4);
    near.send(first).now_or_never().unwrap().unwrap();
    (near, far)
}

fn next(near: &mut Channel) -> Option<Message> {
    near.next().now_or_never().expect("the server has answered").map(Result::unwrap)
}

fn opened(store: &SessionStore<Channel>) -> (Channel, Session<Channel>, (Secret, Secret)) {
    let (mut near, far) = connection(hello(None, 1));
    let Some(Ok(Accepted::New(session))) = store.accept(far).now_or_never() else { panic!("no session") };
    let named = welcome(&next(&mut near).unwrap());
    (near, session, named)
}

#[tokio::test]
async fn a_hundred_thousand_guesses_find_nothing_and_hold_nothing() {
    let store = SessionStore::new();
    let (mut near, mut session, (id, token)) = opened(&store);
    let growth = Growth::start();
    for guess in 0..100_000_u128 {
        // Half of them know the public name.
        let of = if guess % 2 == 0 { id } else { guess.to_le_bytes() };
        let (mut stranger, far) = connection(hello(Some((of, guess.to_le_bytes())), 2));
        let Some(Ok(Accepted::New(other))) = store.accept(far).now_or_never() else { panic!("no session of its own") };
        let given = welcome(&next(&mut stranger).unwrap());
        assert!(given.0 != id && given.1 != token);
        drop(other);
    }
    println!("100,000 guesses: {} bytes held at most", growth.peak());
    assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
    assert_eq!(store.len(), 1);

    near.send(Message::text("still mine")).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), Message::text("still mine"));
}

#[tokio::test]
async fn clients_that_open_and_vanish_hold_so_many_sessions_and_no_more() {
    const SESSIONS: usize = 1000;
    let store = SessionStore::new().sessions(SESSIONS);
    let growth = Growth::start();
    let mut held = Vec::with_capacity(SESSIONS);
    let mut refused = 0;
    for _ in 0..20_000 {
        let (near, far) = connection(hello(None, 1));
        match store.accept(far).now_or_never().expect("an answer at once") {
            Ok(Accepted::New(session)) => held.push(session),
            Ok(Accepted::Resumed) => panic!("whose?"),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
            }
        }
        drop(near);
    }
    println!("20,000 clients that vanish, {refused} refused: {} bytes a session", growth.peak() / SESSIONS);
    assert_eq!((held.len(), refused), (SESSIONS, 19_000));
    assert!(growth.peak() < SESSIONS * 4 * KIB, "{}", growth.peak());
}

#[tokio::test]
async fn of_ten_thousand_sockets_on_one_session_the_newest_has_it_and_the_others_are_let_go() {
    let store = SessionStore::new();
    let (mut near, mut session, named) = opened(&store);
    let growth = Growth::start();
    for epoch in 2..10_002 {
        let (newer, far) = connection(hello(Some(named), epoch));
        let accepting = store.accept(far);
        let taken = tokio::select! {
            biased;
            taken = accepting => taken.unwrap(),
            item = session.next() => panic!("nobody said anything: {item:?}"),
        };
        assert!(matches!(taken, Accepted::Resumed));
        let Some(Message::Close(Some(frame))) = std::iter::from_fn(|| next(&mut near)).find(Message::is_close) else {
            panic!("the older socket is not told")
        };
        assert_eq!(frame.code().get(), 4409);
        assert_eq!(next(&mut near), None, "the older socket is let go");
        near = newer;
    }
    println!("10,000 sockets on one session: {} bytes held at most", growth.peak());
    assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
    assert_eq!((store.len(), session.resumptions()), (1, 10_000));
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_costs_the_replay_buffer_and_no_more() {
    let store = SessionStore::new().replay_bytes(256 * KIB);
    let (mut near, mut session, _) = opened(&store);
    let growth = Growth::start();
    let mut sent = 0;
    // It reads all, and so the connection is never full.
    while let Some(fed) = session.feed(Message::binary(vec![7; 4 * KIB])).now_or_never() {
        fed.unwrap();
        assert!(next(&mut near).is_some());
        sent += 1;
        assert!(sent < 10_000, "the sink is always ready");
    }
    println!("{sent} messages of 4 KiB without an acknowledgement: {} KiB held at most", growth.peak() / KIB);
    assert_eq!(session.unacknowledged(), sent);
    assert!(growth.peak() < (256 + 32) * KIB, "{}", growth.peak());
}

/// Sends as long as the other end takes, and acknowledges nothing. Gives how many of 1 MiB went before it said why not.
async fn flood<T>(peer: &mut Channel, victim: &mut T) -> (usize, Error)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    // A sequential echo: it reads only when it has written.
    let echo = async {
        loop {
            match victim.receive_message().await {
                Some(Ok(message)) => match victim.send_message(message).await {
                    Ok(()) => {}
                    Err(error) => match victim.receive_message().await {
                        Some(Err(why)) => return why,
                        _ => return error,
                    },
                },
                Some(Err(error)) => return error,
                None => return Error::closed("the end"),
            }
        }
    };
    let mut sent = 0;
    let send = async {
        let mut at_once = true;
        while at_once && sent < 300 {
            // The peer reads all that comes, so that nothing waits but acknowledgements.
            while peer.next().now_or_never().is_some() {}
            at_once =
                tokio::time::timeout(std::time::Duration::from_secs(5), peer.send(Message::binary(vec![7; KIB * KIB])))
                    .await
                    .is_ok_and(|sent| sent.is_ok());
            sent += 1;
        }
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        error = echo => error,
        () = send => unreachable!(),
        () = tokio::time::sleep(std::time::Duration::from_secs(600)) => Error::timeout("it takes no more"),
    };
    (sent, error)
}

#[tokio::test(start_paused = true)]
async fn a_window_without_bound_in_a_clients_hello_makes_a_server_hold_its_own_bound_and_no_more() {
    let store = SessionStore::new();
    let (mut near, far) = connection(hello_with([u32::MAX; 2], None, 1));
    let Some(Ok(Accepted::New(mut session))) = store.accept(far).now_or_never() else { panic!("no session") };
    welcome(&next(&mut near).unwrap());
    let growth = Growth::start();
    let (sent, error) = flood(&mut near, &mut session).await;
    println!("a client that names u32::MAX: {sent} x 1 MiB, {} KiB held at most", growth.peak() / KIB);
    assert!(error.is_protocol() || error.is_closed(), "{error}");
    // Messages read ahead, messages without an acknowledgement, the channel between the two, and the flood's own
    // message. Messages that it still sends while the close is in flight are read and dropped.
    assert!(growth.peak() < 16 * KIB * KIB, "{sent}, {}", growth.peak());
}

#[tokio::test(start_paused = true)]
async fn a_window_without_bound_in_a_servers_welcome_makes_a_client_hold_its_own_bound_and_no_more() {
    let (near, mut far) = channel::<Message, Message>(4);
    let mut near = Some(near);
    let mut connector = ResumeLayer::new().layer(tower::service_fn(move |_: http::Request<()>| {
        std::future::ready(near.take().map(http::Response::new).ok_or_else(|| Error::closed("once")))
    }));
    let connecting = connector.call(http::Request::new(()));
    let (connected, ()) = tokio::join!(connecting, async {
        far.receive_message().await.unwrap().unwrap();
        let window = [u32::MAX; 2].map(u32::to_le_bytes).concat();
        let welcome = [&[1, 0][..], &[1; 16], &[2; 16], &window, &[0; 32], &[2, 3], &MARK].concat();
        far.send(Message::binary(welcome)).await.unwrap();
    });
    let mut transport = connected.unwrap().into_body();
    let growth = Growth::start();
    let (sent, error) = flood(&mut far, &mut transport).await;
    println!("a server that names u32::MAX: {sent} x 1 MiB, {} KiB held at most", growth.peak() / KIB);
    assert!(error.is_protocol() || error.is_closed(), "{error}");
    // Messages that it still sends while the close is in flight are read and dropped.
    assert!(growth.peak() < 16 * KIB * KIB, "{sent}, {}", growth.peak());
}

/// Messages read ahead count in the pool of all sessions. If it is used up, the connection ends with 1013 and the
/// session goes on.
#[tokio::test]
async fn read_ahead_of_many_sessions_is_bounded_by_the_pool_of_the_store() {
    const SESSIONS: usize = 64;
    let store = SessionStore::new().replay_messages(1).total_replay_bytes(4 * KIB * KIB);
    let growth = Growth::start();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..SESSIONS {
        let (mut near, far) = connection(hello(None, 1));
        let Some(Ok(Accepted::New(mut session))) = store.accept(far).now_or_never() else { panic!("no session") };
        welcome(&next(&mut near).unwrap());
        session.feed(Message::text("not acknowledged")).now_or_never().unwrap().unwrap();
        for _ in 0..16 {
            if near.send(Message::binary(vec![7; 60 * KIB])).now_or_never().is_none_or(|sent| sent.is_err()) {
                break;
            }
            // The handler waits for room to write: it reads ahead.
            assert!(session.feed(Message::text("waits")).now_or_never().is_none());
        }
        let last = std::iter::from_fn(|| near.next().now_or_never().flatten()).filter_map(Result::ok).last();
        refused += usize::from(matches!(last, Some(Message::Close(Some(frame))) if frame.code().get() == 1013));
        held.push((near, session));
    }
    println!("{SESSIONS} sessions that read ahead, {refused} cut: {} KiB held at most", growth.peak() / KIB);
    assert!(refused > SESSIONS / 2, "{refused}");
    // The pool, and one message of each session and of each channel.
    assert!(growth.peak() < (4 * KIB + SESSIONS * 60 * 6) * KIB, "{}", growth.peak());
    assert_eq!(store.len(), SESSIONS);
}

#[tokio::test]
async fn an_owner_that_connects_again_and_again_fills_its_part_of_the_store_and_no_more() {
    let store = SessionStore::new();
    let growth = Growth::start();
    let mut handlers = Vec::new();
    for _ in 0..20_000 {
        let (near, far) = connection(hello(None, 1));
        let Some(Ok(Accepted::New(mut session))) = store.accept_as(far, "mallory").now_or_never() else {
            panic!("no session")
        };
        drop(near);
        assert!(session.next().now_or_never().is_none(), "it waits for its client");
        handlers.push(session);
        // As their tasks would.
        if handlers.len() > 512 {
            handlers.retain_mut(|session| session.next().now_or_never().is_none());
        }
        tokio::task::yield_now().await;
    }
    handlers.retain_mut(|session| session.next().now_or_never().is_none());
    println!("20,000 connects of one owner: {} sessions, {} KiB held at most", store.len(), growth.peak() / KIB);
    assert_eq!((store.len(), handlers.len()), (256, 256), "a quarter of the store");
    assert!(growth.peak() < 513 * 4 * KIB, "{}", growth.peak());
    let (_near, far) = connection(hello(None, 1));
    assert!(matches!(store.accept(far).now_or_never(), Some(Ok(Accepted::New(_)))), "others have room");
}
