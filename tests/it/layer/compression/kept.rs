//! The context that is kept across messages.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, SinkExt, Stream};
use tower_transport::CloseCode;

use super::*;

fn keeping() -> Deflate {
    Deflate::new().keep_context()
}

#[test]
fn a_message_that_resembles_the_one_before_all_but_vanishes() {
    let (mut near, mut far) = over_bare(keeping());
    let (mut lengths, mut wires) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        put(&mut near, Message::text(chat(1, 2000)));
        let wire = next(&mut far).unwrap();
        assert_eq!(wire.as_bytes()[wire.len() - 8], KEPT_TEXT);
        lengths.push(wire.len());
        wires.push(wire);
    }
    assert!(lengths[0] > 500 && lengths[1] < 80 && lengths[2] < 80, "{lengths:?}");
    for wire in wires {
        put(&mut far, wire);
        assert_eq!(next(&mut near).unwrap(), Message::text(chat(1, 2000)));
    }
}

#[test]
fn messages_that_are_sent_plain_in_between_do_no_harm() {
    let (mut near, mut far) = pair(keeping(), keeping());
    for round in 0..4 {
        for payload in [chat(round, 3000).into_bytes(), noise(7, 3000), b"small".to_vec(), noise(8, 100_000)] {
            put(&mut near, Message::binary(payload.clone()));
            assert_eq!(next(&mut far).unwrap(), Message::binary(payload));
        }
    }
    assert_eq!((near.stats().sent().messages, near.stats().skipped()), (8, 4));
}

#[test]
fn messages_too_small_to_shrink_alone_shrink_together() {
    let (mut near, mut far) = pair(keeping().min_size(32), keeping());
    for id in 0..100 {
        let order = format!(r#"{{"id":{id},"side":"buy","symbol":"ACME"}}"#);
        put(&mut near, Message::text(order.clone()));
        assert_eq!(next(&mut far).unwrap(), Message::text(order));
    }
    let sent = near.stats().sent();
    assert!(sent.messages == 100 && sent.ratio().unwrap() > 1.5, "{sent:?}");
}

#[test]
fn messages_that_never_shrink_cost_1_kib_and_then_nothing() {
    let (mut near, mut far) = pair(keeping(), keeping());
    for seed in 0..1000 {
        let message = Message::binary(noise(seed, 300));
        put(&mut near, message.clone());
        assert_eq!(next(&mut far).unwrap(), message);
    }
    let (sent, skipped) = (near.stats().sent(), near.stats().skipped());
    assert!(sent.compressed_bytes - sent.plain_bytes <= 1024, "{sent:?}");
    assert!(skipped > 950, "{skipped}");
}

#[test]
fn a_peer_that_keeps_no_context_is_understood_by_one_that_does() {
    let (mut near, mut far) = pair(Deflate::new(), keeping());
    for i in 0..3 {
        put(&mut near, Message::text(chat(i, 1000)));
        assert_eq!(next(&mut far).unwrap(), Message::text(chat(i, 1000)));
    }
}

#[test]
fn a_peer_that_keeps_its_context_is_refused_by_one_that_does_not() {
    let (mut near, mut far) = pair(keeping(), Deflate::new());
    put(&mut near, Message::text(chat(1, 1000)));
    let error = next(&mut far).unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("keep_context"), "{error}");
    let Message::Close(Some(frame)) = next(&mut near).unwrap() else { panic!("no close message") };
    assert_eq!(frame.code(), CloseCode::PROTOCOL);
    assert!(is_at_its_end(&mut far));
}

#[test]
fn a_context_may_end_with_a_last_block_and_begin_anew() {
    let (mut near, mut far) = over_bare(keeping());
    let text = chat(1, 1000);
    for _ in 0..2 {
        let mut state = Compress::new(Compression::new(6), false);
        for flush in [FlushCompress::Sync, FlushCompress::Finish] {
            let mut data = Vec::with_capacity(2000);
            state.compress_vec(text.as_bytes(), &mut data, flush).unwrap();
            data.truncate(data.len() - if flush == FlushCompress::Sync { 4 } else { 0 });
            put(&mut far, marked(&data, text.len(), KEPT_TEXT));
            assert_eq!(next(&mut near).unwrap(), Message::text(text.clone()));
        }
    }
}

/// A channel that fails some sends, and goes on.
struct Picky {
    inner: Channel,
    refuses: usize,
}

impl Sink<Message> for Picky {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if self.refuses > 0 {
            self.refuses -= 1;
            return Err(Error::too_large("not that one"));
        }
        self.inner.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close_unpin(cx)
    }
}

impl Stream for Picky {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

#[test]
fn a_message_that_the_transport_below_refuses_is_nothing_that_a_later_one_refers_to() {
    let (here, there) = channel(8);
    let layer = CompressionLayer::new(keeping());
    let (mut near, mut far) = (layer.layer(Picky { inner: here, refuses: 0 }), layer.layer(there));
    for i in 0..3 {
        near.get_mut().refuses = 1;
        let refused = near.send(Message::text(chat(i, 2000))).now_or_never().unwrap();
        assert!(refused.unwrap_err().is_too_large());
        put(&mut near, Message::text(chat(i, 2000)));
        assert_eq!(next(&mut far).unwrap(), Message::text(chat(i, 2000)));
    }
}
