//! The closing handshake, as it is drawn in `src/transport/closing.rs`.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    test_util::WakeCount,
    transport::{signal::with_close_frame, websocket::WebSocket},
};

type Socket = WebSocket<DuplexStream>;

fn pair() -> (Socket, Socket) {
    let (a, b) = duplex(64 * 1024);
    (WebSocket::client(a, Limits::default()), WebSocket::server(b, Limits::default()))
}

fn frame() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4001).unwrap(), "enough")
}

async fn rest(socket: &mut Socket) -> Vec<Message> {
    socket.map(|message| message.unwrap()).collect().await
}

async fn assert_closed(socket: &mut Socket, by: Option<&CloseFrame>) {
    assert!(socket.next().await.is_none(), "the stream stays at its end");
    let error = socket.send(Message::text("late")).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(error.close_frame(), by);
    socket.flush().await.unwrap();
    SinkExt::close(socket).await.unwrap();
}

#[tokio::test]
async fn a_close_by_either_end_reaches_the_other_with_code_and_reason() {
    for client_closes in [true, false] {
        let (mut client, mut server) = pair();
        let (closing, closed) = if client_closes { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let (answer, seen) = tokio::join!(closing.close(Some(frame())), rest(closed));
        assert_eq!(seen, [Message::Close(Some(frame()))]);
        assert_eq!(answer.unwrap(), Some(frame()), "the answer echoes the code");
        assert_eq!(closed.close_frame(), Some(&frame()));
        assert_closed(closing, Some(&frame())).await;
        assert_closed(closed, Some(&frame())).await;
    }
}

/// A frame as a peer of this role sends it; a mask of zeros leaves the payload as it is.
fn raw(is_client: bool, first: u8, payload: &[u8]) -> Vec<u8> {
    let (flag, mask) = if is_client { (0x80, &[0; 4][..]) } else { (0, &[][..]) };
    [&[first, flag | payload.len() as u8], mask, payload].concat()
}

#[tokio::test]
async fn every_code_that_may_be_sent_arrives_with_the_peers_own_words_and_is_echoed() {
    for is_client in [true, false] {
        for number in [1000..=1003, 1007..=1014, 3000..=3001, 4998..=4999].into_iter().flatten() {
            let (near, mut far) = duplex(1024);
            let limits = Limits::default();
            let mut socket = if is_client { WebSocket::server(near, limits) } else { WebSocket::client(near, limits) };
            let payload = [&u16::to_be_bytes(number)[..], "wörds".as_bytes()].concat();
            // In two pieces, cut within the code.
            let bytes = raw(is_client, 0x88, &payload);
            let cut = bytes.len() - payload.len() + 1;
            far.write_all(&bytes[..cut]).await.unwrap();
            assert!(socket.next().now_or_never().is_none());
            far.write_all(&bytes[cut..]).await.unwrap();
            let said = CloseFrame::new(CloseCode::new(number).unwrap(), "wörds");
            assert_eq!(rest(&mut socket).await, [Message::Close(Some(said.clone()))]);
            assert_eq!(socket.close_frame(), Some(&said));
            drop(socket);
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.unwrap();
            if !is_client {
                let (head, masked) = answer.split_at(6);
                answer = [&[head[0], head[1] & 0x7f], &*unmask(masked, &head[2..])].concat();
            }
            assert_eq!(answer, raw(false, 0x88, &payload), "{number}: one answer, and the same code");
        }
    }
}

fn unmask(bytes: &[u8], mask: &[u8]) -> Vec<u8> {
    bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

#[tokio::test]
async fn two_ends_say_1014_to_each_other() {
    let frame = CloseFrame::new(CloseCode::new(1014).unwrap(), "bad gateway");
    let (mut client, mut server) = pair();
    let (answer, seen) = tokio::join!(client.close(Some(frame.clone())), rest(&mut server));
    assert_eq!((answer.unwrap(), seen), (Some(frame.clone()), vec![Message::Close(Some(frame))]));
}

#[tokio::test]
async fn an_answer_to_our_close_with_a_code_that_may_not_be_sent_is_an_error_that_names_it() {
    let (near, mut far) = duplex(1024);
    let mut client = WebSocket::client(near, Limits::default());
    client.send(Message::Close(None)).await.unwrap();
    far.write_all(&raw(false, 0x88, &1015_u16.to_be_bytes())).await.unwrap();
    drop(far);
    let error = client.next().await.unwrap().unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("1015"), "{error}");
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn no_reason_is_too_long_for_a_close_frame() {
    let (mut client, mut server) = pair();
    let long = CloseFrame::new(CloseCode::NORMAL, "é".repeat(35_000));
    let (answer, seen) = tokio::join!(client.close(Some(long)), rest(&mut server));
    let cut = CloseFrame::new(CloseCode::NORMAL, "é".repeat(61));
    assert_eq!((answer.unwrap(), seen), (Some(cut.clone()), vec![Message::Close(Some(cut))]));
}

#[tokio::test]
async fn poll_close_sends_the_close_frame_that_its_caller_asks_for() {
    let (mut client, mut server) = pair();
    let close = poll_fn(|cx| with_close_frame(Some(&frame()), || client.poll_close_unpin(cx)));
    close.await.unwrap();
    assert_eq!(rest(&mut server).await, [Message::Close(Some(frame()))]);
    // Once it is closing there is nothing more to say.
    let other = CloseFrame::new(CloseCode::AWAY, "");
    poll_fn(|cx| with_close_frame(Some(&other), || client.poll_close_unpin(cx))).await.unwrap();
    assert_eq!(rest(&mut client).await, [Message::Close(Some(frame()))]);
}

#[tokio::test]
async fn a_close_without_a_code_is_clean_too() {
    let (mut client, mut server) = pair();
    let (answer, seen) = tokio::join!(client.close(None), rest(&mut server));
    assert_eq!((answer.unwrap(), seen), (None, vec![Message::Close(None)]));
    assert_closed(&mut server, None).await;
}

#[tokio::test]
async fn both_may_close_at_once() {
    let (mut client, mut server) = pair();
    let (a, b) = tokio::join!(client.close(Some(frame())), server.close(None));
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn after_our_close_frame_nothing_is_sent_but_what_comes_in_is_still_read() {
    let (mut client, mut server) = pair();
    server.send(Message::text("on its way")).await.unwrap();
    client.send(Message::Close(Some(frame()))).await.unwrap();
    assert!(client.send(Message::text("late")).await.unwrap_err().is_closed());
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("on its way"));
    rest(&mut server).await;
    assert_eq!(rest(&mut client).await, [Message::Close(Some(frame()))]);
}

#[tokio::test]
async fn what_was_accepted_goes_out_before_the_close_frame() {
    let (mut client, mut server) = pair();
    for text in ["a", "b"] {
        client.feed(Message::text(text)).await.unwrap();
    }
    SinkExt::close(&mut client).await.unwrap();
    let normal = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
    assert_eq!(rest(&mut server).await, [Message::text("a"), Message::text("b"), normal]);
}

#[tokio::test]
async fn a_peer_that_vanishes_is_an_error_and_then_the_end() {
    let (mut client, server) = pair();
    drop(server);
    assert!(client.next().await.unwrap().unwrap_err().is_closed());
    assert!(client.next().await.is_none());
    assert!(client.send(Message::text("late")).await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_close_is_cut_after_the_limit() {
    let (near, _far) = duplex(1024);
    let mut client = WebSocket::client(near, Limits::new().close(Duration::from_secs(3)));
    let start = tokio::time::Instant::now();
    let error = client.close(Some(frame())).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("3s"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3, "on the paused clock");
    assert!(client.next().await.is_none());
}

/// Carries bytes at 34 KB a second, and says when the last one was carried.
async fn carry_slowly(mut from: DuplexStream, mut to: DuplexStream) {
    let mut chunk = [0; 3400];
    loop {
        tokio::select! {
            read = from.read(&mut chunk) => match read {
                Ok(length @ 1..) => {
                    let _ = to.write_all(&chunk[..length]).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => break,
            },
            back = async { let mut chunk = [0; 100]; to.read(&mut chunk).await.map(|length| chunk[..length].to_vec()) } => {
                match back {
                    Ok(back) if !back.is_empty() => { let _ = from.write_all(&back).await; }
                    _ => break,
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_megabytes_on_a_slow_line_takes_as_long_as_they_do() {
    for by_sink in [false, true] {
        let ((near, a), (b, far)) = (duplex(16 * 1024), duplex(16 * 1024));
        tokio::spawn(carry_slowly(a, b));
        let mut server = WebSocket::server(near, Limits::default());
        let mut client = WebSocket::client(far, Limits::default());
        let received = tokio::spawn(async move { rest(&mut client).await });
        server.feed(Message::binary(vec![7; 3_500_000])).await.unwrap();
        let start = tokio::time::Instant::now();
        if by_sink {
            let (mut sink, mut stream) = TransportExt::into_split(server);
            sink.close().await.unwrap();
            while stream.next().await.is_some_and(|message| message.is_ok()) {}
        } else {
            server.close(Some(frame())).await.unwrap();
        }
        assert!(start.elapsed() > Duration::from_secs(100), "{:?}", start.elapsed());
        let received = received.await.unwrap();
        assert_eq!(received.len(), 2, "the message and the close frame");
        assert_eq!(received[0].len(), 3_500_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_byte_now_and_then_delays_the_close_sixteen_times_the_limit_at_most() {
    let (near, mut far) = duplex(16);
    tokio::spawn(async move {
        while far.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut server = WebSocket::server(near, Limits::default());
    server.feed(Message::binary(vec![7; 100_000])).await.unwrap();
    let start = tokio::time::Instant::now();
    let error = server.close(Some(frame())).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("10s"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 160);
}

#[tokio::test(start_paused = true)]
async fn the_sink_of_a_split_gives_up_a_close_though_nobody_polls_the_reading_half() {
    let (near, _far) = duplex(64);
    let (mut sink, _stream) =
        TransportExt::into_split(WebSocket::client(near, Limits::new().close(Duration::from_secs(3))));
    sink.feed(Message::binary(vec![0; 1000])).await.unwrap();
    let start = tokio::time::Instant::now();
    let error = sink.close().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("3s (Limits::close)"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_reading_half_that_waits_ends_when_the_other_half_has_closed_and_the_peer_is_silent() {
    let (near, _far) = duplex(1024);
    let (mut sink, mut stream) =
        TransportExt::into_split(WebSocket::client(near, Limits::new().close(Duration::from_secs(3))));
    let reader = tokio::spawn(async move { stream.next().await });
    tokio::task::yield_now().await;
    sink.close().await.unwrap();
    let error = reader.await.unwrap().unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[tokio::test]
async fn once_both_close_frames_are_exchanged_nobody_waits_for_the_other_to_end_the_socket() {
    let (near, mut far) = duplex(1024);
    let mut client = WebSocket::client(near, Limits::default());
    far.write_all(&[0x88, 0]).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(None));
    assert!(client.next().await.is_none());
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 6, "an empty close frame, masked, then the end of what the client sends");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_close_that_cannot_be_written_is_given_up_after_the_limit() {
    let (near, far) = duplex(256);
    let (mut client, mut far) = (WebSocket::client(near, Limits::default()), far);
    client.start_send_unpin(Message::binary(vec![0; 1000])).unwrap();
    assert!(client.flush().now_or_never().is_none(), "the peer does not read");
    far.write_all(&[0x88, 0]).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(None));
    let start = tokio::time::Instant::now();
    assert!(client.next().await.is_none());
    assert_eq!(start.elapsed(), Limits::default().close, "on the paused clock");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_protocol_is_told_and_heard_out_and_then_it_is_an_error() {
    let (near, mut far) = duplex(1024);
    let mut server = WebSocket::server(near, Limits::default());
    // A frame that a client must mask, and did not.
    far.write_all(&[0x81, 1, b'x']).await.unwrap();
    assert!(server.next().now_or_never().is_none());
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 0x88, "a close frame, then the end of what the server sends");
    assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), CloseCode::PROTOCOL.get());
    drop(far);
    let error = server.next().await.unwrap().unwrap_err();
    assert!(error.is_protocol(), "{error:?}");
    assert!(server.next().await.is_none());
    assert!(server.send(Message::text("late")).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn over_a_limit_the_peer_is_closed_with_1009_and_the_error_names_the_limit() {
    for (limits, what) in [(Limits::new().message(10), "10 bytes"), (Limits::new().frame(10), "10 bytes")] {
        let (a, b) = duplex(1024);
        let (mut client, mut server) = (WebSocket::client(a, Limits::default()), WebSocket::server(b, limits));
        client.send(Message::text("x".repeat(11))).await.unwrap();
        let (error, seen) = tokio::join!(server.next(), client.close(None));
        let error = error.unwrap().unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains(what), "{error}");
        assert_eq!(seen.unwrap().unwrap().code(), CloseCode::TOO_BIG);
    }
}

#[tokio::test]
async fn an_outgoing_message_over_the_limit_costs_that_message_alone() {
    let (a, b) = duplex(1024);
    let mut client = WebSocket::client(a, Limits::new().message(10));
    let mut server = WebSocket::server(b, Limits::default());
    assert!(client.send(Message::text("x".repeat(11))).await.unwrap_err().is_too_large());
    assert!(client.send(Message::Ping(vec![0; 126].into())).await.unwrap_err().is_too_large());
    client.send(Message::text("short")).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("short"));
}

#[tokio::test]
async fn a_message_over_the_frame_limit_is_sent_in_fragments_that_the_peer_takes() {
    let limits = Limits::new().frame(1000);
    let (a, b) = duplex(64 * 1024);
    let (mut client, mut server) = (WebSocket::client(a, limits), WebSocket::server(b, limits));
    for size in [999, 1000, 1001, 2000, 30_001] {
        let message = Message::text("é".repeat(size));
        client.send(message.clone()).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_makes_the_sink_pending_within_the_bound() {
    let (a, _b) = duplex(1024);
    let mut client = WebSocket::client(a, Limits::new().write_buffer(10_000));
    let mut sent = 0;
    while let Some(ready) = std::future::poll_fn(|cx| client.poll_ready_unpin(cx)).now_or_never() {
        ready.unwrap();
        client.start_send_unpin(Message::binary(vec![0; 1000])).unwrap();
        sent += 1000;
        assert!(sent < 20_000, "the write buffer has no bound");
    }
    assert!(sent >= 10_000);
}

#[tokio::test]
async fn a_reader_that_answers_a_ping_over_a_full_socket_does_not_take_the_writers_wake_up() {
    let (near, far) = duplex(256);
    let mut server = WebSocket::server(near, Limits::default());
    let mut client = WebSocket::client(far, Limits::default());

    // The writer fills the socket, and waits.
    let writer = Arc::new(WakeCount::default());
    let waker = writer.clone().into();
    server.start_send_unpin(Message::binary(vec![0; 1000])).unwrap();
    assert!(Pin::new(&mut server).poll_flush(&mut Context::from_waker(&waker)).is_pending());

    // The reader gets a ping, and waits to write the answer: its waker takes the place of the writer's.
    client.send(Message::Ping("?".into())).await.unwrap();
    assert!(matches!(server.next().now_or_never(), Some(Some(Ok(Message::Ping(_))))));
    let reader = Arc::new(WakeCount::default());
    let waker = reader.clone().into();
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut server).poll_next(&mut cx).is_pending());

    // The peer reads, and the reader alone goes on: in the end the writer is woken, and done.
    for _ in 0..100 {
        let _ = client.next().now_or_never();
        assert!(Pin::new(&mut server).poll_next(&mut cx).is_pending());
        if writer.get() > 0 {
            assert!(reader.get() > 0);
            assert!(matches!(Pin::new(&mut server).poll_flush(&mut cx), Poll::Ready(Ok(()))));
            return;
        }
    }
    panic!("the writer was forgotten");
}

#[tokio::test]
async fn a_pong_that_a_full_write_buffer_held_back_leaves_with_the_next_flush() {
    let (near, far) = duplex(256);
    let mut server = WebSocket::server(near, Limits::new().write_buffer(1));
    let mut client = WebSocket::client(far, Limits::default());
    server.start_send_unpin(Message::binary(vec![0; 1000])).unwrap();
    client.send(Message::Ping("?".into())).await.unwrap();
    assert!(matches!(server.next().now_or_never(), Some(Some(Ok(Message::Ping(_))))));

    let (flushed, data) = tokio::join!(server.flush(), client.next());
    flushed.unwrap();
    assert_eq!(data.unwrap().unwrap().len(), 1000);
    assert_eq!(client.next().now_or_never().unwrap().unwrap().unwrap(), Message::Pong("?".into()));
}

#[tokio::test]
async fn the_halves_of_a_split_work_from_two_tasks() {
    let (client, server) = pair();
    let (mut sink, mut stream) = TransportExt::into_split(client);
    let echo = tokio::spawn(async move {
        let (mut sink, mut stream) = TransportExt::into_split(server);
        while let Some(Ok(message)) = stream.next().await {
            if message.is_data() {
                sink.send(message).await.unwrap();
            }
        }
    });
    let writer = tokio::spawn(async move {
        for i in 0..1000 {
            sink.send(Message::binary(vec![0; i * 10])).await.unwrap();
        }
        sink
    });
    for i in 0..1000 {
        assert_eq!(stream.next().await.unwrap().unwrap().len(), i * 10);
    }
    let mut sink = writer.await.unwrap();
    sink.close().await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().is_close());
    assert!(stream.next().await.is_none());
    echo.await.unwrap();
}
