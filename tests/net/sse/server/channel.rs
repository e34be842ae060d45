//! `event_channel`: which end waits for which, and how each end detects that the other is gone.

use std::{convert::Infallible, num::NonZeroUsize, pin::pin, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower_transport::{
    CloseCode, CloseFrame, QueueConfig, WhenFull,
    transport::sse::{Event, event_channel},
};

use super::{frame, is_silent, text};

fn places(places: usize) -> QueueConfig<Event, Infallible> {
    QueueConfig::events().max_messages(NonZeroUsize::new(places).unwrap())
}

#[tokio::test]
async fn senders_wait_while_nobody_reads_and_go_on_once_somebody_does() {
    let (sender, mut body) = event_channel(places(2));
    for data in ["a", "b"] {
        sender.send(Event::new(data)).now_or_never().unwrap().unwrap();
    }
    let other = sender.clone();
    let mut third = pin!(sender.send(Event::new("c")));
    let mut fourth = pin!(other.send(Event::new("d")));
    assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
    assert_eq!(text(&mut body), "data: a\n\ndata: b\n\n");
    // All is settled when the body is asked again, that is, when the frame is with the server.
    assert!(is_silent(&mut body));
    third.now_or_never().unwrap().unwrap();
    fourth.now_or_never().unwrap().unwrap();
    assert_eq!(text(&mut body), "data: c\n\ndata: d\n\n");
}

#[tokio::test]
async fn bytes_are_counted_too() {
    let queue = QueueConfig::events().max_bytes(NonZeroUsize::new(1000).unwrap());
    let (sender, _body) = event_channel(queue);
    sender.send(Event::new("x".repeat(1000))).now_or_never().unwrap().unwrap();
    assert!(sender.queued_bytes() >= 1000);
    assert!(sender.send(Event::new("")).now_or_never().is_none());
}

#[tokio::test]
async fn an_empty_event_is_not_free() {
    let (sender, _body) = event_channel(QueueConfig::events().max_bytes(NonZeroUsize::new(1000).unwrap()));
    let sent = (0..1000).take_while(|_| sender.send(Event::new("")).now_or_never().is_some()).count();
    assert!((5..100).contains(&sent), "{sent}");
}

#[tokio::test]
async fn every_sender_learns_at_once_that_the_client_is_gone() {
    let (sender, body) = event_channel(places(1));
    let idle = sender.clone();
    let mut closed = pin!(idle.closed());
    sender.send(Event::new("a")).await.unwrap();
    let mut waiting = pin!(sender.send(Event::new("b")));
    assert!(closed.as_mut().now_or_never().is_none() && waiting.as_mut().now_or_never().is_none());
    drop(body);
    for error in [closed.now_or_never().unwrap(), waiting.now_or_never().unwrap().unwrap_err()] {
        assert!(error.is_closed() && error.to_string().contains("client"), "{error}");
    }
    assert_eq!(sender.dropped(), 1);
    assert!(sender.send(Event::new("c")).await.unwrap_err().is_closed());
    assert!(sender.closed().await.is_closed());
}

#[tokio::test]
async fn who_stops_waiting_for_the_end_is_forgotten() {
    let (sender, body) = event_channel(QueueConfig::events());
    for _ in 0..3 {
        assert!(sender.closed().now_or_never().is_none());
    }
    let (first, second) = (sender.clone(), sender.clone());
    let both = async move { futures_util::join!(first.closed(), second.closed()) };
    let both = tokio::spawn(both);
    tokio::task::yield_now().await;
    drop(body);
    assert!(both.await.unwrap().0.is_closed());
}

#[tokio::test]
async fn when_the_last_sender_is_gone_what_was_sent_goes_out_and_the_body_ends() {
    let (sender, mut body) = event_channel(QueueConfig::events());
    let other = sender.clone();
    sender.send(Event::new("a")).await.unwrap();
    drop(sender);
    assert_eq!(text(&mut body), "data: a\n\n");
    assert!(is_silent(&mut body));
    other.send(Event::new("b")).await.unwrap();
    drop(other);
    assert_eq!(text(&mut body), "data: b\n\n");
    assert!(frame(&mut body).is_none());
}

#[tokio::test]
async fn a_flush_waits_until_the_frame_is_with_the_server() {
    let (mut sender, mut body) = event_channel(QueueConfig::events());
    sender.send(Event::new("a")).await.unwrap();
    assert!(sender.flush().now_or_never().is_none());
    assert_eq!(text(&mut body), "data: a\n\n");
    assert!(sender.flush().now_or_never().is_none());
    assert!(is_silent(&mut body));
    sender.flush().now_or_never().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_is_too_slow_is_cut_where_the_queue_says_so() {
    let (sender, mut body) = event_channel(places(2).when_full(WhenFull::Close(CloseCode::TRY_AGAIN)));
    let watched = sender.clone();
    let mut closed = pin!(watched.closed());
    assert!(closed.as_mut().now_or_never().is_none());
    for data in ["a", "b"] {
        sender.send(Event::new(data)).await.unwrap();
    }
    assert!(sender.send(Event::new("c")).await.unwrap_err().is_full());
    assert!(is_silent(&mut body)); // so that the server writes what it has
    let error = tower_transport::Error::from(frame(&mut body).unwrap().unwrap_err());
    assert!(error.is_closed() && error.to_string().contains("full"), "{error}");
    assert!(frame(&mut body).is_none());
    assert!(closed.now_or_never().unwrap().is_closed());
}

#[tokio::test]
async fn a_stream_of_events_can_be_forwarded_into_it() {
    let (sender, mut body) = event_channel(places(1));
    let source = stream::iter(0..200).map(|i| Ok(Event::new(i.to_string())));
    let forwarding = tokio::spawn(source.forward(sender.sink_map_err(|error| error)));
    let mut came = String::new();
    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
        came.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    forwarding.await.unwrap().unwrap();
    assert_eq!(came, (0..200).map(|i| format!("data: {i}\n\n")).collect::<String>());
}

fn restart() -> CloseFrame {
    CloseFrame::new(CloseCode::RESTART, "a new version")
}

#[tokio::test(start_paused = true)]
async fn a_close_whose_client_never_reads_is_given_up_in_time_and_the_body_fails() {
    let (sender, mut body) = event_channel(QueueConfig::events());
    let other = sender.clone();
    for data in ["a", "b", "c"] {
        sender.send(Event::new(data)).await.unwrap();
    }
    let start = Instant::now();
    let error = sender.close(restart()).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("3 queued events"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!((sender.queued(), sender.dropped()), (0, 3));
    assert!(other.closed().await.is_timeout());
    assert!(body.frame().now_or_never().is_none(), "hyper writes what it has before the error");
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(tower_transport::Error::from(error).is_timeout());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn each_event_that_the_client_takes_during_a_close_is_progress() {
    let (sender, mut body) = event_channel(QueueConfig::events().close_within(Duration::from_secs(3)));
    // Each is a frame of its own.
    for _ in 0..8 {
        sender.send(Event::new("x".repeat(20_000))).await.unwrap();
    }
    let first = body.frame().await.unwrap().unwrap();
    let closer = sender.clone();
    let closed = tokio::spawn(async move { closer.close(restart()).await });
    for _ in 1..8 {
        sleep(Duration::from_secs(2)).await;
        assert!(!closed.is_finished());
        assert!(body.frame().await.unwrap().is_ok());
    }
    assert!(body.frame().await.is_none());
    closed.await.unwrap().unwrap();
    drop(first);
}
