//! A transport of binary messages as a stream of bytes.

use std::{
    io::{ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tower_transport::{Channel, CloseCode, CloseFrame, Error, Message, TransportExt, channel, transport::ByteStream};

type Stream = ByteStream<Channel<Message, Message>>;

fn pair(capacity: usize) -> (Stream, Stream) {
    let (here, there) = channel(capacity);
    (here.into_io(), there.into_io())
}

async fn write_all(stream: &mut Stream, mut bytes: &[u8], vectored: bool) {
    while !bytes.is_empty() {
        let (first, second) = bytes.split_at(bytes.len() / 3);
        let written = match vectored {
            true => {
                stream.write_vectored(&[IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)]).await.unwrap()
            }
            false => stream.write(bytes).await.unwrap(),
        };
        assert!(written > 0);
        bytes = &bytes[written..];
    }
}

proptest! {
    #[test]
    fn bytes_arrive_as_they_were_written_whatever_the_sizes_of_writes_and_reads(
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..30),
        (max_message, capacity, read_size) in (1usize..100, 1usize..5, 1usize..150),
    ) {
        let (here, mut there) = pair(capacity);
        let mut here = here.max_message(max_message);
        let expected: Vec<u8> = writes.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let writer = async {
            for (bytes, vectored) in &writes {
                write_all(&mut here, bytes, *vectored).await;
            }
            here.shutdown().await.unwrap();
        };
        let reader = async {
            let (mut all, mut buffer) = (Vec::new(), vec![0; read_size]);
            loop {
                match there.read(&mut buffer).await.unwrap() {
                    0 => break all,
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ((), read) = runtime.block_on(futures_util::future::join(writer, reader));
        prop_assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn a_write_is_a_message_of_at_most_the_maximum_and_an_empty_one_is_none() {
    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = here.into_io().max_message(4);
    assert_eq!(here.write(b"").await.unwrap(), 0);
    assert_eq!(here.write(b"abcdef").await.unwrap(), 4);
    assert_eq!(here.write_vectored(&[IoSlice::new(b"e"), IoSlice::new(b"fgh"), IoSlice::new(b"i")]).await.unwrap(), 4);
    here.flush().await.unwrap();
    assert_eq!(there.receive_message().await.unwrap().unwrap(), Message::binary(b"abcd".to_vec()));
    assert_eq!(there.receive_message().await.unwrap().unwrap(), Message::binary(b"efgh".to_vec()));
    assert!(there.receive_message().now_or_never().is_none());
}

#[tokio::test]
async fn a_writer_waits_for_the_room_of_the_transport() {
    let (mut here, mut there) = pair(1);
    here.write_all(b"one").await.unwrap();
    assert!(here.write(b"two").now_or_never().is_none());
    there.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(here.write(b"two").await.unwrap(), 3);
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on_until_both_close_the_transport_with_1000() {
    let (mut here, mut there) = pair(4);
    here.write_all(b"a question").await.unwrap();
    here.shutdown().await.unwrap();
    let error = here.write(b"more").await.unwrap_err();
    assert_eq!(Error::from(error).to_string(), "this end of the stream of bytes was shut down");

    let mut question = String::new();
    there.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "a question");
    there.write_all(b"an answer\nand its rest").await.unwrap();

    let mut line = String::new();
    here.read_line(&mut line).await.unwrap();
    let closing = async {
        there.shutdown().await.unwrap();
        assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 0);
    };
    let reading = async {
        here.read_to_string(&mut line).await.unwrap();
        assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
    };
    futures_util::future::join(closing, reading).await;
    assert_eq!(line, "an answer\nand its rest");
    here.shutdown().await.unwrap();
    assert_eq!(here.get_ref().close_frame().map(|frame| frame.code()), None, "no code but 1000 was asked for");
    assert!(here.get_mut().send_message(Message::text("late")).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn control_messages_are_no_bytes() {
    let (mut here, mut there) = pair(8);
    for message in [Message::Ping("ping".into()), Message::binary(b"a".to_vec()), Message::Pong("pong".into())] {
        here.get_mut().feed(message).await.unwrap();
    }
    here.write_all(b"b").await.unwrap();
    here.get_mut().send(Message::Close(None)).await.unwrap();
    let mut bytes = Vec::new();
    there.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"ab");
}

#[tokio::test]
async fn a_close_with_another_code_than_1000_is_an_error_after_the_bytes_that_came_before_it() {
    let (mut here, mut there) = pair(8);
    here.write_all(b"half of").await.unwrap();
    here.get_mut().send(Message::Close(Some(CloseFrame::new(CloseCode::AWAY, "restart")))).await.unwrap();
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let error = there.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((&*bytes, error.kind()), (&b"half of"[..], ErrorKind::ConnectionAborted));
        assert_eq!(Error::from(error).close_frame().map(|frame| frame.code()), Some(CloseCode::AWAY));
    }
}

#[tokio::test]
async fn text_is_an_error_of_every_later_read_and_writing_goes_on() {
    let (mut here, mut there) = pair(8);
    here.get_mut().send(Message::text("hello")).await.unwrap();
    here.write_all(b"bytes").await.unwrap();
    for _ in 0..2 {
        let error = there.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(Error::from(error).is_protocol());
    }
    there.write_all(b"an answer").await.unwrap();
    here.read_exact(&mut [0; 9]).await.unwrap();
}

#[tokio::test]
async fn a_message_that_the_transport_rejects_ends_the_writing() {
    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = here.layer(tower_transport::layer::limit::LimitLayer::new().max_outgoing(4)).into_io();
    here.write_all(b"1234").await.unwrap();
    for bytes in [&b"12345"[..], b"6"] {
        let error = here.write(bytes).await.unwrap_err();
        assert!(Error::from(error).is_too_large());
    }
    assert!(here.flush().await.is_err() && here.shutdown().await.is_err());
    drop(here);
    assert_eq!(there.next().await.unwrap().unwrap().len(), 4);
    assert!(there.next().await.is_none(), "nothing follows a gap");
}

#[tokio::test]
async fn a_peer_that_is_gone_after_both_directions_have_ended_is_no_error() {
    let (mut here, mut there) = pair(8);
    there.shutdown().await.unwrap();
    assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
    drop(there);
    let gone = here.shutdown().await;
    assert!(gone.is_err(), "the mark could not be sent");

    let (mut here, mut there) = pair(8);
    here.shutdown().await.unwrap();
    there.shutdown().await.unwrap();
    drop(there);
    assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
    here.shutdown().await.unwrap();
}

/// A channel whose next poll reports that a connection was lost.
struct Losing {
    channel: Channel<Message, Message>,
    loses: bool,
}

impl Losing {
    fn poll<R>(&mut self, poll: impl FnOnce(Pin<&mut Channel<Message, Message>>) -> R) -> R {
        if std::mem::take(&mut self.loses) {
            tower_transport::transport::signal::connection_lost();
        }
        poll(Pin::new(&mut self.channel))
    }
}

impl futures_util::Stream for Losing {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(|channel| channel.poll_next(cx))
    }
}

impl futures_util::Sink<Message> for Losing {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(|channel| channel.poll_ready(cx))
    }

    fn start_send(mut self: Pin<&mut Self>, item: Message) -> Result<(), Error> {
        Pin::new(&mut self.channel).start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(|channel| channel.poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.channel).poll_close(cx)
    }
}

#[tokio::test]
async fn a_lost_connection_ends_both_directions_whichever_polled() {
    for half in ["read", "write", "flush", "shutdown"] {
        let (here, mut there) = channel(8);
        let mut stream = Losing { channel: here, loses: false }.into_io();
        there.send(Message::binary("before")).await.unwrap();
        assert_eq!(stream.fill_buf().await.unwrap(), b"before");
        there.send(Message::binary("of another connection")).await.unwrap();
        stream.get_mut().loses = true;
        let failed = match half {
            "read" => {
                stream.consume(6);
                stream.read(&mut [0; 9]).await.map(drop)
            }
            "write" => stream.write_all(b"x").await,
            "flush" => stream.flush().await,
            _ => stream.shutdown().await,
        };
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::ConnectionReset, "{half}");
        // Bytes that came before are still good.
        let mut read = Vec::new();
        assert!(stream.read_to_end(&mut read).await.is_err(), "{half}");
        assert_eq!(read, if half == "read" { &b""[..] } else { b"before" }, "{half}");
        assert!(stream.write(b"x").await.is_err() && stream.flush().await.is_err(), "{half}");
        assert!(stream.shutdown().await.is_err() && stream.shutdown().await.is_err(), "{half}");
        assert!(there.next().await.is_none(), "no byte for another connection, after {half}");
        assert_eq!(there.close_frame().map(|frame| frame.code()), Some(CloseCode::INTERNAL), "{half}");
    }
}

#[tokio::test]
async fn unread_bytes_come_with_the_transport() {
    let (mut here, mut there) = pair(8);
    here.write_all(b"abcdef").await.unwrap();
    there.read_exact(&mut [0; 2]).await.unwrap();
    let (_transport, rest) = there.into_parts();
    assert_eq!(&*rest, b"cdef");
}
