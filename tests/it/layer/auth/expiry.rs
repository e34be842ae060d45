use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::Layer;
use tower_transport::{
    Channel, CloseCode, CloseFrame, TransportExt, channel,
    layer::auth::{Credentials, Expiring, ExpiryLayer, RenewLayer, Tokens, forbidden},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pair(seconds: u64, capacity: usize) -> (Expiring<Channel, tower_transport::layer::auth::NoRenewal>, Channel) {
    let (here, there) = channel(capacity);
    (ExpiryLayer::new(&Person::new("ada", seconds)).layer(here), there)
}

fn code(message: Option<Result<Message, Error>>) -> CloseFrame {
    let Some(Ok(Message::Close(Some(frame)))) = message else { panic!("no close message: {message:?}") };
    frame
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_4401_when_its_token_expires() {
    let (mut here, mut there) = pair(60, 4);
    there.send_message(Message::text("a")).await.unwrap();
    assert_eq!(here.next().await.unwrap().unwrap(), Message::text("a"));
    tokio::time::advance(59 * SECOND).await;
    assert!(here.next().now_or_never().is_none());
    let error = here.next().await.unwrap().unwrap_err();
    assert!(error.is_auth());
    assert_eq!(code(there.next().await), *error.close_frame().unwrap());
    assert_eq!(here.close_frame().map(|frame| (frame.code().get(), frame.reason())), Some((4401, "token expired")));
    assert!(there.next().await.is_none(), "the transport is closed");
    assert!(here.next().await.is_none());
    let error = here.send(Message::text("b")).await.unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_some());
    here.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_already_ends_the_session_at_once() {
    let (mut here, _there) = pair(0, 4);
    assert!(here.next().await.unwrap().unwrap_err().is_auth());
}

#[tokio::test(start_paused = true)]
async fn what_never_expires_never_ends() {
    struct Eternal;
    impl Principal for Eternal {}
    let (here, mut there) = channel(4);
    let mut here = ExpiryLayer::new(&Eternal).layer(here);
    tokio::time::advance(86_400 * 365 * SECOND).await;
    there.send_message(Message::text("a")).await.unwrap();
    assert!(here.next().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_only_writes_is_ended_too() {
    let (mut here, mut there) = pair(60, 64);
    here.send(Message::text("a")).await.unwrap();
    tokio::time::advance(61 * SECOND).await;
    assert!(here.send(Message::text("b")).await.unwrap_err().is_closed());
    here.close().await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), Message::text("a"));
    assert_eq!(code(there.next().await).code().get(), 4401);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_room_is_woken_by_the_expiry() {
    let (mut here, mut there) = pair(60, 1);
    here.send(Message::text("a")).await.unwrap();
    let error = here.feed(Message::text("b")).await.unwrap_err();
    assert!(error.is_closed());
    assert_eq!(there.next().await.unwrap().unwrap(), Message::text("a"));
    here.close().await.unwrap();
    assert_eq!(code(there.next().await).code().get(), 4401);
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_hold_the_end_up() {
    let (mut here, mut there) = pair(60, 4);
    let mut received = 0;
    let end = loop {
        // The stream always has something.
        there.send_message(Message::text("flood")).await.unwrap();
        tokio::time::advance(SECOND).await;
        match here.next().now_or_never().unwrap().unwrap() {
            Ok(_) => received += 1,
            Err(error) => break error,
        }
    };
    assert!(end.is_auth());
    assert!(received < 62, "{received}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_cut_ten_seconds_later() {
    let (mut here, _there) = pair(60, 1);
    here.send(Message::text("fills the channel")).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(here.next().await.unwrap().is_err());
    assert!(here.next().await.is_none());
    assert!((69..=71).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// A verifier that takes `ada` and `eve` for an hour, and fails as the name says.
fn verify(credentials: Credentials) -> std::future::Ready<Result<Person, Error>> {
    ready(match credentials.bearer().map(|token| token.expose().to_owned()).as_deref() {
        Some("ada") => Ok(Person::new("ada", 3600)),
        Some("eve") => Ok(Person::new("eve", 3600)),
        Some("forbidden") => Err(forbidden("not any more")),
        Some("down") => Err(Error::refused("the database is down")),
        _ => Err(Error::auth("who?")),
    })
}

macro_rules! renewed {
    ($token:expr) => {{
        let (here, there) = channel::<Message, Message>(4);
        let layer = ExpiryLayer::new(&Person::new("ada", 60)).renewal(service_fn(verify), 10 * SECOND);
        (layer.layer(here), RenewLayer::new(Tokens::fixed($token)).layer(there))
    }};
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_without_a_word_to_the_users() {
    let (mut here, mut there) = renewed!("ada");
    let day = tokio::time::timeout(86_400 * SECOND, async { tokio::join!(here.next(), there.next()) });
    day.await.unwrap_err();
    here.send(Message::text("a")).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), Message::text("a"));
    assert_eq!(here.close_frame(), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_is_not_good_ends_the_session() {
    for (token, expected) in [("mallory", 4401), ("forbidden", 4403), ("eve", 4403)] {
        let (mut here, mut there) = renewed!(token);
        let start = tokio::time::Instant::now();
        let (end, closed) = tokio::join!(here.next(), there.next());
        assert!(end.unwrap().unwrap_err().is_auth(), "{token}");
        assert_eq!(code(closed).code().get(), expected, "{token}");
        assert!(start.elapsed() < 55 * SECOND, "at once, not at the expiry");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_new_token_cannot_be_verified_the_old_one_is_good_to_its_end() {
    let (mut here, mut there) = renewed!("down");
    let start = tokio::time::Instant::now();
    let (end, closed) = tokio::join!(here.next(), there.next());
    assert!(end.unwrap().unwrap_err().is_auth());
    assert_eq!(code(closed).code().get(), 4401);
    assert!((59..=61).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_new_token_is_closed_at_the_expiry_and_knows_why() {
    let (here, there) = channel::<Message, Message>(4);
    let layer = ExpiryLayer::new(&Person::new("ada", 60)).renewal(service_fn(verify), 10 * SECOND);
    let mut here = layer.layer(here);
    let source = service_fn(|_: TokenRequest| fail::<Token>(Error::dns("no such host")));
    let mut there = RenewLayer::new(Tokens::new(source)).layer(there);
    let (_, closed) = tokio::join!(here.next(), there.next());
    assert_eq!(code(closed).code().get(), 4401);
    assert!(there.last_error().unwrap().is_dns());
}

#[tokio::test(start_paused = true)]
async fn the_question_and_the_answer_are_what_the_page_says() {
    let (here, mut there) = channel::<Message, Message>(4);
    let layer = ExpiryLayer::new(&Person::new("ada", 60)).renewal(service_fn(verify), 10 * SECOND);
    let mut here = layer.layer(here);
    tokio::time::advance(51 * SECOND).await;
    assert!(here.next().now_or_never().is_none());
    assert_eq!(there.next().await.unwrap().unwrap(), mark(b"", 1));
    there.send_message(mark(b"ada", 2)).await.unwrap();
    assert!(here.next().now_or_never().is_none());
    tokio::time::advance(1000 * SECOND).await;
    assert!(here.next().now_or_never().is_none(), "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_asked_for_or_too_long_ends_the_session() {
    for (message, is_protocol) in [(mark(b"ada", 2), true), (mark(&[b'x'; 9000], 2), false), (mark(b"", 7), true)] {
        let (here, mut there) = channel::<Message, Message>(4);
        let layer = ExpiryLayer::new(&Person::new("ada", 60)).renewal(service_fn(verify), 10 * SECOND);
        let mut here = layer.layer(here);
        there.send_message(message).await.unwrap();
        let error = here.next().await.unwrap().unwrap_err();
        assert!(if is_protocol { error.is_protocol() } else { error.is_too_large() }, "{error}");
        assert_eq!(code(there.next().await).code(), CloseCode::POLICY);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_message_that_ends_like_a_mark_arrives_as_it_is() {
    let (mut here, mut there) = renewed!("ada");
    for message in [mark(b"x", 1), mark(b"ada", 2), mark(b"", 0)] {
        here.send(message.clone()).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), message);
        there.send(message.clone()).await.unwrap();
        assert_eq!(here.next().await.unwrap().unwrap(), message);
    }
}
