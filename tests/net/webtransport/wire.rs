//! Bytes that a peer may send that writes the framing by hand, or violates it.

use futures_util::{FutureExt, Stream, StreamExt};
use tower_transport::{CloseCode, Error, Message, transport::webtransport::WebTransportStream};
use web_transport_quinn as wtq;

use crate::webtransport::{
    frames::{BINARY, CLOSE, PREAMBLE, TEXT, frame, head},
    support::raw_session,
};

/// A stream that the peer opened with these bytes.
async fn stream_of(bytes: &[u8]) -> (WebTransportStream, wtq::SendStream, wtq::RecvStream, wtq::Session) {
    let (session, raw) = raw_session().await;
    let (mut send, receive) = raw.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    (session.accept().await.unwrap(), send, receive, raw)
}

#[tokio::test]
async fn the_end_of_the_stream_between_two_messages_is_a_clean_end() {
    let bytes = [&[PREAMBLE][..], &frame(TEXT, b"hello")].concat();
    let (mut stream, mut send, mut receive, _raw) = stream_of(&bytes).await;
    send.finish().unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Message::text("hello"));
    assert!(stream.next().await.is_none());
    assert!(receive.read_to_end(100).await.unwrap().is_empty(), "this end ends too");
}

#[tokio::test]
async fn the_end_of_the_stream_within_a_message_is_an_error() {
    let bytes = [&[PREAMBLE][..], &head(BINARY, 10), b"half"].concat();
    let (mut stream, mut send, _receive, _raw) = stream_of(&bytes).await;
    send.finish().unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("middle of a message"), "{error}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn what_is_not_the_framing_ends_the_stream_and_the_peer_is_told() {
    let over = [&[PREAMBLE][..], &head(BINARY, 1 << 40)].concat();
    for (bytes, code) in [
        (vec![2], CloseCode::PROTOCOL),
        (vec![PREAMBLE, 9, 0], CloseCode::PROTOCOL),
        ([&[PREAMBLE][..], &frame(TEXT, b"\xff")].concat(), CloseCode::PROTOCOL),
        (over, CloseCode::TOO_BIG),
    ] {
        let (mut stream, send, mut receive, _raw) = stream_of(&bytes).await;
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(error.is_protocol() || error.is_too_large(), "{error:?}");
        assert_eq!(send.stopped().await.unwrap(), Some(code.get().into()));
        let reset = receive.read_to_end(100).await.unwrap_err().to_string();
        assert!(reset.contains(&code.get().to_string()), "{reset}");
    }
}

#[tokio::test]
async fn a_close_frame_is_echoed_and_then_the_stream_ends() {
    let close = frame(CLOSE, b"\x0f\xa1enough");
    let (mut stream, mut send, mut receive, _raw) = stream_of(&[&[PREAMBLE][..], &close].concat()).await;
    assert!(stream.next().await.unwrap().unwrap().is_close());
    assert!(stream.next().await.is_none());
    assert_eq!(receive.read_to_end(100).await.unwrap(), close);
    let _ = send.finish();
}

/// Ends a stream some time after its close frame. Returns the code with which it was stopped before.
async fn ended_later(mut send: wtq::SendStream) -> Option<u32> {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let _ = send.finish();
    send.stopped().await.unwrap()
}

/// A unidirectional stream whose close frame was read, and that was dropped then.
async fn closed_and_dropped(close: &[u8]) -> (wtq::SendStream, wtq::Session) {
    let (session, raw) = raw_session().await;
    let mut send = raw.open_uni().await.unwrap();
    send.write_all(close).await.unwrap();
    let mut stream = session.accept_uni().await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().is_close());
    (send, raw)
}

#[tokio::test]
async fn a_stream_that_was_closed_is_not_stopped_before_its_end_has_come() {
    let close = [&[PREAMBLE][..], &frame(CLOSE, b"\x0f\xa1enough")].concat();
    let (send, _raw) = closed_and_dropped(&close).await;
    assert_eq!(ended_later(send).await, None);

    let (mut stream, send, _receive, _raw) = stream_of(&close).await;
    assert!(stream.next().await.unwrap().unwrap().is_close());
    assert!(stream.next().await.is_none());
    drop(stream);
    assert_eq!(ended_later(send).await, None);
}

