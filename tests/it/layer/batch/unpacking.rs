//! A peer's messages, valid and invalid.

use futures_util::{FutureExt, StreamExt};
use tower::Layer;
use tower_transport::{Error, Message, channel, layer::batch::BatchLayer};

use super::{MARK, batch, bytes, failure, next, put, text, written};

/// The outcome of a message of the peer.
fn received(message: Message) -> Vec<Result<Message, Error>> {
    let (near, mut far) = channel(2);
    let mut near = BatchLayer::default().layer(near);
    put(&mut far, message);
    drop(far);
    near.by_ref().collect::<Vec<_>>().now_or_never().unwrap()
}

#[track_caller]
fn refused(message: Message, says: &str) {
    let [Err(error)] = &received(message)[..] else { panic!("one error is expected") };
    assert!(error.is_protocol(), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
}

fn all(message: Message) -> Vec<Message> {
    received(message).into_iter().map(Result::unwrap).collect()
}

#[test]
fn messages_come_out_in_order_as_slices_of_what_the_peer_sent() {
    let messages = [text("one"), Message::binary(vec![2; 300]), Message::binary(vec![]), text(""), text("\u{2713}")];
    let sent = batch(&messages);
    let got = all(sent.clone());
    assert_eq!(got, messages);
    let (sent, first, second) = (bytes(&sent), bytes(&got[0]), bytes(&got[1]));
    assert_eq!((first.as_ptr(), second.as_ptr()), (sent.as_ptr(), sent[3..].as_ptr()));
}

#[test]
fn what_has_no_mark_passes_as_it_is() {
    let plain = [
        text("plain"),
        Message::binary(vec![]),
        Message::binary(vec![7; 100]),
        Message::Ping("p".into()),
        Message::Pong("q".into()),
        Message::Close(None),
    ];
    for message in plain {
        assert_eq!(all(message.clone()), [message]);
    }
}

#[test]
fn a_batch_within_a_batch_is_a_message_like_others() {
    let inner = batch(&[text("a"), text("b")]);
    assert_eq!(all(batch(&[inner.clone(), text("c")])), [inner, text("c")]);
}

#[test]
fn a_batch_of_one_is_understood() {
    assert_eq!(all(batch(&[text("a")])), [text("a")]);
}

#[test]
fn after_a_bad_batch_the_stream_goes_on() {
    let (near, mut far) = channel(4);
    let mut near = BatchLayer::default().layer(near);
    put(&mut far, written(b"", &[]));
    put(&mut far, batch(&[text("a"), text("b")]));
    assert!(failure(&mut near).is_protocol());
    assert_eq!([next(&mut near), next(&mut near)], [Some(text("a")), Some(text("b"))]);
}

#[test]
fn a_batch_that_lies_is_refused_before_its_first_message_is_given() {
    // The first entry is right in each.
    refused(written(b"abc", &[2, 6]), "more bytes than there are");
    refused(written(b"abc", &[2, 2]), "belong to no message");
    refused(written(b"abc", &[2, 0xff, 0xff, 0xff, 0xff, 0xf]), "more bytes than there are");
    refused(written(b"abc", &[2, 0xff, 0xff, 0xff, 0xff, 0x1f]), "longer than 32 bits");
    refused(written(b"abc", &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), "longer than 32 bits");
    refused(written(b"abc", &[2, 0x84]), "cut short");
    refused(written(b"a\xff\xfe", &[2, 5]), "UTF-8");
    refused(written("a\u{2713}".as_bytes(), &[2, 3, 4]), "UTF-8");
    refused(written(b"abc", &[]), "no message");
    refused(written(b"", &[]), "no message");
}

#[test]
fn an_index_that_is_longer_than_its_batch_is_refused() {
    for length in [1, 2, u32::MAX] {
        refused(Message::binary([&length.to_le_bytes()[..], &MARK].concat()), "exceeds the batch");
    }
    refused(Message::binary([&[0, 0, 0][..], &MARK].concat()), "ends before its index");
    refused(Message::binary(MARK.to_vec()), "ends before its index");
}

#[test]
fn a_batch_of_a_later_kind_is_refused_and_says_so() {
    let mut mark = MARK;
    mark[0] = 2;
    refused(Message::binary([&b"abc"[..], &mark].concat()), "kind 2");
}

#[test]
fn a_batch_with_more_messages_than_allowed_is_refused() {
    let (near, mut far) = channel(4);
    let mut near = BatchLayer::default().max_items(3).layer(near);
    let three = [text("a"), text("b"), text("c")];
    put(&mut far, batch(&three));
    put(&mut far, batch(&[&three[..], &three[..1]].concat()));
    for message in three {
        assert_eq!(next(&mut near), Some(message));
    }
    let error = failure(&mut near);
    assert!(error.is_too_large() && error.to_string().contains("more than 3 messages"), "{error}");
}
