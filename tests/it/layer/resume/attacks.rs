//! Peers that guess, lie or flood, and transports that lose messages.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{
    Channel, Error, Message, TransportExt, channel,
    layer::resume::{Accepted, ResumeLayer, Session, SessionStore, Verdict},
    test_util::fault::Direction,
};

use super::support::{connect, message, put, quiet, take, world};

/// A message of the layer, as `docs/wire.md` has it.
fn own(kind: u8, body: &[u8]) -> Message {
    Message::binary([body, &[kind, 3, 0xf8, b't', b't', b'x', 1, 0xff]].concat())
}

#[derive(Clone, Copy)]
struct Hello {
    session: Option<([u8; 16], [u8; 16])>,
    received: u64,
    digest: u64,
    first: u64,
    sent: u64,
    epoch: u64,
}

impl Hello {
    const NEW: Self = Self { session: None, received: 0, digest: 0, first: 0, sent: 0, epoch: 1 };

    fn message(self) -> Message {
        let (id, token) = self.session.unwrap_or_default();
        let mut body = vec![1, u8::from(self.session.is_some())];
        body.extend_from_slice(&id);
        body.extend_from_slice(&token);
        body.extend_from_slice(&1024u32.to_le_bytes());
        body.extend_from_slice(&(1u32 << 20).to_le_bytes());
        for number in [self.received, self.digest, self.first, self.sent, self.epoch] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        own(1, &body)
    }
}

fn ack(kind: u8, received: u64, sent: u64) -> Message {
    own(kind, &[received.to_le_bytes(), sent.to_le_bytes()].concat())
}

/// Opens a session by hand. Its far end speaks for the client.
async fn open(store: &SessionStore<Channel>) -> (Channel, Session<Channel>, Hello) {
    let (mut near, far) = channel::<Message, Message>(64);
    near.send(Hello::NEW.message()).await.unwrap();
    let Ok(Accepted::New(session)) = store.accept(far).await else { panic!("not a new session") };
    let welcome = near.next().await.unwrap().unwrap().into_bytes();
    let (id, token) = (welcome[2..18].try_into().unwrap(), welcome[18..34].try_into().unwrap());
    (near, session, Hello { session: Some((id, token)), epoch: 2, ..Hello::NEW })
}

/// Comes back by hand; what `accept` says, and the connection.
async fn come_back(
    store: &SessionStore<Channel>,
    session: &mut Session<Channel>,
    hello: Hello,
) -> (Channel, Result<Accepted<Channel>, Error>) {
    let (mut near, far) = channel::<Message, Message>(64);
    near.send(hello.message()).await.unwrap();
    let store = store.clone();
    let mut accepting = tokio::spawn(async move { store.accept(far).await });
    let accepted = tokio::select! {
        accepted = &mut accepting => accepted.unwrap(),
        item = session.next() => panic!("{item:?}"),
    };
    let _ = session.next().now_or_never();
    (near, accepted)
}

