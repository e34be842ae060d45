//! How streams and sessions end, and what either end learns of it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::webtransport::{SessionLimits, WebTransportStream},
};

use crate::webtransport::support::{connector, request, server, sessions, sessions_with, streams, streams_with};

fn frame() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4001).unwrap(), "enough")
}

async fn rest(stream: &mut WebTransportStream) -> Vec<Message> {
    stream.map(|message| message.unwrap()).collect().await
}

async fn assert_closed(stream: &mut WebTransportStream, by: Option<&CloseFrame>) {
    assert!(stream.next().await.is_none(), "the stream stays at its end");
    let error = stream.send(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(error.close_frame(), by);
    stream.flush().await.unwrap();
    SinkExt::close(stream).await.unwrap();
}

#[tokio::test]
async fn a_close_by_either_end_reaches_the_other_with_code_and_reason() {
    for client_closes in [true, false] {
        let (mut client, mut server) = streams().await;
        let (closing, closed) = if client_closes { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let (answer, seen) = tokio::join!(closing.close(Some(frame())), rest(closed));
        assert_eq!(seen, [Message::Close(Some(frame()))]);
        assert_eq!(answer.unwrap(), Some(frame()), "the answer echoes the code");
        assert_eq!(closed.close_frame(), Some(&frame()));
        assert_closed(closing, Some(&frame())).await;
        assert_closed(closed, Some(&frame())).await;
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_clean_too() {
    let (mut client, mut server) = streams().await;
    let (answer, seen) = tokio::join!(client.close(None), rest(&mut server));
    assert_eq!((answer.unwrap(), seen), (None, vec![Message::Close(None)]));
    assert_closed(&mut server, None).await;
}

#[tokio::test]
async fn both_may_close_at_once() {
    let (mut client, mut server) = streams().await;
    let (a, b) = tokio::join!(client.close(Some(frame())), server.close(None));
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn after_our_close_frame_nothing_is_sent_but_what_comes_in_is_still_read() {
    let (mut client, mut server) = streams().await;
    server.send(Message::text("on its way")).await.unwrap();
    client.send(Message::Close(Some(frame()))).await.unwrap();
    assert!(client.send(Message::text("late")).await.unwrap_err().is_closed());
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("on its way"));
    rest(&mut server).await;
    assert_eq!(rest(&mut client).await, [Message::Close(Some(frame()))]);
}

#[tokio::test]
async fn what_was_accepted_goes_out_before_the_close_frame() {
    let (mut client, mut server) = streams().await;
    for text in ["a", "b"] {
        client.feed(Message::text(text)).await.unwrap();
    }
    SinkExt::close(&mut client).await.unwrap();
    let normal = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
    assert_eq!(rest(&mut server).await, [Message::text("a"), Message::text("b"), normal]);
}

#[tokio::test]
async fn what_was_sent_before_a_close_arrives_though_everything_is_dropped_at_once() {
    let (mut client, mut server) = streams().await;
    let large = Message::binary(vec![7; 1_000_000]);
    let sending = async {
        client.send(large.clone()).await.unwrap();
        SinkExt::close(&mut client).await.unwrap();
        drop(client);
    };
    let ((), seen) = tokio::join!(sending, rest(&mut server));
    assert!(seen[0] == large && seen[1].is_close() && seen.len() == 2);
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_the_peers_with_an_error_and_the_session_goes_on() {
    let (client, server) = sessions().await;
    let (stream, peer) = tokio::join!(client.open(), server.accept());
    let mut peer = peer.unwrap();
    drop(stream.unwrap());
    assert!(peer.next().await.unwrap().unwrap_err().is_closed());
    assert_closed(&mut peer, None).await;
    let (stream, peer) = tokio::join!(client.open(), server.accept());
    let mut stream = stream.unwrap();
    stream.send("still here".into()).await.unwrap();
    assert_eq!(peer.unwrap().next().await.unwrap().unwrap(), "still here".into());
}

#[tokio::test]
async fn a_reset_reaches_the_peer_with_its_code_on_both_halves() {
    let (client, mut server) = streams().await;
    client.reset(CloseCode::POLICY);
    let error = server.next().await.unwrap().unwrap_err();
    assert!(error.is_closed());
    let expected = CloseFrame::new(CloseCode::POLICY, "");
    assert_eq!(error.close_frame(), Some(&expected));
    assert_closed(&mut server, Some(&expected)).await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_close_is_given_up_after_the_limit() {
    let (mut client, _server) = streams_with([Limits::new().close(Duration::from_millis(50)); 2]).await;
    let error = client.close(Some(frame())).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("50ms"), "{error}");
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn the_sink_of_a_split_gives_up_a_close_though_nobody_polls_the_reading_half() {
    let (client, _server) = streams_with([Limits::new().close(Duration::from_millis(50)); 2]).await;
    let (mut sink, _stream) = TransportExt::into_split(client);
    // More than the peer's window.
    sink.feed(Message::binary(vec![0; 3 << 20])).await.unwrap();
    let error = sink.close().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("50ms (Limits::close)"), "{error}");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_and_says_so_to_both() {
    let (mut client, mut server) = streams_with([Limits::default(), Limits::new().message(10)]).await;
    client.send(Message::text("x".repeat(11))).await.unwrap();
    let error = server.next().await.unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("Limits::message"), "{error}");
    assert!(server.next().await.is_none());
    let error = client.next().await.unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TOO_BIG);
}

#[tokio::test]
async fn an_outgoing_message_over_the_limit_costs_that_message_alone() {
    let (mut client, mut server) = streams_with([Limits::new().message(10), Limits::default()]).await;
    assert!(client.send(Message::text("x".repeat(11))).await.unwrap_err().is_too_large());
    assert!(client.send(Message::Ping(vec![0; 126].into())).await.unwrap_err().is_too_large());
    client.send(Message::text("short")).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("short"));
}

#[tokio::test]
async fn the_close_of_a_session_reaches_its_streams_and_the_peer_with_code_and_reason() {
    for client_closes in [true, false] {
        let (client, server) = sessions().await;
        let (a, b) = tokio::join!(client.open(), server.accept());
        let (closing, closed, stream) = if client_closes { (client, server, b) } else { (server, client, a) };
        let mut stream = stream.unwrap();
        closing.close(frame());
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(error.is_closed());
        assert_eq!(error.close_frame(), Some(&frame()), "{error}");
        assert_eq!(stream.close_frame(), Some(&frame()));
        assert_closed(&mut stream, Some(&frame())).await;

        let error = closed.closed().await;
        assert!(error.is_closed());
        assert_eq!(error.close_frame(), Some(&frame()));
        for error in [closed.open().await.unwrap_err(), closed.accept_uni().await.unwrap_err()] {
            assert!(error.is_closed());
            assert_eq!(error.close_frame(), Some(&frame()));
        }
        let error = closing.closed().await;
        assert!(error.is_closed() && error.close_frame().is_none(), "it was not the peer who closed");
    }
}

/// The peer waits three round trips, at least 100 ms, before it ends the connection as well: a process that stalled for
/// longer reads both at once. The worker of a runtime runs the task first that was woken last.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_close_that_is_read_together_with_the_end_of_the_connection_keeps_code_and_reason() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let (go, closes) = tokio::sync::oneshot::channel();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = connector(hash).connect_session(request(address, "/")).await.unwrap().into_body();
            let mut stream = session.open().await.unwrap();
            stream.send(Message::text("here")).await.unwrap();
            closes.await.unwrap();
            session.close(frame());
            session.closed().await;
        });
    });
    let session = server.accept().await.unwrap().accept().await.unwrap();
    let mut stream = session.accept().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Message::text("here"));
    let closed = tokio::spawn({
        let session = session.clone();
        async move { session.closed().await }
    });
    let read = tokio::spawn(async move { stream.next().await.unwrap().unwrap_err() });
    let mut siblings = tokio::task::JoinSet::new();
    let each = session.clone();
    siblings.spawn(async move { each.accept().await.unwrap_err() });
    let each = session.clone();
    siblings.spawn(async move { each.accept_uni().await.unwrap_err() });
    let mut up = session.open_uni().await.unwrap();
    // More than the peer's window.
    siblings.spawn(async move { up.send(Message::binary(vec![0; 3 << 20])).await.unwrap_err() });
    let mut datagrams = session.datagrams();
    let datagram = tokio::spawn(async move { datagrams.next().await.unwrap().unwrap() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stall = tokio::spawn(async move {
        go.send(()).unwrap();
        client.join().unwrap();
    });
    stall.await.unwrap();
    assert_eq!(datagram.await.unwrap(), Message::Close(Some(frame())));
    let mut errors = siblings.join_all().await;
    errors.extend([closed.await.unwrap(), read.await.unwrap(), session.closed().await]);
    errors.push(session.open().await.unwrap_err());
    for error in errors {
        assert!(error.is_closed());
        assert_eq!(error.close_frame(), Some(&frame()), "{error:?}");
    }
}

#[tokio::test]
async fn both_halves_of_datagrams_name_the_close_of_the_session() {
    let (client, server) = sessions().await;
    let mut datagrams = server.datagrams();
    // A close frame has no form as a datagram: it is rejected, and the sink goes on.
    let error = datagrams.send(Message::Close(Some(frame()))).await.unwrap_err();
    assert!(error.is_config() && error.is_rejection(), "{error:?}");
    datagrams.send(Message::text("still open")).await.unwrap();
    assert_eq!(client.datagrams().next().await.unwrap().unwrap(), Message::binary("still open"));

    client.close(frame());
    assert_eq!(datagrams.next().await.unwrap().unwrap(), Message::Close(Some(frame())));
    assert!(datagrams.next().await.is_none());
    let error = datagrams.send(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed() && !error.is_rejection(), "{error:?}");
    assert_eq!(error.close_frame(), Some(&frame()));
}

#[tokio::test]
async fn a_closed_sink_of_datagrams_leaves_the_session_open() {
    let (client, server) = sessions().await;
    let mut datagrams = server.datagrams();
    datagrams.close_with(frame()).await.unwrap();
    assert!(datagrams.send(Message::text("late")).await.unwrap_err().is_closed());
    client.datagrams().send(Message::text("in")).await.unwrap();
    assert_eq!(datagrams.next().await.unwrap().unwrap(), Message::binary("in"), "the stream goes on");
    let (stream, peer) = tokio::join!(client.open(), server.accept());
    drop((stream.unwrap(), peer.unwrap()));
}

#[tokio::test]
async fn only_the_first_close_of_a_session_counts() {
    let (client, server) = sessions().await;
    client.close(frame());
    client.close(CloseFrame::new(CloseCode::NORMAL, "again"));
    assert_eq!(server.closed().await.close_frame(), Some(&frame()));
}

#[tokio::test]
async fn a_session_lasts_as_long_as_the_last_handle_or_stream() {
    let (client, server) = sessions().await;
    let (stream, peer) = tokio::join!(client.open(), server.accept());
    let (mut stream, mut peer) = (stream.unwrap(), peer.unwrap());
    drop(client);
    stream.send("the session is in the stream".into()).await.unwrap();
    assert!(peer.next().await.unwrap().is_ok());
    drop(stream);
    let error = server.closed().await;
    assert!(error.is_closed() && error.close_frame().is_none(), "{error}");
}

#[tokio::test]
async fn a_peer_of_which_nothing_comes_is_gone_after_the_idle_time() {
    let limits = SessionLimits::new().idle(Duration::from_millis(300)).keep_alive(Duration::ZERO);
    let (client, server) = sessions_with([Limits::default(); 2], limits).await;
    let (a, b) = tokio::join!(client.closed(), server.closed());
    for error in [a, b] {
        assert!(error.is_closed(), "{error:?}");
    }
}
