//! Messages in the streams of a session.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{
    Limits, Message, QueueConfig, TransportExt, test_util::WakeCount, transport::webtransport::SessionLimits,
};

use crate::webtransport::support::{sessions, sessions_with, streams};

#[tokio::test]
async fn messages_of_every_size_cross_both_ways() {
    let (mut client, mut server) = streams().await;
    let echo = tokio::spawn(async move {
        while let Some(message) = server.next().await {
            let message = message.unwrap();
            if message.is_data() {
                server.send(message).await.unwrap();
            }
        }
    });
    for size in [0usize, 1, 63, 64, 1024, 1025, 16_383, 16_384, 1 << 20, 4 << 20] {
        let message = Message::binary((0..size).map(|i| i as u8).collect::<Vec<u8>>());
        let (mut sink, mut stream) = StreamExt::split(&mut client);
        let (_, got) = tokio::join!(async { sink.send(message.clone()).await.unwrap() }, stream.next());
        assert!(got.unwrap().unwrap() == message, "{size}");
    }
    client.close(None).await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn either_end_opens_streams_and_each_carries_its_own() {
    let (client, server) = sessions().await;
    for (opener, other) in [(&client, &server), (&server, &client)] {
        let streams = opener.create_multiplexed_streams(20).await.unwrap();
        let mut theirs = Vec::new();
        for _ in 0..20 {
            theirs.push(other.accept().await.unwrap());
        }
        for (i, mut stream) in streams.into_iter().enumerate() {
            tokio::spawn(async move {
                stream.send(Message::text(i.to_string())).await.unwrap();
                stream.close(None).await.unwrap();
            });
        }
        let mut seen = Vec::new();
        for stream in &mut theirs {
            seen.push(stream.next().await.unwrap().unwrap().as_text().unwrap().parse::<usize>().unwrap());
            assert!(stream.next().await.unwrap().unwrap().is_close());
            assert!(stream.next().await.is_none());
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_the_others() {
    let (client, server) = sessions().await;
    let (stalled, _unread) = tokio::join!(client.open(), server.accept());
    let mut stalled = stalled.unwrap();
    // Until neither QUIC nor the buffer takes more.
    while poll_fn(|cx| Poll::Ready(stalled.poll_ready_unpin(cx))).await.is_ready() {
        stalled.start_send_unpin(Message::binary(vec![0; 64 * 1024])).unwrap();
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let (stream, peer) = tokio::join!(client.open(), server.accept());
        let (mut stream, mut peer) = (stream.unwrap(), peer.unwrap());
        let sending = async {
            for _ in 0..50 {
                stream.send(Message::binary(vec![1; 64 * 1024])).await.unwrap();
            }
        };
        let receiving = async {
            for _ in 0..50 {
                assert_eq!(peer.next().await.unwrap().unwrap().len(), 64 * 1024);
            }
        };
        tokio::join!(sending, receiving);
    }
}

#[tokio::test]
async fn priorities_are_taken_and_every_stream_is_delivered() {
    let (client, server) = sessions().await;
    let mut streams = client.create_multiplexed_streams(3).await.unwrap();
    for (stream, priority) in streams.iter_mut().zip([i32::MIN, 0, i32::MAX]) {
        stream.set_priority(priority);
        stream.send(Message::binary(vec![0; 100_000])).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(server.accept().await.unwrap().next().await.unwrap().unwrap().len(), 100_000);
    }
    streams[0].close(None).now_or_never();
    streams[0].set_priority(1);
}

#[tokio::test]
async fn a_peer_opens_no_more_streams_than_it_may_and_waits_for_room() {
    let limits = SessionLimits::new().streams(2);
    let (client, server) = sessions_with([Limits::default(); 2], limits).await;
    let streams = client.create_multiplexed_streams(2).await.unwrap();
    let waiting = client.clone();
    let mut third = tokio::spawn(async move { waiting.open().await.unwrap() });
    let (mut first, _second) = (server.accept().await.unwrap(), server.accept().await.unwrap());
    assert!((&mut third).now_or_never().is_none());
    for mut stream in streams {
        let _ = SinkExt::close(&mut stream).await;
    }
    while first.next().await.is_some() {}
    third.await.unwrap();
}

#[tokio::test]
async fn more_streams_than_the_peer_allows_are_an_error_in_time() {
    let limits = SessionLimits::new().streams(2).uni_streams(1);
    let ours = Limits::new().handshake(Duration::from_millis(500));
    let (client, _server) = sessions_with([ours, Limits::default()], limits).await;
    let error = client.create_multiplexed_streams(3).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("SessionLimits::streams"), "{error:?}");
    // HTTP/3 may open three more, of which our client opens one.
    let mut open = Vec::new();
    let error = loop {
        match client.open_uni().await {
            Ok(stream) => open.push(stream),
            Err(error) => break error,
        }
    };
    assert!(open.len() <= 4, "{}", open.len());
    assert!(error.is_timeout() && error.to_string().contains("SessionLimits::uni_streams"), "{error:?}");
}

#[tokio::test]
async fn a_ping_is_answered_by_whoever_reads_and_of_many_the_newest() {
    let (mut client, mut server) = streams().await;
    client.send(Message::Ping("1".into())).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::Ping("1".into()));
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("1".into()));

    // The server reads, and cannot write: of what it owes it keeps one.
    while poll_fn(|cx| Poll::Ready(server.poll_ready_unpin(cx))).await.is_ready() {
        server.start_send_unpin(Message::binary(vec![0; 64 * 1024])).unwrap();
        tokio::task::yield_now().await;
    }
    for i in 0..100 {
        client.send(Message::Ping(i.to_string().into())).await.unwrap();
        assert!(matches!(server.next().await.unwrap().unwrap(), Message::Ping(_)));
    }
    let mut pongs = Vec::new();
    let reading = async {
        while pongs.last() != Some(&Message::Pong("99".into())) {
            pongs.extend(client.next().await.unwrap().ok().filter(|message| !message.is_data()));
        }
    };
    let (flushed, ()) = tokio::join!(server.flush(), reading);
    flushed.unwrap();
    assert!(pongs.len() < 10, "{pongs:?}");
}

#[tokio::test]
async fn a_stream_serves_through_its_halves_and_through_a_driver() {
    let (client, server) = streams().await;
    let (mut sink, mut stream) = TransportExt::into_split(client);
    let echo = tokio::spawn(async move {
        let (sender, mut receiver, driver) = server.drive(QueueConfig::messages()).into_parts();
        let driver = tokio::spawn(driver);
        while let Some(Ok(message)) = receiver.receive().await {
            if message.is_data() {
                sender.send(message).await.unwrap();
            }
        }
        driver.await.unwrap().unwrap();
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

#[tokio::test]
async fn a_task_that_reads_and_flushes_does_not_wake_itself() {
    let (mut client, _server) = streams().await;
    let count = Arc::new(WakeCount::default());
    let waker = count.clone().into();
    let mut cx = Context::from_waker(&waker);
    for _ in 0..10 {
        assert!(client.poll_next_unpin(&mut cx).is_pending());
        assert!(client.poll_ready_unpin(&mut cx).is_ready());
        assert!(client.poll_flush_unpin(&mut cx).is_ready());
    }
    assert_eq!(count.get(), 0);
}

#[tokio::test]
async fn a_close_that_the_sink_sends_sets_the_waiting_stream_its_time() {
    let limits = Limits::new().close(Duration::from_millis(50));
    let (client, _server) = sessions_with([limits; 2], SessionLimits::default()).await;
    let (client, _peer) = tokio::join!(client.open(), _server.accept());
    let (mut sink, mut stream) = TransportExt::into_split(client.unwrap());
    let reading = tokio::spawn(async move { stream.next().await.unwrap().unwrap_err() });
    tokio::task::yield_now().await;
    sink.close().await.unwrap();
    assert!(reading.await.unwrap().is_timeout());
}
