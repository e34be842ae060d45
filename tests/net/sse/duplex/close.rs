//! How a session ends, with a close and without.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{CloseCode, CloseFrame, Limits, Message, TransportExt, transport::sse::SseDuplex};

use super::{pair, pair_with, within};

fn frame() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4001).unwrap(), "enough\r\nof it")
}

async fn rest(transport: &mut SseDuplex) -> Vec<Message> {
    within(transport.map(|message| message.unwrap()).collect()).await
}

async fn assert_closed(transport: &mut SseDuplex, by: Option<&CloseFrame>) {
    assert!(transport.next().await.is_none(), "the stream stays at its end");
    let error = transport.send(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(error.close_frame(), by);
    transport.flush().await.unwrap();
    SinkExt::close(transport).await.unwrap();
}

#[tokio::test]
async fn a_close_by_either_end_reaches_the_other_with_code_and_reason() {
    for client_closes in [true, false] {
        let (mut client, mut server) = pair().await;
        let (closing, closed) = if client_closes { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let (answer, seen) = tokio::join!(within(closing.close(Some(frame()))), rest(closed));
        assert_eq!(seen, [Message::Close(Some(frame()))]);
        assert_eq!(answer.unwrap(), Some(frame()), "the answer echoes the code");
        assert_eq!(closed.close_frame(), Some(&frame()));
        assert_closed(closing, Some(&frame())).await;
        assert_closed(closed, Some(&frame())).await;
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_clean_too() {
    let (mut client, mut server) = pair().await;
    let (answer, seen) = tokio::join!(client.close(None), rest(&mut server));
    assert_eq!((answer.unwrap(), seen), (None, vec![Message::Close(None)]));
    assert_closed(&mut server, None).await;
}

#[tokio::test]
async fn both_may_close_at_once() {
    let (mut client, mut server) = pair().await;
    let (a, b) = within(futures_util::future::join(client.close(Some(frame())), server.close(None))).await;
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn after_our_close_nothing_is_sent_but_what_comes_in_is_still_read() {
    let (mut client, mut server) = pair().await;
    server.send(Message::text("on its way")).await.unwrap();
    client.send(Message::Close(Some(frame()))).await.unwrap();
    assert!(client.send(Message::text("late")).await.unwrap_err().is_closed());
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("on its way"));
    tokio::join!(rest(&mut server), async {
        assert_eq!(rest(&mut client).await, [Message::Close(Some(frame()))]);
    });
}

#[tokio::test]
async fn what_was_accepted_goes_out_before_the_close() {
    for client_closes in [true, false] {
        let (mut client, mut server) = pair().await;
        let (closing, closed) = if client_closes { (&mut client, &mut server) } else { (&mut server, &mut client) };
        for text in ["a", "b"] {
            closing.feed(Message::text(text)).await.unwrap();
        }
        within(SinkExt::close(&mut *closing)).await.unwrap();
        let normal = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
        let (seen, answer) = tokio::join!(rest(closed), rest(closing));
        assert_eq!(seen, [Message::text("a"), Message::text("b"), normal.clone()]);
        assert_eq!(answer, [normal]);
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_is_an_error_and_then_the_end() {
    for client_vanishes in [true, false] {
        let (client, server) = pair().await;
        let (gone, mut left) = if client_vanishes { (client, server) } else { (server, client) };
        drop(gone);
        let error = within(left.next()).await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert!(left.next().await.is_none());
        assert!(left.send(Message::text("late")).await.unwrap_err().is_closed());
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_client_vanished_is_still_read() {
    let (mut client, mut server) = pair().await;
    client.send(Message::text("my last words")).await.unwrap();
    drop(client);
    assert_eq!(within(server.next()).await.unwrap().unwrap(), Message::text("my last words"));
    assert!(within(server.next()).await.unwrap().unwrap_err().is_closed());
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_close_is_left_after_the_limit() {
    let limits = Limits::new().close(Duration::from_millis(50));
    for client_closes in [true, false] {
        let (mut client, mut server) = pair_with(limits).await;
        // The other end is there, and nobody reads it.
        let closing = if client_closes { &mut client } else { &mut server };
        let error = within(closing.close(Some(frame()))).await.unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("50ms (Limits::close)"), "{error}");
        assert!(closing.next().await.is_none());
    }
}

#[tokio::test]
async fn a_ping_is_answered_by_the_reading_half_alone() {
    let (mut client, mut server) = pair().await;
    for _ in 0..3 {
        client.send(Message::Ping("up".into())).await.unwrap();
        assert_eq!(within(server.next()).await.unwrap().unwrap(), Message::Ping("up".into()));
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::Pong("up".into()));
        server.send(Message::Ping("down".into())).await.unwrap();
        let both = futures_util::future::select(client.next(), server.next());
        let futures_util::future::Either::Left((ping, pong)) = within(both).await else { panic!("a ping first") };
        assert_eq!(ping.unwrap().unwrap(), Message::Ping("down".into()));
        drop(pong);
        let futures_util::future::Either::Right((pong, _)) =
            within(futures_util::future::select(client.next(), server.next())).await
        else {
            panic!("then its answer")
        };
        assert_eq!(pong.unwrap().unwrap(), Message::Pong("down".into()));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_where_it_is_sent_and_the_session_goes_on() {
    let (mut client, mut server) = pair_with(Limits::new().message(10)).await;
    for transport in [&mut client, &mut server] {
        let error = transport.send(Message::text("eleven byte")).await.unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains("10"), "{error}");
        transport.send(Message::text("ten bytes!")).await.unwrap();
    }
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("ten bytes!"));
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("ten bytes!"));
    let _ = client.send_message(Message::Close(None)).await;
}
