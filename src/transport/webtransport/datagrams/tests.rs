use std::net::Ipv4Addr;

use futures_util::{FutureExt, SinkExt, StreamExt, future::poll_fn};
use http::Request;
use tower::ServiceBuilder;

use super::*;
use crate::{
    CloseCode, CloseFrame, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer},
};

/// Returns the two ends of a session over loopback.
async fn sessions() -> (Session, Session) {
    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let uri = format!("https://127.0.0.1:{}/", server.local_addr().unwrap().port());
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (near, far) = tokio::join!(connector.connect_session(Request::get(uri).body(()).unwrap()), accept);
    (near.unwrap().into_body(), far)
}

async fn pair() -> (Datagrams, Datagrams) {
    let (near, far) = sessions().await;
    (near.datagrams(), far.datagrams())
}

fn nth(i: usize) -> Message {
    Message::binary(format!("number {i}").into_bytes())
}

/// The part of the contract that holds for a lossy transport: it guarantees neither order nor backpressure from a peer
/// that does not read.
mod contract {
    use super::*;
    use crate::test_util::contract::{Check, Contract};

    /// A transport whose `poll_close` also closes the session, so that the peer sees the end of datagrams.
    struct WithSession(Datagrams);

    impl Sink<Message> for WithSession {
        type Error = Error;

        fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            self.0.poll_ready_unpin(cx)
        }

        fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
            self.0.start_send_unpin(message)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            self.0.poll_flush_unpin(cx)
        }

        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            ready!(self.0.poll_close_unpin(cx))?;
            self.0.session.close(CloseFrame::new(CloseCode::NORMAL, ""));
            Poll::Ready(Ok(()))
        }
    }

    impl Stream for WithSession {
        type Item = Result<Message, Error>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_next_unpin(cx)
        }
    }

    async fn check(check: Check) {
        let pair = async || {
            let (near, far) = pair().await;
            (WithSession(near), WithSession(far))
        };
        let patience = || tokio::time::sleep(std::time::Duration::from_secs(30));
        Contract::new(pair, nth).room(16).patience(patience).check(check).await;
    }

    #[tokio::test]
    async fn readiness() {
        check(Check::Readiness).await;
    }

    #[tokio::test]
    async fn flush() {
        check(Check::Flush).await;
    }

    #[tokio::test]
    async fn cancellation() {
        check(Check::Cancellation).await;
    }

    #[tokio::test]
    async fn wake_ups() {
        check(Check::WakeUps).await;
    }

    #[tokio::test]
    async fn close() {
        check(Check::Close).await;
    }

    #[tokio::test]
    async fn cut() {
        check(Check::Cut).await;
    }
}

#[tokio::test]
async fn text_arrives_as_binary_and_a_json_codec_reads_it() {
    let (mut near, far) = pair().await;
    near.send_message(Message::text("[7,\"seven\"]")).await.unwrap();
    let mut far = ServiceBuilder::new().codec(JsonCodec::<(u32, String)>::new()).service(far);
    assert_eq!(far.receive_message().await.unwrap().unwrap(), (7, "seven".to_owned()));
    far.send_message((8, "eight".to_owned())).await.unwrap();
    assert_eq!(near.receive_message().await.unwrap().unwrap(), Message::binary("[8,\"eight\"]"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_alone() {
    let (mut near, mut far) = pair().await;
    // The path is probed for a larger limit meanwhile: it may grow, and does not shrink.
    let limit = near.max_size();
    assert!((1_000..=65_000).contains(&limit), "{limit}");
    let error = near.send_message(Message::binary(vec![0; 65_536])).await.unwrap_err();
    assert!(error.is_too_large(), "{error}");
    near.send_message(Message::binary(vec![1; limit])).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap().len(), limit);
    near.send_message(Message::binary("")).await.unwrap();
    assert!(far.receive_message().await.unwrap().unwrap().is_empty());
    let counts = near.counts();
    assert_eq!((counts.sent(), counts.refused(), counts.dropped()), (2, 1, 0));
    assert_eq!(far.counts().received(), 2);
}

#[tokio::test]
async fn one_byte_over_the_limit_is_too_large() {
    let (mut near, _far) = pair().await;
    poll_fn(|cx| near.poll_ready_unpin(cx)).await.unwrap();
    // Without an await in between the limit stays the same.
    let limit = near.max_size();
    let error = near.start_send_unpin(Message::binary(vec![0; limit + 1])).unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("Datagrams::max_size"), "{error}");
    // The place that poll_ready reserved is still there.
    near.start_send_unpin(Message::binary(vec![0; limit])).unwrap();
}

#[tokio::test]
async fn control_messages_have_no_form_here() {
    let (mut near, mut far) = pair().await;
    let close = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
    for message in [Message::Ping(Bytes::new()), Message::Pong(Bytes::new()), close] {
        assert!(near.send_message(message).await.unwrap_err().is_config());
    }
    near.send_message(nth(0)).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap(), nth(0));
    assert_eq!(near.counts().refused(), 3);
}

