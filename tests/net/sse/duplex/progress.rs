//! Bytes of messages that are not whole yet: the layers above see that they move.

use std::{
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use futures_util::{Sink, Stream};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::{
        signal::{self, Mark},
        sse::{SseDuplex, SseDuplexConnector},
    },
};

use super::{
    called, connect,
    fake::{Fake, NOT_FOUND},
    within,
};

/// Polls the stream, which has nothing yet, and says whether something moved.
fn moves(session: &mut SseDuplex) -> bool {
    let mark = Mark::now();
    let next = Pin::new(session).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(next.is_pending(), "{next:?}");
    mark.has_moved()
}

#[tokio::test(start_paused = true)]
async fn a_server_sees_a_message_that_comes_in_slowly() {
    const PIECE: &[u8] = &[7; 1000];

    let mut server = called::server(Limits::default());
    let (_stream, token, mut session) = server.open().await;
    moves(&mut session);
    assert!(!moves(&mut session));
    let mut head = BytesMut::new();
    head.put_u8(1);
    head.put_u32(0x8000_0000 | 1_000_000);
    let head: &'static [u8] = Box::leak(head.to_vec().into());
    let pieces = std::iter::once(head).chain([PIECE; 5]).collect();
    let post = server.post(&token, 0, called::trickle(pieces, Duration::from_secs(5)));
    let watch = async {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(5001)).await;
            assert!(moves(&mut session));
            assert!(!moves(&mut session), "what was reported is not reported again");
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!moves(&mut session));
    };
    tokio::select! {
        answer = post => panic!("{answer:?}"),
        () = watch => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_sees_a_message_that_goes_out_slowly() {
    let mut server = called::server(Limits::default());
    let (mut stream, _, mut session) = server.open().await;
    moves(&mut session);
    let flush = session.send_message(Message::text("x".repeat(100_000)));
    assert!(futures_util::FutureExt::now_or_never(flush).is_none());
    assert!(!moves(&mut session));
    for _ in 0..3 {
        called::next_frame(&mut stream).await.unwrap();
        assert!(moves(&mut session));
        assert!(!moves(&mut session));
    }
}

#[tokio::test]
async fn a_client_sees_a_message_that_comes_in_slowly_and_no_progress_in_comments() {
    let fake = Fake::start(|_| NOT_FOUND).await;
    let mut client = connect(SseDuplexConnector::new(), fake.address).await;
    for bytes in ["data: beg", "in"] {
        fake.events.send(bytes).unwrap();
        within(async {
            while !moves(&mut client) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    fake.events.send("\n\n").unwrap();
    assert_eq!(within(client.receive_message()).await.unwrap().unwrap(), Message::text("begin"));
    fake.events.send(":\n\n").unwrap();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!moves(&mut client));
    }
}

#[tokio::test]
async fn each_end_closes_with_the_frame_that_is_asked_for() {
    let frame = CloseFrame::new(CloseCode::RESTART, "new version");
    for client_closes in [true, false] {
        let (client, server) = super::pair().await;
        let (mut near, mut far) = if client_closes { (client, server) } else { (server, client) };
        let close = std::future::poll_fn(|cx| {
            let mut near = Pin::new(&mut near);
            let _ = signal::with_close_frame(Some(&frame), || near.as_mut().poll_close(cx));
            near.poll_next(cx)
        });
        let read = async {
            let message = far.receive_message().await.unwrap().unwrap();
            // The answer.
            assert!(far.receive_message().await.is_none());
            message
        };
        let (echo, message) = within(futures_util::future::join(close, read)).await;
        assert_eq!(message, Message::Close(Some(frame.clone())));
        assert_eq!(echo.unwrap().unwrap(), Message::Close(Some(frame.clone())));
    }
}