#[tokio::test]
async fn data_after_a_close_frame_stops_the_stream() {
    let close = [&[PREAMBLE][..], &frame(CLOSE, b"\x0f\xa1enough")].concat();
    let (mut send, _raw) = closed_and_dropped(&close).await;
    send.write_all(&frame(TEXT, b"more")).await.unwrap();
    assert_eq!(send.stopped().await.unwrap(), Some(0));
}

#[tokio::test]
async fn bytes_that_come_one_by_one_make_the_same_messages() {
    let (mut stream, mut send, _receive, _raw) = stream_of(&[PREAMBLE]).await;
    let message = Message::binary(vec![5; 100]);
    let bytes = frame(BINARY, &[5; 100]);
    let writing = async {
        for byte in bytes.chunks(1) {
            send.write_all(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let ((), got) = tokio::join!(writing, stream.next());
    assert_eq!(got.unwrap().unwrap(), message);
}

#[tokio::test]
async fn a_code_that_no_close_frame_has_is_named_in_the_error() {
    let (mut stream, _send, _receive, raw) = stream_of(&[PREAMBLE]).await;
    raw.close(5, b"odd \x1b one");
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_none());
    assert!(error.to_string().contains("code 5 \"odd \\u{1b} one\""), "{error}");
}

/// Takes messages until the stream makes its task wait, or ends. Gives how many they were.
fn taken_in_one_turn(stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) -> usize {
    std::iter::from_fn(|| stream.next().now_or_never().flatten()).map(Result::unwrap).count()
}

/// Takes `count` messages in turns.
async fn turns(stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin), count: usize) -> Vec<usize> {
    let mut turns = Vec::new();
    while turns.iter().sum::<usize>() < count {
        turns.push(taken_in_one_turn(stream));
        tokio::task::yield_now().await;
    }
    turns
}

#[tokio::test]
async fn a_flood_of_empty_messages_lets_other_tasks_run_after_a_thousand() {
    const MESSAGES: usize = 10_000;
    let bytes = [&[PREAMBLE][..], &[BINARY, 0].repeat(MESSAGES)].concat();
    let (mut stream, mut send, _receive, _raw) = stream_of(&bytes).await;
    send.finish().unwrap();
    // All of it has arrived once it is acknowledged.
    send.stopped().await.unwrap();
    let taken = turns(&mut stream, MESSAGES).await;
    assert!(taken.iter().all(|taken| *taken <= 1024), "{taken:?}");
}

#[tokio::test]
async fn so_does_one_on_a_unidirectional_stream() {
    const MESSAGES: usize = 10_000;
    let (session, raw) = raw_session().await;
    let mut send = raw.open_uni().await.unwrap();
    send.write_all(&[&[PREAMBLE][..], &[BINARY, 0].repeat(MESSAGES)].concat()).await.unwrap();
    let mut stream = session.accept_uni().await.unwrap();
    send.finish().unwrap();
    send.stopped().await.unwrap();
    let taken = turns(&mut stream, MESSAGES).await;
    assert!(taken.iter().all(|taken| *taken <= 1024), "{taken:?}");
}

#[tokio::test]
async fn a_large_message_that_has_arrived_is_taken_in_several_polls() {
    let bytes = [&[PREAMBLE][..], &frame(BINARY, &vec![7; 1_000_000])].concat();
    let (mut stream, mut send, _receive, _raw) = stream_of(&bytes).await;
    send.finish().unwrap();
    send.stopped().await.unwrap();
    let mut polls = 0;
    let message = std::future::poll_fn(|cx| {
        polls += 1; // each `Pending` has woken the task: all of it is here
        stream.poll_next_unpin(cx)
    });
    assert_eq!(message.await.unwrap().unwrap().len(), 1_000_000);
    // A packet carries at most 1,452 bytes, and a poll takes at most 256 packets.
    assert!((2..=20).contains(&polls), "{polls}");
}
