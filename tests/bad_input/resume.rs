//! What strangers and greedy clients can make a store of sessions hold. Each test is alone on its thread, which is what is
//! measured; a connection is a channel, so that little else is.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{
    Channel, Message, TransportExt, channel,
    layer::resume::{Accepted, Session, SessionStore},
};

use crate::allocator::Growth;

const KIB: usize = 1024;
const MARK: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

type Secret = [u8; 16];

/// A client's first message, by `docs/wire.md`.
fn hello(session: Option<(Secret, Secret)>, epoch: u64) -> Message {
    let (id, token) = session.unwrap_or_default();
    let window = [64_u32, 1 << 20].map(u32::to_le_bytes).concat();
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
