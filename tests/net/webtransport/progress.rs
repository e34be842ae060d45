//! The signals to the layers above: bytes that move, and a requested close.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt, future::join};
use tokio::net::UdpSocket;
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message,
    transport::{
        signal::{self, Mark},
        webtransport::{SessionLimits, WebTransportStream},
    },
};

use crate::webtransport::support::{connector, request, server, sessions_with, streams};

/// Polls the stream, which has nothing yet, and says whether something moved.
fn moves(stream: &mut WebTransportStream) -> bool {
    let mark = Mark::now();
    let next = Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(next.is_pending(), "{next:?}");
    mark.has_moved()
}

/// A line to `server` that takes a packet every few milliseconds.
async fn slow_line(server: SocketAddr) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(server).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut there) => {
                    // The connector asks from another port whether somebody listens.
                    if length > 0 {
                        client = Some(from);
                        let _ = far.send(&there[..length]).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                Ok(length) = far.recv(&mut back) => {
                    if let Some(client) = client {
                        let _ = near.send_to(&back[..length], client).await;
                    }
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn what_quic_sends_of_a_message_that_it_has_taken_is_progress() {
    let (mut server, hash) = server();
    let line = slow_line(server.local_addr().unwrap()).await;
    let connector = connector(hash);
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (client, server) = tokio::join!(connector.connect_session(request(line, "/")), accept);
    let client = client.unwrap().into_body();
    let (client, server) = tokio::join!(client.open(), server.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send(Message::binary(vec![7; 500_000])).await.unwrap();
    moves(&mut client);
    let watch = async {
        let mut times = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            times += usize::from(moves(&mut client));
            if times == 10 {
                return;
            }
        }
    };
    let mut pieces = 0;
    let read = poll_fn(|cx| {
        let mark = Mark::now();
        let next = server.poll_next_unpin(cx);
        pieces += usize::from(mark.has_moved());
        next
    });
    let ((), message) = tokio::time::timeout(Duration::from_secs(30), join(watch, read)).await.unwrap();
    assert_eq!(message.unwrap().unwrap().len(), 500_000);
    assert!(pieces > 1, "{pieces}");
}

#[tokio::test]
async fn a_stream_closes_with_the_frame_that_is_asked_for() {
    let frame = CloseFrame::new(CloseCode::RESTART, "new version");
    let (mut client, mut server) = streams().await;
    let close = poll_fn(|cx| {
        let mut client = Pin::new(&mut client);
        let _ = signal::with_close_frame(Some(&frame), || client.as_mut().poll_close(cx));
        client.poll_next(cx)
    });
    let read = async {
        let message = server.next().await.unwrap().unwrap();
        assert!(server.next().await.is_none());
        message
    };
    let (echo, message) = join(close, read).await;
    assert_eq!(message, Message::Close(Some(frame.clone())));
    assert_eq!(echo.unwrap().unwrap(), Message::Close(Some(frame)));
}

#[tokio::test]
async fn a_stream_of_one_direction_closes_with_the_frame_that_is_asked_for() {
    let frame = CloseFrame::new(CloseCode::RESTART, "new version");
    let (client, server) = sessions_with([Limits::default(); 2], SessionLimits::default()).await;
    let (mut send, mut receive) = (client.open_uni().await.unwrap(), server.accept_uni().await.unwrap());
    poll_fn(|cx| signal::with_close_frame(Some(&frame), || Pin::new(&mut send).poll_close(cx))).await.unwrap();
    assert_eq!(receive.next().await.unwrap().unwrap(), Message::Close(Some(frame.clone())));

    let (mut send, mut receive) = (client.open_uni().await.unwrap(), server.accept_uni().await.unwrap());
    poll_fn(|cx| signal::with_close_frame(Some(&frame), || Pin::new(&mut receive).poll_close(cx))).await.unwrap();
    let error = send.next().await.unwrap().unwrap_err();
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::RESTART);
}

#[tokio::test]
async fn what_may_not_be_sent_is_a_rejection_and_the_stream_goes_on() {
    let limits = Limits::new().message(1000);
    let (client, server) = sessions_with([limits; 2], SessionLimits::default()).await;
    let (client, server) = tokio::join!(client.open(), server.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    for message in [Message::binary(vec![0; 1001]), Message::Ping(vec![0; 126].into())] {
        let error = client.send(message).await.unwrap_err();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    }
    let mut datagrams = client.session().datagrams();
    for message in [Message::binary(vec![0; 100_000]), Message::Ping("".into())] {
        let error = datagrams.send(message).await.unwrap_err();
        assert!(error.is_rejection(), "{error:?}");
    }
    datagrams.send(Message::binary(vec![0; 10])).await.unwrap();
    client.send(Message::text("good")).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("good"));
}
