//! Servers that ask for a new token more often than they should.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::task::yield_now;
use tower::Layer;
use tower_transport::{
    Channel, TransportExt, channel,
    layer::auth::{Renew, RenewLayer, Tokens},
    test_util::WakeCount,
};

use super::*;

use crate::layer::rejecting::rejecting;

/// Returns a client with a new token for each renewal, and the server's end with room for `capacity` messages.
fn pair(count: &Count, capacity: usize) -> (Renew<Channel, impl TokenSource + use<>>, Channel) {
    let (here, there) = channel(capacity);
    (RenewLayer::new(Tokens::new(numbered(count, None))).layer(here), there)
}

/// Lets the client handle what has arrived, which brings its user nothing.
async fn read<T: Stream<Item = Result<Message, Error>> + Unpin>(client: &mut T) {
    for _ in 0..4 {
        assert!(client.next().now_or_never().is_none());
        yield_now().await;
    }
}

async fn ask(server: &mut Channel) {
    server.send_message(mark(b"", 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_again_and_again_and_reads_nothing_makes_one_token_wait() {
    let count = Count::default();
    let (mut client, mut server) = pair(&count, 4);
    for _ in 0..1000 {
        ask(&mut server).await;
        read(&mut client).await;
    }
    assert_eq!(count.get(), 5, "four tokens in the transport, and one that waits for room");
    for number in 1..=5 {
        assert_eq!(server.next().await.unwrap().unwrap(), mark(format!("token-{number}").as_bytes(), 2));
        read(&mut client).await;
    }
    assert!(server.next().now_or_never().is_none(), "each request that came meanwhile was answered by the last token");
    ask(&mut server).await;
    read(&mut client).await;
    assert_eq!(server.next().await.unwrap().unwrap(), mark(b"token-6", 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_while_only_a_message_of_the_user_waits() {
    let count = Count::default();
    let (mut client, mut server) = pair(&count, 1);
    // The token takes the room that the user was promised, so the user's message waits behind it.
    poll_fn(|cx| client.poll_ready_unpin(cx)).await.unwrap();
    ask(&mut server).await;
    read(&mut client).await;
    client.start_send_unpin(Message::text("a")).unwrap();
    // Asked once more while the user's message waits, and the first token does not.
    ask(&mut server).await;
    read(&mut client).await;
    assert_eq!(count.get(), 2);
    for message in [mark(b"token-1", 2), Message::text("a"), mark(b"token-2", 2)] {
        assert_eq!(server.next().await.unwrap().unwrap(), message);
        read(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_marks_lets_other_tasks_run() {
    /// A transport that always has the next mark, and counts them.
    struct Flood(u8, u32);

    impl Stream for Flood {
        type Item = Result<Message, Error>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.1 += 1;
            Poll::Ready((self.1 < 100_000).then(|| Ok(mark(b"", self.0))))
        }
    }

    impl Sink<Message> for Flood {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), Error> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    // Marks of a later version, and requests that are answered at once.
    for kind in [9, 1] {
        let tokens = Tokens::new(service_fn(|_: TokenRequest| ready(Ok::<_, Error>(Token::new("t")))));
        let mut client = RenewLayer::new(tokens).layer(Flood(kind, 0));
        let (wakes, waker) = WakeCount::new();
        let mut cx = Context::from_waker(&waker);
        for poll in 1..=3 {
            assert!(client.poll_next_unpin(&mut cx).is_pending());
            assert_eq!(client.get_ref().1, 64 * poll, "kind {kind}");
            assert!(wakes.take() > 0, "the rest is read later");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_nearly_expire_are_not_requested_in_a_tight_loop() {
    for life in [None, Some(Duration::ZERO), Some(Duration::from_millis(1))] {
        let count = Count::default();
        let (here, mut server) = channel(4);
        let mut client = RenewLayer::new(Tokens::new(numbered(&count, life))).layer(here);
        // A server that finds each token too old, and requests another at once.
        let requests = async {
            loop {
                ask(&mut server).await;
                let token = server.next().await.unwrap().unwrap();
                assert!(token.is_data());
            }
        };
        let both = futures_util::future::join(requests, client.next());
        assert!(tokio::time::timeout(Duration::from_secs(60), both).await.is_err());
        // A few at once, then one a second.
        assert!((60..=70).contains(&count.get()), "{} tokens in a minute", count.get());
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_share_tokens_share_the_pace_of_their_renewals() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, Some(Duration::from_millis(1))));
    let clients = (0..100).map(|_| {
        let (here, mut server) = channel(4);
        let mut client = RenewLayer::new(tokens.clone()).layer(here);
        async move {
            let requests = async {
                loop {
                    ask(&mut server).await;
                    server.next().await.unwrap().unwrap();
                }
            };
            futures_util::future::join(requests, client.next()).await
        }
    });
    let all = futures_util::future::join_all(clients);
    assert!(tokio::time::timeout(Duration::from_secs(60), all).await.is_err());
    assert!(count.get() <= 70, "{} tokens in a minute", count.get());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_rejected_is_told_and_the_next_request_is_answered() {
    let count = Count::default();
    let (here, mut server) = channel(4);
    let first = mark(b"token-1", 2);
    let here =
        rejecting(here, move |message: &Message| (*message == first).then(|| Error::rate_limited("one a minute")));
    let mut client = RenewLayer::new(Tokens::new(numbered(&count, None))).layer(here);
    ask(&mut server).await;
    let rejected = client.next().await.unwrap().unwrap_err();
    assert!(rejected.is_rejection() && client.last_error().unwrap().is_rate_limited(), "{rejected:?}");
    ask(&mut server).await;
    read(&mut client).await;
    assert_eq!(server.next().await.unwrap().unwrap(), mark(b"token-2", 2));
    assert!(client.last_error().is_none());
}
