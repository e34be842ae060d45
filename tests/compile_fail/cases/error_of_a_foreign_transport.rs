//! A foreign transport whose error is not one of ours.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use tower_transport::{Message, TransportExt};

#[derive(Debug)]
struct MyError;

struct Mine;

impl Stream for Mine {
    type Item = Result<Message, MyError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Message> for Mine {
    type Error = MyError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), MyError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), MyError> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), MyError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), MyError>> {
        Poll::Ready(Ok(()))
    }
}

async fn send() {
    Mine.send_message(Message::text("hello")).await.unwrap();
}

fn main() {}