#[tokio::test(start_paused = true)]
async fn whoever_guesses_gets_a_new_session_and_learns_nothing() {
    let store = SessionStore::new();
    let (mut near, mut session, hello) = open(&store).await;
    let (id, token) = hello.session.unwrap();
    let mut answers = Vec::new();
    let mut wrong = token;
    wrong[15] ^= 1;
    for guess in [(id, wrong), ([7; 16], token), ([0; 16], [0; 16]), (id, [0; 16])] {
        let guessed = Hello { session: Some(guess), ..hello };
        let (mut near, far) = channel::<Message, Message>(64);
        near.send(guessed.message()).await.unwrap();
        let Ok(Accepted::New(other)) = store.accept(far).await else { panic!("not a new session") };
        assert_ne!(other.id(), session.id());
        let welcome = near.next().await.unwrap().unwrap().into_bytes();
        answers.push((welcome[..2].to_vec(), welcome[34..].to_vec()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "an unknown name and a wrong secret look the same");
    assert_eq!(store.len(), 1, "those of the guessers are gone with them");
    // The owner has noticed nothing.
    near.send(message(0)).await.unwrap();
    take(&mut session, 0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lies_about_its_position_is_refused_and_its_session_stays_as_it_was() {
    let store = SessionStore::new();
    let (mut near, mut session, hello) = open(&store).await;
    near.send(message(0)).await.unwrap();
    take(&mut session, 0..1).await;
    session.send(message(0)).await.unwrap();
    for lie in [
        Hello { received: 2, first: 0, sent: 1, ..hello },
        Hello { received: u64::MAX, first: 0, sent: 1, ..hello },
        Hello { received: 0, first: 2, sent: 3, ..hello },
        Hello { received: 0, first: 0, sent: 0, ..hello },
        Hello { received: 0, first: u64::MAX, sent: u64::MAX, ..hello },
    ] {
        let (mut liar, accepted) = come_back(&store, &mut session, lie).await;
        let error = accepted.err().unwrap();
        assert!(error.is_protocol(), "{error}");
        assert!(liar.next().await.unwrap().unwrap().is_close());
    }
    // Not even its connection was touched.
    near.send(message(1)).await.unwrap();
    take(&mut session, 1..2).await;
    assert_eq!(session.resumptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_connection_that_comes_late_does_not_take_the_session() {
    let store = SessionStore::new();
    let (_near, mut session, hello) = open(&store).await;
    let (_newer, accepted) = come_back(&store, &mut session, Hello { epoch: 5, ..hello }).await;
    assert!(matches!(accepted, Ok(Accepted::Resumed)));
    for epoch in [0, 4, 5] {
        let (_, accepted) = come_back(&store, &mut session, Hello { epoch, ..hello }).await;
        assert!(accepted.err().unwrap().is_closed());
    }
    assert_eq!(session.resumptions(), 1);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_cannot_be_end_the_session() {
    for bad in [
        ack(3, 2, 0),
        ack(3, u64::MAX, 0),
        ack(3, 0, 1),
        ack(3, 0, u64::MAX),
        ack(4, 0, 1),
        own(3, b"short"),
        own(9, b""),
        Hello::NEW.message(),
    ] {
        let store = SessionStore::new();
        let (mut near, mut session, _) = open(&store).await;
        session.send(message(0)).await.unwrap();
        near.send(bad.clone()).await.unwrap();
        let error = session.next().await.unwrap().unwrap_err();
        assert!(error.is_protocol(), "{bad:?}: {error}");
        assert!(session.next().await.is_none());
        assert!(session.send(message(1)).await.unwrap_err().is_closed());
        assert!(store.is_empty());
        assert_eq!(near.next().await.unwrap().unwrap(), message(0));
        assert!(near.next().await.unwrap().unwrap().is_close());
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_opens_nothing_is_refused() {
    for first in [message(0), own(1, b""), own(1, &[2; 82]), own(2, &[1; 74]), ack(3, 0, 0), Message::binary("x")] {
        let store = SessionStore::<Channel>::new();
        let (mut near, far) = channel::<Message, Message>(8);
        near.send(first.clone()).await.unwrap();
        let error = store.accept(far).await.err().unwrap();
        assert!(error.is_protocol(), "{first:?}: {error}");
        assert!(near.next().await.unwrap().unwrap().is_close());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_pings_for_ever_is_let_go() {
    let store = SessionStore::<Channel>::new().deadline(Duration::from_secs(4));
    let (near, far) = channel::<Message, Message>(8);
    let before = tokio::time::Instant::now();
    assert!(store.accept(far).await.err().unwrap().is_timeout());
    assert_eq!(before.elapsed(), Duration::from_secs(4));
    drop(near);

    let (mut near, far) = channel::<Message, Message>(64);
    for _ in 0..32 {
        near.send(Message::Ping("".into())).await.unwrap();
    }
    assert!(store.accept(far).await.err().unwrap().is_protocol());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_handler_is_busy_is_not_waited_for_longer_than_the_deadline() {
    let store = SessionStore::new().deadline(Duration::from_secs(4));
    let (near, session, hello) = open(&store).await;
    drop(near);
    let (mut near, far) = channel::<Message, Message>(64);
    near.send(hello.message()).await.unwrap();
    assert!(store.accept(far).await.err().unwrap().is_timeout());
    // It was taken back: the session does not find it later.
    assert!(near.next().await.is_none());
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn a_silent_loss_below_is_detected_by_the_next_acknowledgement() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().replay_messages(4));
    let (mut near, mut session) = world.open().await;
    world.faults.lose(Direction::Outgoing, 1);
    put(&mut near, 0..3);
    // The client acknowledges, and says what it has sent.
    put(&mut session, 0..2);
    take(&mut near, 0..2).await;
    assert_eq!(session.next().await.unwrap().unwrap(), message(1));
    assert_eq!(session.next().await.unwrap().unwrap(), message(2));
    let error = session.next().await.unwrap().unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("3 messages and 2 have come in"), "{error}");
    drop(near);
    let (_near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 3 });
}

#[tokio::test(start_paused = true)]
async fn a_silent_loss_at_the_client_is_detected_and_its_session_is_not_resumed() {
    let mut world = world(ResumeLayer::new().replay_messages(4), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..1);
    world.faults.lose(Direction::Incoming, 1);
    put(&mut session, 0..2);
    put(&mut near, 1..2);
    take(&mut session, 0..2).await;
    assert_eq!(near.next().await.unwrap().unwrap(), message(1));
    let error = near.next().await.unwrap().unwrap_err();
    assert!(error.is_protocol(), "{error}");
    assert!(near.next().await.is_none());
    assert_eq!(world.connect().await.1, Verdict::Fresh { lost: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_silent_loss_that_no_count_shows_is_detected_when_the_session_goes_on() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    world.faults.lose(Direction::Outgoing, 1);
    put(&mut near, 0..3);
    assert_eq!(session.next().await.unwrap().unwrap(), message(1));
    assert_eq!(session.next().await.unwrap().unwrap(), message(2));
    // Cut before any acknowledgement: the server has two, and asks for the third of three.
    drop(near);
    quiet(&mut session);
    let (connected, _) = tokio::join!(connect(&mut world.client), session.next());
    // The client detects it by the digest: the session is not resumed, and the next one says what is lost.
    assert!(connected.err().unwrap().is_protocol());
    let (_near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 3 });
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_acknowledgements_lets_other_tasks_run() {
    let store = SessionStore::new();
    let (near, far) = channel::<Message, Message>(100_000);
    let mut near = near;
    near.send(Hello::NEW.message()).await.unwrap();
    let Ok(Accepted::New(mut session)) = store.accept(far).await else { panic!("not a new session") };
    for _ in 0..90_000 {
        near.feed(ack(3, 0, 0)).await.unwrap();
    }
    near.send_message(message(0)).await.unwrap();
    let mut polls = 0;
    while session.next().now_or_never().is_none() {
        polls += 1;
    }
    assert!(polls > 1000, "{polls}");
}
