//! Bytes that a peer may send that writes the framing by hand, or violates it.

use futures_util::StreamExt;
use tower_transport::{CloseCode, Message, transport::webtransport::WebTransportStream};
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
