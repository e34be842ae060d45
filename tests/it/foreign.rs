//! Sinks and streams of others as transports.

use std::{
    error::Error as _,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, Sink, SinkExt, Stream};
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, Transport, TransportExt, channel, contract_tests, transport::Foreign,
};

#[derive(Debug)]
struct Broken(u32);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {} times", self.0)
    }
}

impl std::error::Error for Broken {}

/// The error of the other direction, which is no standard error.
struct Unreadable;

/// Fails whenever it is polled.
#[derive(Default)]
struct Theirs {
    failures: u32,
}

impl Theirs {
    fn fail(&mut self) -> Broken {
        self.failures += 1;
        Broken(self.failures)
    }
}

impl Sink<u32> for Theirs {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Err(self.fail()))
    }

    fn start_send(mut self: Pin<&mut Self>, _: u32) -> Result<(), Broken> {
        Err(self.fail())
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Err(self.fail()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Err(self.fail()))
    }
}

impl Stream for Theirs {
    type Item = Result<u32, Unreadable>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(Unreadable)))
    }
}

/// A sink and a stream with one error, which is a standard error.
struct OneError(Theirs);

impl Sink<u32> for OneError {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: u32) -> Result<(), Broken> {
        self.0.start_send_unpin(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.poll_close_unpin(cx)
    }
}

impl Stream for OneError {
    type Item = Result<u32, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(self.0.fail())))
    }
}

fn nth(i: usize) -> Message {
    Message::text(i.to_string())
}

fn pair() -> (impl Transport<Message, In = Message> + Unpin, impl Transport<Message, In = Message> + Unpin) {
    let (here, there) = channel::<Message, Message>(1);
    let same = |error: Error| error;
    (Foreign::with(here, same, same), Foreign::with(there, same, same))
}

contract_tests!(mod adapted, pair = pair(), message = nth);

#[test]
fn a_foreign_transport_can_fail_more_than_once() {
    let mut transport = Foreign::new(OneError(Theirs::default()));
    for times in 1..4 {
        let error = transport.send_message(1).now_or_never().unwrap().unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<Broken>());
        assert!(source.is_some_and(|broken| broken.0 == times), "{error:?}");
    }
    let error = transport.receive_message().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "broken 4 times");
    assert!(transport.close_with(CloseFrame::new(CloseCode::NORMAL, "")).now_or_never().unwrap().is_err());
    assert_eq!(transport.into_inner().0.failures, 5);
}

#[test]
fn two_errors_of_a_foreign_transport_become_one_with_their_kinds() {
    let closed = |error: Broken| Error::closed("they are gone").with_source(error);
    let mut transport = Foreign::with(Theirs::default(), closed, |Unreadable| Error::protocol("unreadable"));
    for _ in 0..2 {
        assert!(transport.send_message(1).now_or_never().unwrap().unwrap_err().is_closed());
        assert!(transport.receive_message().now_or_never().unwrap().unwrap().unwrap_err().is_protocol());
    }
    assert_eq!(transport.get_ref().failures, 2);
}

#[test]
fn a_boxed_transport_can_fail_more_than_once() {
    let closed = |_: Broken| Error::closed("they are gone");
    let mut boxed = Foreign::with(OneError(Theirs::default()), closed, closed).into_boxed();
    for _ in 0..2 {
        assert!(boxed.send_message(1).now_or_never().unwrap().unwrap_err().is_closed());
    }
}

/// Compiles only if the futures give `Error`, whatever the transport's error is.
async fn talk(mut transport: impl Transport<u32, In = u32> + Unpin) -> Result<Option<u32>, Error> {
    transport.send_message(1).await?;
    let answer = transport.receive_message().await.transpose()?;
    transport.close_with(CloseFrame::new(CloseCode::NORMAL, "done")).await?;
    Ok(answer)
}

/// A transport whose error is `io::Error`, which converts into ours.
struct Io<T>(T);

impl<T: Sink<u32, Error = Error> + Unpin> Sink<u32> for Io<T> {
    type Error = std::io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.poll_ready_unpin(cx).map_err(std::io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, item: u32) -> std::io::Result<()> {
        self.0.start_send_unpin(item).map_err(std::io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.poll_flush_unpin(cx).map_err(std::io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.poll_close_unpin(cx).map_err(std::io::Error::other)
    }
}

impl<T: Stream<Item = Result<u32, Error>> + Unpin> Stream for Io<T> {
    type Item = std::io::Result<u32>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|item| item.map(|item| item.map_err(std::io::Error::other)))
    }
}

#[test]
fn generic_code_may_use_the_question_mark_over_any_error() {
    let (near, mut far) = channel::<u32, u32>(1);
    far.send(7).now_or_never().unwrap().unwrap();
    assert_eq!(talk(Io(near)).now_or_never().unwrap().unwrap(), Some(7));
    let (near, far) = channel::<u32, u32>(1);
    drop(far);
    assert!(talk(Io(near)).now_or_never().unwrap().unwrap_err().is_closed());
}
