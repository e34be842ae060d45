//! `channel()`: the reference transport keeps the contract, and what it says of itself.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Waker},
    thread,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, TransportExt, channel, contract_tests,
    test_util::WakeCount,
    transport::{SplitSink, SplitStream},
};

contract_tests!(mod the_smallest, pair = channel(1), message = |i| i);
contract_tests!(mod a_large_one, pair = channel(1000), message = |i| Message::text(i.to_string()));

fn boxed_pair() -> (impl tower_transport::Transport<In = Message, TransportError = Error>, Channel) {
    let (here, there) = channel(3);
    (TransportExt::into_boxed(here), there)
}
contract_tests!(mod boxed, pair = boxed_pair(), message = |i| Message::text(i.to_string()));

/// Both halves of a split in one hand again, as one transport.
struct Joined(SplitSink<Channel, Message>, SplitStream<Channel>);

impl Joined {
    fn new(transport: Channel) -> Self {
        let (sink, stream) = TransportExt::into_split(transport);
        Self(sink, stream)
    }
}

impl Stream for Joined {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.1.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Joined {
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
        self.0.poll_close_unpin(cx)
    }
}

fn joined_pair() -> (Joined, Joined) {
    let (here, there) = channel(2);
    (Joined::new(here), Joined::new(there))
}
contract_tests!(mod split_halves, pair = joined_pair(), message = |i| Message::text(i.to_string()));
contract_tests!(mod on_tokio, pair = joined_pair(), message = |i| Message::text(i.to_string()), on = tokio);

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn the_capacity_is_exact_in_each_direction() {
    for capacity in [1, 2, 7, 1024, 5000] {
        let (mut here, mut there) = channel::<usize, usize>(capacity);
        for n in 0..capacity {
            assert!(here.poll_ready_unpin(&mut noop()).is_ready(), "{n} of {capacity}");
            here.start_send_unpin(n).unwrap();
        }
        assert!(here.poll_ready_unpin(&mut noop()).is_pending());
        assert!(there.poll_ready_unpin(&mut noop()).is_ready());
        assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), 0);
        assert!(here.poll_ready_unpin(&mut noop()).is_ready());
    }
}

#[test]
fn a_capacity_of_zero_is_one() {
    let (mut here, _there) = channel::<u8, u8>(0);
    here.send(1).now_or_never().unwrap().unwrap();
    assert!(here.poll_ready_unpin(&mut noop()).is_pending());
}

#[test]
fn a_start_send_without_readiness_is_an_error_and_keeps_what_is_queued() {
    let (mut here, mut there) = channel::<u8, u8>(1);
    here.start_send_unpin(1).unwrap();
    assert!(here.start_send_unpin(2).unwrap_err().is_full());
    assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), 1);
    assert!(there.next().now_or_never().is_none());
}

#[test]
fn a_writer_that_waits_is_woken_once_by_a_read() {
    let (mut here, mut there) = channel::<u8, u8>(1);
    here.start_send_unpin(1).unwrap();
    let counter = Arc::new(WakeCount::default());
    let waker = Waker::from(counter.clone());
    assert!(here.poll_ready_unpin(&mut Context::from_waker(&waker)).is_pending());
    there.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(counter.get(), 1);
    here.start_send_unpin(2).unwrap();
    there.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(counter.get(), 1, "nobody waited any more");
}

#[test]
fn a_reader_and_a_writer_that_wait_are_woken_when_the_other_end_is_dropped() {
    let (mut here, there) = channel::<u8, u8>(1);
    here.start_send_unpin(1).unwrap();
    let (reader, writer) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let (read_waker, write_waker) = (Waker::from(reader.clone()), Waker::from(writer.clone()));
    assert!(here.poll_next_unpin(&mut Context::from_waker(&read_waker)).is_pending());
    assert!(here.poll_ready_unpin(&mut Context::from_waker(&write_waker)).is_pending());
    drop(there);
    assert_eq!((reader.get(), writer.get()), (1, 1));
    assert!(here.next().now_or_never().unwrap().is_none());
    assert!(here.feed(2).now_or_never().unwrap().unwrap_err().is_closed());
}

#[test]
fn what_was_sent_before_an_end_was_dropped_is_still_read() {
    let (mut here, mut there) = channel::<u8, u8>(2);
    here.start_send_unpin(1).unwrap();
    here.start_send_unpin(2).unwrap();
    drop(here);
    assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), 1);
    assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), 2);
    assert!(there.next().now_or_never().unwrap().is_none());
}

#[test]
fn an_end_that_closed_its_sink_still_reads() {
    let (mut here, mut there) = channel::<u8, u8>(1);
    here.close().now_or_never().unwrap().unwrap();
    assert!(there.next().now_or_never().unwrap().is_none());
    there.send(5).now_or_never().unwrap().unwrap();
    assert_eq!(here.next().now_or_never().unwrap().unwrap().unwrap(), 5);
}

