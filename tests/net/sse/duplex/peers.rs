//! A client whose server, or what stands before it, answers in ways that ours does not.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{CloseCode, Limits, Message, TransportExt, transport::sse::SseDuplexConnector};

use super::{
    connect,
    fake::{Fake, NOT_FOUND},
    pair, within,
};

const PORTAL: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nlogin";
const NUMBERLESS: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const MALFORMED: &str = "HTTP/1.1 204 No Content\r\ntower-transport-sequence: +1\r\n\r\n";
const TAKEN: &str = "HTTP/1.1 204 No Content\r\ntower-transport-sequence: 1\r\n\r\n";
const NOTHING_TAKEN: &str = "HTTP/1.1 204 No Content\r\ntower-transport-sequence: 0\r\n\r\n";
const SUPERSEDED: &str = "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n";
const GAP: &str = "HTTP/1.1 409 Conflict\r\ntower-transport-sequence: 0\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn an_answer_that_is_not_the_servers_acknowledges_nothing() {
    let answers: [fn(usize) -> &'static str; 3] = [|_| PORTAL, |_| NUMBERLESS, |_| MALFORMED];
    for answer in answers {
        let fake = Fake::start(answer).await;
        let mut client = connect(SseDuplexConnector::new(), fake.address).await;
        let error = within(client.send_message(Message::text("not lost"))).await.unwrap_err();
        assert!(error.is_closed(), "{error:?}");
    }
}

#[tokio::test]
async fn behind_a_portal_that_lets_it_through_in_time_nothing_is_lost() {
    let fake = Fake::start(|post| if post < 2 { PORTAL } else { TAKEN }).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    within(client.send_message(Message::text("a"))).await.unwrap();
    assert_eq!(fake.posts(), 3);
}

#[tokio::test]
async fn a_close_is_clean_though_a_ping_waits_for_its_answer() {
    for _ in 0..5 {
        let (mut client, mut server) = pair().await;
        server.send_message(Message::Ping("hi".into())).await.unwrap();
        let mut close = std::pin::pin!(client.close(None));
        // The client reads the ping, and has an answer to its close, before the handler reads anything.
        for _ in 0..2000 {
            assert!(close.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        let read = async { while server.next().await.is_some() {} };
        let (closed, ()) = within(futures_util::future::join(close, read)).await;
        assert_eq!(closed.unwrap(), None);
    }
}

#[tokio::test]
async fn the_servers_last_words_are_read_though_a_post_met_none_any_more() {
    let fake = Fake::start(|_| NOT_FOUND).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    assert!(within(client.send_message(Message::text("x"))).await.unwrap_err().is_closed());
    assert!(client.next().now_or_never().is_none(), "they may be under way");
    fake.events.send("data: last\n\nevent: close\ndata: 4401 expired\n\n").unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("last"));
    assert!(within(client.next()).await.unwrap().unwrap().is_close());
    assert!(within(client.next()).await.is_none());
    assert_eq!(client.close_frame().unwrap().code(), CloseCode::new(4401).unwrap());
}

#[tokio::test]
async fn where_no_last_words_come_the_stream_says_why_it_ended() {
    let fake = Fake::start(|_| NOT_FOUND).await;
    let limits = Limits::new().close(Duration::from_millis(50));
    for closes in [true, false] {
        let fake = if closes { &fake } else { &Fake::start(|_| NOT_FOUND).await };
        let mut client = connect(SseDuplexConnector::new().limits(limits), fake.address).await;
        let error = if closes {
            within(client.close(None)).await.unwrap_err()
        } else {
            client.send_message(Message::text("x")).await.unwrap_err();
            within(client.next()).await.unwrap().unwrap_err()
        };
        assert!(error.is_closed(), "{error:?}");
        assert!(client.next().await.is_none());
    }
}

#[tokio::test]
async fn a_post_that_an_older_one_ended_is_sent_again() {
    let fake = Fake::start(|post| if post == 0 { SUPERSEDED } else { TAKEN }).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    within(client.send_message(Message::text("a"))).await.unwrap();
    assert_eq!(fake.posts(), 2);
}

#[tokio::test]
async fn a_gap_is_final() {
    let fake = Fake::start(|_| GAP).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    within(client.send_message(Message::text("a"))).await.unwrap_err();
    assert_eq!(fake.posts(), 1);
}

#[tokio::test]
async fn a_server_that_takes_nothing_and_does_not_wait_gets_so_many_posts_and_no_more() {
    let fake = Fake::start(|_| NOTHING_TAKEN).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    let error = within(client.send_message(Message::binary(vec![0; 100_000]))).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(fake.posts(), 5);
    assert!(fake.bytes() < 6 * 100_000, "{}", fake.bytes());
}

#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_found_out_by_its_silence() {
    let fake = Fake::start(|_| TAKEN).await;
    let connector = SseDuplexConnector::new().max_silence(Duration::from_millis(50));
    let mut client = connect(connector, fake.address).await;
    let error = within(client.next()).await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("max_silence"), "{error:?}");
    assert!(within(client.next()).await.is_none());
    assert_eq!(fake.posts(), 0, "it is not told: it does not listen");
}

#[tokio::test]
async fn a_ping_that_comes_behind_our_close_is_not_answered() {
    let fake = Fake::start(|_| TAKEN).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    SinkExt::close(&mut client).await.unwrap();
    fake.events.send("event: ping\ndata: aGk=\n\n").unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::Ping("hi".into()));
    for _ in 0..2000 {
        assert!(client.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.posts(), 1, "the close");
    fake.events.send("event: close\ndata: 1000 \n\n").unwrap();
    assert!(within(client.next()).await.unwrap().unwrap().is_close());
    assert!(within(client.next()).await.is_none());
}
