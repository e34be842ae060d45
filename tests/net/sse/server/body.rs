//! `EventStream`, poll by poll; time is paused.

use std::{convert::Infallible, task::Poll, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use http_body::Body;
use tokio::{sync::mpsc, time::advance};
use tower_transport::{
    Error,
    transport::sse::{Event, EventStream},
};

use super::{frame, is_silent, text};

fn events(count: usize) -> impl Stream<Item = Result<Event, Infallible>> + Unpin {
    stream::iter(0..count).map(|i| Ok(Event::new(i.to_string())))
}

/// The events sent through the sender.
fn fed() -> (mpsc::Sender<Event>, impl Stream<Item = Result<Event, Infallible>> + Unpin) {
    let (sender, mut receiver) = mpsc::channel(100);
    (sender, stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|event| event.map(Ok))))
}

#[tokio::test(start_paused = true)]
async fn all_events_that_are_ready_are_one_frame() {
    let (sender, stream) = fed();
    let mut body = EventStream::new(stream);
    assert!(is_silent(&mut body));
    for i in 0..3 {
        sender.try_send(Event::new(i.to_string())).unwrap();
    }
    assert_eq!(text(&mut body), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    assert!(is_silent(&mut body));
}

#[test]
fn a_frame_ends_behind_the_event_that_makes_it_16_kib() {
    let large = "x".repeat(1000);
    let written = large.len() + "data: \n\n".len();
    let stream = stream::iter(0..100).map(|_| Ok::<_, Infallible>(Event::new(large.as_str())));
    let mut body = EventStream::new(stream);
    let mut left = 100;
    while left > 0 {
        let frame = text(&mut body);
        let events = frame.len() / written;
        assert_eq!(events, left.min(17), "{}", frame.len());
        assert!(frame.ends_with("\n\n"));
        left -= events;
    }
    assert!(body.is_end_stream() || frame(&mut body).is_none());
}

#[test]
fn an_event_larger_than_a_frame_is_a_frame() {
    let mut body = EventStream::new(stream::iter([Ok::<_, Infallible>(Event::new("x".repeat(1 << 20)))]));
    assert_eq!(text(&mut body).len(), (1 << 20) + "data: \n\n".len());
    assert!(frame(&mut body).is_none());
}

#[test]
fn an_error_ends_the_body_once_the_events_before_it_could_be_written() {
    let stream = stream::iter([Ok(Event::new("a")), Err(Error::other("no more of this")), Ok(Event::new("b"))]);
    let mut body = EventStream::new(stream);
    assert_eq!(text(&mut body), "data: a\n\n");
    assert!(!body.is_end_stream() && is_silent(&mut body));
    assert_eq!(frame(&mut body).unwrap().unwrap_err().to_string(), "no more of this");
    assert!(frame(&mut body).is_none());
}

#[test]
fn a_stream_that_has_ended_is_not_asked_again() {
    let mut polls = [Poll::Ready(Some(Ok::<_, Infallible>(Event::new("a")))), Poll::Ready(None)].into_iter();
    let mut body = EventStream::new(stream::poll_fn(move |_| polls.next().expect("it was asked after its end")));
    assert_eq!(text(&mut body), "data: a\n\n");
    assert!(body.is_end_stream());
    assert!(frame(&mut body).is_none() && frame(&mut body).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_comment_keeps_a_silent_stream_alive_every_15_s() {
    let mut body = EventStream::new(stream::pending::<Result<Event, Infallible>>());
    assert!(is_silent(&mut body));
    for _ in 0..3 {
        advance(Duration::from_millis(14_999)).await;
        assert!(is_silent(&mut body));
        advance(Duration::from_millis(2)).await;
        assert_eq!(text(&mut body), ":\n\n");
        assert!(is_silent(&mut body));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_puts_the_comment_off() {
    let (sender, stream) = fed();
    let mut body = EventStream::new(stream).keep_alive(Duration::from_secs(4));
    assert!(is_silent(&mut body));
    for _ in 0..5 {
        advance(Duration::from_secs(3)).await;
        assert!(is_silent(&mut body));
        sender.try_send(Event::new("a")).unwrap();
        assert_eq!(text(&mut body), "data: a\n\n");
        assert!(is_silent(&mut body));
    }
    advance(Duration::from_millis(4001)).await;
    assert_eq!(text(&mut body), ":\n\n");
}

#[tokio::test(start_paused = true)]
async fn the_timer_wakes_the_task_also_where_an_event_came_since_it_was_set() {
    let (sender, stream) = fed();
    let mut body = EventStream::new(stream);
    sender.try_send(Event::new("a")).unwrap();
    assert_eq!(text(&mut body), "data: a\n\n");
    // The paused clock advances automatically to the next timer.
    for _ in 0..2 {
        let started = tokio::time::Instant::now();
        let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, ":\n\n");
        assert!(started.elapsed() >= Duration::from_secs(15));
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_alive_can_be_turned_off_and_is_not_done_more_than_once_a_second() {
    let mut silent = EventStream::new(stream::pending::<Result<Event, Infallible>>()).without_keep_alive();
    let mut hasty = EventStream::new(stream::pending::<Result<Event, Infallible>>()).keep_alive(Duration::ZERO);
    assert!(is_silent(&mut silent) && is_silent(&mut hasty));
    advance(Duration::from_millis(999)).await;
    assert!(is_silent(&mut hasty));
    advance(Duration::from_millis(2)).await;
    assert_eq!(text(&mut hasty), ":\n\n");
    advance(Duration::from_secs(86_400)).await;
    assert!(is_silent(&mut silent));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_reconnect_is_said_first_and_does_not_wait_for_an_event() {
    let (sender, stream) = fed();
    let mut body = EventStream::new(stream).retry(Duration::from_millis(1500));
    assert_eq!(text(&mut body), "retry: 1500\n\n");
    sender.try_send(Event::new("a")).unwrap();
    assert_eq!(text(&mut body), "data: a\n\n");

    let mut together = EventStream::new(events(1)).retry(Duration::ZERO);
    assert_eq!(text(&mut together), "retry: 0\n\ndata: 0\n\n");
}

#[test]
fn what_was_missed_comes_before_what_is_new() {
    let missed = [Event::new("old").id("1").unwrap(), Event::new("older").id("2").unwrap()];
    let mut body = EventStream::new(events(1)).retry(Duration::from_secs(1)).replay(missed);
    assert_eq!(text(&mut body), "retry: 1000\n\nid: 1\ndata: old\n\nid: 2\ndata: older\n\ndata: 0\n\n");
    assert!(body.is_end_stream());
}

#[test]
fn the_response_says_what_it_is_and_that_nobody_may_hold_it_back() {
    let response = EventStream::new(events(0)).into_response();
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache, no-transform");
    assert_eq!(headers["x-accel-buffering"], "no");
}