#[test]
fn messages_that_nobody_reads_are_dropped_with_the_end_that_should_have_read_them() {
    let message = Arc::new(());
    let (mut here, there) = channel::<Arc<()>, ()>(1);
    here.start_send_unpin(message.clone()).unwrap();
    drop(there);
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn a_boxed_transport_fails_as_often_as_it_is_asked() {
    let (here, there) = channel::<u8, u8>(1);
    let mut here = TransportExt::into_boxed(here);
    drop(there);
    for _ in 0..3 {
        assert!(here.feed(1).now_or_never().unwrap().unwrap_err().is_closed());
    }
}

/// A transport whose methods use the other half of the split, as a codec does that drops a value which owns it.
#[derive(Default)]
struct Reentrant {
    sink: Arc<Mutex<Option<SplitSink<Reentrant, u32>>>>,
    stream: Arc<Mutex<Option<SplitStream<Reentrant>>>>,
    sent: Vec<u32>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Stream for Reentrant {
    type Item = Result<u32, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let sink = self.sink.lock().unwrap().take();
        if let Some(mut sink) = sink {
            let waker = self.waker.lock().unwrap().clone().unwrap();
            let mut cx = Context::from_waker(&waker);
            assert!(sink.poll_ready_unpin(&mut cx).is_pending());
            sink.start_send_unpin(7).unwrap();
            assert!(sink.poll_flush_unpin(&mut cx).is_pending());
            *self.sink.lock().unwrap() = Some(sink);
        }
        self.sent.pop().map_or(Poll::Pending, |message| Poll::Ready(Some(Ok(message))))
    }
}

impl Sink<u32> for Reentrant {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: u32) -> Result<(), Error> {
        let stream = self.stream.lock().unwrap().take();
        if let Some(mut stream) = stream {
            assert!(stream.next().now_or_never().is_none());
            *self.stream.lock().unwrap() = Some(stream);
        }
        self.sent.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn the_halves_send_receive_and_close_with_a_code_without_another_trait() {
    let (here, mut there) = channel::<u32, u32>(4);
    let (mut sink, mut stream) = TransportExt::into_split(here);
    async {
        sink.send_message(1).await?;
        assert_eq!(there.receive_message().await.unwrap()?, 1);
        there.send_message(2).await?;
        assert_eq!(stream.receive_message().await.unwrap()?, 2);
        sink.close_with(CloseFrame::new(CloseCode::AWAY, "see you")).await?;
        assert!(there.receive_message().await.is_none());
        assert_eq!(there.close_frame().map(|frame| frame.code()), Some(CloseCode::AWAY));
        drop(there);
        assert!(stream.receive_message().await.is_none());
        Ok::<(), Error>(())
    }
    .now_or_never()
    .unwrap()
    .unwrap();
}

#[test]
fn a_half_that_is_used_within_a_poll_of_the_other_waits_its_turn_and_keeps_its_message() {
    let transport = Reentrant::default();
    let (outer, held, wakers) = (transport.sink.clone(), transport.stream.clone(), transport.waker.clone());
    let (sink, mut stream) = TransportExt::into_split(transport);
    let (task, waker) = WakeCount::new();
    *wakers.lock().unwrap() = Some(waker.clone());
    *outer.lock().unwrap() = Some(sink);
    assert!(stream.next().now_or_never().is_none());
    assert_eq!(task.take(), 1, "the writing half is woken once the poll is over");

    let mut sink = outer.lock().unwrap().take().unwrap();
    *held.lock().unwrap() = Some(stream);
    assert!(sink.poll_flush_unpin(&mut Context::from_waker(&waker)).is_ready());
    let mut stream = held.lock().unwrap().take().unwrap();
    assert_eq!(stream.next().now_or_never().unwrap().unwrap().unwrap(), 7);
}

#[test]
fn a_message_that_is_sent_during_a_poll_on_another_thread_is_refused_at_once() {
    /// Its reader tells that it polls, and goes on when it is told to.
    struct Busy {
        polls: mpsc::Sender<()>,
        goes_on: mpsc::Receiver<()>,
    }

    impl Stream for Busy {
        type Item = Result<u32, Error>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.polls.send(()).unwrap();
            self.goes_on.recv().unwrap();
            Poll::Pending
        }
    }

    impl Sink<u32> for Busy {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, _: u32) -> Result<(), Error> {
            Err(Error::too_large("this one"))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    let ((polls, polled), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
    let (mut sink, mut stream) = TransportExt::into_split(Busy { polls, goes_on });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready_unpin(&mut cx).is_ready());
    let reading = thread::spawn(move || stream.next().now_or_never().is_none());
    polled.recv().unwrap();
    assert!(sink.poll_ready_unpin(&mut cx).is_pending(), "the other half uses the transport");
    let sending = thread::spawn(move || sink.start_send_unpin(1).unwrap_err());
    go_on.send(()).unwrap();
    assert!(sending.join().unwrap().is_too_large());
    assert!(reading.join().unwrap());
}

#[test]
fn a_transport_whose_poll_panics_stays_with_both_halves() {
    struct Panicking;

    impl Stream for Panicking {
        type Item = Result<u32, Error>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            panic!("a bug of the transport")
        }
    }

    impl Sink<u32> for Panicking {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, _: u32) -> Result<(), Error> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    let (mut sink, mut stream) = TransportExt::into_split(Panicking);
    let poll = std::panic::AssertUnwindSafe(|| stream.next().now_or_never());
    assert!(std::panic::catch_unwind(poll).is_err());
    assert!(sink.send(1).now_or_never().unwrap().is_ok());
}