#[tokio::test]
async fn start_send_without_readiness_is_an_error_and_drops_nothing() {
    let (mut near, _far) = pair().await;
    assert!(near.start_send_unpin(nth(0)).unwrap_err().is_full());
    poll_fn(|cx| near.poll_ready_unpin(cx)).await.unwrap();
    near.start_send_unpin(nth(0)).unwrap();
    assert!(near.start_send_unpin(nth(1)).unwrap_err().is_full());
}

#[tokio::test]
async fn a_fast_sender_is_paced_and_nothing_is_dropped_before_the_network() {
    let (near, far) = sessions().await;
    let mut datagrams = near.datagrams();
    let message = Message::binary(vec![7; 1_000]);
    // This task does not yield, so QUIC sends nothing and its buffer must fill up.
    let mut accepted = 0_u64;
    while datagrams.feed(message.clone()).now_or_never().is_some_and(|sent| sent.is_ok()) {
        accepted += 1;
        assert!(accepted < 100_000, "nothing is waited for");
    }
    for _ in 0..accepted {
        datagrams.feed(message.clone()).await.unwrap();
    }
    datagrams.flush().await.unwrap();
    let counts = datagrams.counts();
    // The feed that was abandoned for lack of room has sent nothing.
    assert_eq!((counts.sent(), counts.dropped()), (2 * accepted, 0));
    // The newest is sent after all the others.
    while near.stats().datagrams_sent < counts.sent() {
        tokio::task::yield_now().await;
    }
    drop(far);
}

#[tokio::test]
async fn when_the_session_ends_each_accepted_message_counts_as_sent_or_dropped() {
    let (mut near, far) = pair().await;
    let message = Message::binary(vec![7; 1_000]);
    let mut accepted = 0;
    // As above: QUIC's buffer is filled, and the last accepted message does not fit.
    while near.feed(message.clone()).now_or_never().is_some_and(|sent| sent.is_ok()) {
        accepted += 1;
    }
    near.session.close(CloseFrame::new(CloseCode::NORMAL, ""));
    drop(far);
    let error = loop {
        match near.feed(message.clone()).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_closed(), "{error}");
    assert!(near.flush().await.unwrap_err().is_closed());
    assert_eq!(near.counts().sent() + near.counts().dropped(), accepted);
}

#[tokio::test]
async fn datagrams_of_a_foreign_session_are_passed_over_and_counted() {
    let (near, far) = sessions().await;
    let (mut sender, mut far) = (near.datagrams(), far.datagrams());
    let foreign = 96;
    for i in 0..foreign {
        // The second is truncated within the session's number.
        let bytes: &'static [u8] = if i % 2 == 0 { &[4, 1, 2, 3] } else { &[0x40] };
        quinn::Connection::send_datagram(near.quic(), Bytes::from_static(bytes)).unwrap();
    }
    sender.send_message(nth(1)).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap(), nth(1));
    assert_eq!((far.counts().foreign(), far.counts().received()), (foreign, 1));
}

#[tokio::test]
async fn the_end_of_the_session_is_the_end_of_its_datagrams() {
    let (mut near, mut far) = pair().await;
    let frame = CloseFrame::new(CloseCode::new(4000).unwrap(), "until tomorrow");
    far.session.close(frame.clone());
    assert_eq!(near.receive_message().await.unwrap().unwrap(), Message::Close(Some(frame.clone())));
    assert!(near.receive_message().await.is_none());
    assert!(near.receive_message().await.is_none());
    let error = near.send_message(nth(0)).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(error.close_frame(), Some(&frame));
    while far.receive_message().await.is_some() {}
    let error = far.send_message(nth(0)).await.unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_none(), "{error}");
}

#[tokio::test]
async fn a_peer_that_is_lost_is_an_error_and_our_own_close_is_a_plain_end() {
    let (mut near, far) = pair().await;
    quinn::Connection::close(far.session.quic(), 0_u32.into(), b"");
    let error = near.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert!(near.receive_message().await.is_none());

    let (mut near, _far) = pair().await;
    near.session.close(CloseFrame::new(CloseCode::NORMAL, ""));
    assert!(near.receive_message().await.is_none());
}

#[tokio::test]
async fn a_closed_sink_leaves_the_session_open() {
    let (mut near, mut far) = pair().await;
    near.send_message(nth(0)).await.unwrap();
    SinkExt::<Message>::close(&mut near).await.unwrap();
    assert!(near.send_message(nth(1)).await.unwrap_err().is_closed());
    assert_eq!(far.receive_message().await.unwrap().unwrap(), nth(0));
    far.send_message(nth(2)).await.unwrap();
    assert_eq!(near.receive_message().await.unwrap().unwrap(), nth(2));
}
