use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::Layer;
use tower_transport::{
    Channel, CloseCode, CloseFrame, Message, TransportExt, channel,
    layer::auth::{
        Credentials, FirstMessage, FirstMessageGuard, FirstMessageLayer, FixedToken, Form, StaticTokens, Tokens,
        forbidden,
    },
};

use super::*;

use crate::layer::rejecting::rejecting;

fn pair() -> (FirstMessage<Channel, FixedToken>, Channel) {
    let (here, there) = channel(4);
    (FirstMessageLayer::new(Tokens::fixed("t0k")).layer(here), there)
}

fn guard() -> FirstMessageGuard<StaticTokens<&'static str>> {
    FirstMessageGuard::new(StaticTokens::new().token("t0k", "ada"))
}

fn next(channel: &mut Channel) -> Message {
    channel.next().now_or_never().expect("a message is there").unwrap().unwrap()
}

/// Returns what a peer that sent `messages` gets.
async fn refused(messages: &[Message]) -> (Error, CloseFrame) {
    let (here, mut there) = channel(32);
    for message in messages {
        there.send_message(message.clone()).await.unwrap();
    }
    let error = guard().accept(here).await.unwrap_err();
    let Some(Ok(Message::Close(Some(frame)))) = there.next().await else { panic!("no close message") };
    assert!(there.next().await.is_none(), "the transport is closed");
    assert_eq!(error.close_frame(), Some(&frame));
    (error, frame)
}

#[test]
fn the_token_goes_ahead_of_what_the_user_sends() {
    let (mut here, mut there) = pair();
    here.send(Message::text("hello")).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut there), Message::text(r#"{"token":"t0k"}"#));
    assert_eq!(next(&mut there), Message::text("hello"));
}

#[test]
fn who_only_reads_says_who_it_is_too() {
    let (mut here, mut there) = pair();
    assert!(here.next().now_or_never().is_none());
    assert_eq!(next(&mut there), Message::text(r#"{"token":"t0k"}"#));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_an_error_of_both_halves_and_the_end() {
    let (here, _there) = channel::<Message, Message>(4);
    let source = service_fn(|_: TokenRequest| fail::<Token>(Error::dns("no such host")));
    let mut here = FirstMessageLayer::new(Tokens::new(source)).layer(here);
    assert!(here.send(Message::text("hello")).await.unwrap_err().is_dns());
    assert!(here.next().await.unwrap().unwrap_err().is_dns());
    assert!(here.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_close_with_4401_makes_the_next_connection_fetch_a_new_token() {
    let count = Count::default();
    let layer = FirstMessageLayer::new(Tokens::new(numbered(&count, None))).form(Form::Plain);
    for token in ["token-1", "token-2"] {
        let (here, mut there) = channel(4);
        let mut here = layer.layer(here);
        here.flush().await.unwrap();
        assert_eq!(next(&mut there), Message::text(token));
        there.send_message(Message::Close(Some(CloseFrame::new(CloseCode::new(4401).unwrap(), "")))).await.unwrap();
        assert!(here.next().await.unwrap().unwrap().is_close());
    }
    assert_eq!(count.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_good_first_message_gives_the_transport_and_the_principal() {
    for form in [Form::Json, Form::Plain] {
        let (here, there) = channel(4);
        let mut client = FirstMessageLayer::new(Tokens::fixed("t0k")).form(form).layer(there);
        client.send(Message::text("hello")).await.unwrap();
        let (mut transport, principal) = guard().accept(here).await.unwrap();
        assert_eq!(principal, "ada");
        assert_eq!(next(&mut transport), Message::text("hello"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_and_what_is_no_token_are_closed_with_4401() {
    for message in [Message::text("other"), Message::text("{}"), Message::binary(b"t0k".to_vec())] {
        let (error, frame) = refused(&[Message::Ping("".into()), message]).await;
        assert!(error.is_auth());
        assert_eq!(frame.code().get(), 4401);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_closed_after_the_deadline() {
    let start = tokio::time::Instant::now();
    let (error, frame) = refused(&[Message::Ping("".into())]).await;
    assert!(error.is_timeout());
    assert_eq!(frame.code().get(), 4401);
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_hangs_is_within_the_same_deadline() {
    let (here, mut there) = channel(4);
    there.send_message(Message::text("t0k")).await.unwrap();
    let verifier = service_fn(|_: Credentials| never::<Result<(), Error>>());
    let guard = FirstMessageGuard::new(verifier).deadline(Duration::from_secs(2));
    assert!(guard.accept(here).await.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_is_too_large_is_closed_with_1009() {
    let (error, frame) = refused(&[Message::text("x".repeat(8193))]).await;
    assert!(error.is_too_large() && error.to_string().contains("8193"));
    assert_eq!(frame.code(), CloseCode::TOO_BIG);
    let (error, _) = refused(&[Message::text("x".repeat(8192))]).await;
    assert!(error.is_auth());
}

#[tokio::test(start_paused = true)]
async fn pings_without_end_are_not_waited_out() {
    let pings = vec![Message::Ping("".into()); 17];
    let (error, frame) = refused(&pings).await;
    assert!(error.is_protocol());
    assert_eq!(frame.code(), CloseCode::POLICY);
}

#[tokio::test(start_paused = true)]
async fn the_verifiers_verdict_is_in_the_close_code() {
    for (make, code) in [
        ((|| Error::auth("no")) as fn() -> Error, 4401),
        (|| forbidden("not you"), 4403),
        (|| Error::refused("the database is down"), 1013),
    ] {
        let (here, mut there) = channel(4);
        there.send_message(Message::text("t0k")).await.unwrap();
        let guard = FirstMessageGuard::new(service_fn(move |_: Credentials| fail::<()>(make())));
        guard.accept(here).await.unwrap_err();
        let Message::Close(Some(frame)) = next(&mut there) else { panic!("no close message") };
        assert_eq!(frame.code().get(), code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_or_does_not_read_does_not_hold_the_guard() {
    let (here, there) = channel::<Message, Message>(1);
    drop(there);
    assert!(guard().accept(here).await.unwrap_err().is_closed());

    let (mut here, _there) = channel::<Message, Message>(1);
    here.send_message(Message::text("fills the channel")).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(guard().accept(here).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 6, "one second is for the close message");
}

#[test]
fn a_token_that_is_rejected_ends_both_halves_and_nothing_else_is_sent() {
    for reads_first in [true, false] {
        let (here, mut there) = channel(4);
        let here = rejecting(here, |message: &Message| {
            message.as_text()?.contains("t0k").then(|| Error::rate_limited("one a minute"))
        });
        let mut client = FirstMessageLayer::new(Tokens::fixed("t0k")).layer(here);
        if reads_first {
            assert!(client.next().now_or_never().unwrap().unwrap().unwrap_err().is_rate_limited());
        }
        for _ in 0..2 {
            let error = client.send(Message::text("a")).now_or_never().unwrap().unwrap_err();
            assert!(error.is_rate_limited() && !error.is_rejection(), "{error:?}");
        }
        if !reads_first {
            assert!(client.next().now_or_never().unwrap().unwrap().unwrap_err().is_rate_limited());
        }
        assert!(client.next().now_or_never().unwrap().is_none());
        assert!(there.next().now_or_never().is_none());
    }
}
