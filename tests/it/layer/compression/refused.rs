//! Compressed messages that are not, or are too much.

use std::{
    error::Error as _,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{SinkExt, Stream};
use tower_transport::{
    CloseCode,
    test_util::{WakeCount, contract::block_on},
};

use super::*;

type Question = fn(&Error) -> bool;

/// Messages that a peer may send in place of a compressed one, and their errors.
fn bad(binary: u8, text: u8) -> Vec<(&'static str, Message, Question, CloseCode)> {
    const BAD: CloseCode = CloseCode::INVALID_PAYLOAD;
    let plain = chat(1, 3000).into_bytes();
    let data = data(&plain);
    let trailing = {
        let mut data = Vec::with_capacity(4000);
        Compress::new(Compression::new(6), false).compress_vec(&plain, &mut data, FlushCompress::Finish).unwrap();
        data.push(0);
        data
    };
    let mark_alone = Message::binary(marked(&[], 0, binary).as_bytes()[4..].to_vec());
    vec![
        ("garbage", marked(&noise(3, 500), 3000, binary), Error::is_codec, BAD),
        ("no data", marked(&[], 3000, binary), Error::is_codec, BAD),
        ("cut", marked(&data[..data.len() / 2], plain.len(), binary), Error::is_codec, BAD),
        ("says less than it holds", marked(&data, plain.len() - 1, binary), Error::is_codec, BAD),
        ("says nothing, holds much", marked(&data, 0, binary), Error::is_codec, BAD),
        ("says more than it holds", marked(&data, plain.len() + 1, binary), Error::is_codec, BAD),
        ("goes on after its last block", marked(&trailing, plain.len(), binary), Error::is_codec, BAD),
        ("a mark without a length", mark_alone, Error::is_codec, BAD),
        ("not UTF-8", marked(&super::data(&[0xff; 300]), 300, text), Error::is_codec, BAD),
        ("too large", marked(&data, (4 << 20) + 1, binary), Error::is_too_large, CloseCode::TOO_BIG),
        (
            "the most that can be said",
            marked(&data, u32::MAX as usize, binary),
            Error::is_too_large,
            CloseCode::TOO_BIG,
        ),
        ("shrinks too well", marked(&data, 4 << 20, binary), Error::is_too_large, CloseCode::TOO_BIG),
    ]
}

#[test]
fn a_bad_message_costs_itself_and_no_other() {
    for (name, message, is_right, _) in bad(BINARY, TEXT) {
        let (mut near, mut far) = over_bare(Deflate::new());
        put(&mut far, message);
        put(&mut far, marked(&data(b"hello hello"), 11, TEXT));
        let error = next(&mut near).unwrap_err();
        assert!(is_right(&error), "{name}: {error:?}");
        assert_eq!(next(&mut near).unwrap(), Message::text("hello hello"), "after {name}");
        put(&mut near, Message::text("and the sink goes on"));
        assert_eq!(next(&mut far).unwrap(), Message::text("and the sink goes on"));
        assert_eq!((near.stats().refused(), near.stats().received().messages), (1, 1));
    }
}

#[test]
fn with_a_kept_context_a_bad_message_is_the_last() {
    for (name, message, is_right, code) in bad(KEPT_BINARY, KEPT_TEXT) {
        let (mut near, mut far) = over_bare(Deflate::new().keep_context());
        put(&mut far, message);
        put(&mut far, Message::text("too late"));
        let error = next(&mut near).unwrap_err();
        assert!(is_right(&error), "{name}: {error:?}");

        // The close message is out with the error, though nobody polled again.
        let Message::Close(Some(frame)) = next(&mut far).unwrap() else { panic!("no close message after {name}") };
        assert_eq!(frame.code(), code, "{name}");
        assert!(is_at_its_end(&mut far), "not closed after {name}");
        assert!(is_at_its_end(&mut near) && is_at_its_end(&mut near), "goes on after {name}");
        assert_eq!(near.size_hint(), (0, Some(0)));

        let error = near.send(Message::text("a")).now_or_never().unwrap().unwrap_err();
        assert!(error.is_closed(), "{name}");
        assert_eq!(error.close_frame(), Some(&frame));
        assert!(is_right(error.source().unwrap().downcast_ref().unwrap()), "{name}");
        assert!(near.flush().now_or_never().unwrap().unwrap_err().is_closed());
        near.close().now_or_never().unwrap().unwrap();
    }
}

#[test]
fn a_bad_message_that_refers_to_nothing_costs_only_itself_though_a_context_is_kept() {
    let (mut near, mut far) = pair(Deflate::new().keep_context(), Deflate::new().keep_context());
    put(&mut near, Message::text(chat(1, 2000)));
    put(near.get_mut(), marked(&noise(3, 500), 3000, BINARY));
    put(&mut near, Message::text(chat(1, 2000)));
    assert!(next(&mut far).is_ok());
    assert!(next(&mut far).unwrap_err().is_codec());
    assert_eq!(next(&mut far).unwrap(), Message::text(chat(1, 2000)));
}

#[test]
fn a_kind_that_is_not_known_is_an_error_of_its_own() {
    let (mut near, mut far) = over_bare(Deflate::new());
    for kind in 5..=255 {
        put(&mut far, marked(&data(b"hello"), 5, kind));
        let error = next(&mut near).unwrap_err();
        assert!(error.is_protocol() && error.to_string().contains(&kind.to_string()), "{error}");
    }
    put(&mut far, Message::text("still here"));
    assert_eq!(next(&mut near).unwrap(), Message::text("still here"));
}

#[test]
fn an_error_names_the_limit_and_its_setter() {
    let (mut near, mut far) = over_bare(Deflate::new().max_inflated(100_000).max_ratio(50));
    for (length, limit, setter) in [(100_001, "100000", "max_inflated"), (100_000, "50 to 1", "max_ratio")] {
        put(&mut far, marked(&data(b"hello"), length, TEXT));
        let error = next(&mut near).unwrap_err().to_string();
        assert!(error.contains(limit) && error.contains(setter), "{error}");
    }
}

#[test]
fn the_limits_are_exact() {
    let zeros = vec![0; 100_000];
    let data = data(&zeros);
    let ratio = u32::try_from(zeros.len().div_ceil(data.len())).unwrap();
    for (deflate, is_fine) in [
        (Deflate::new().max_inflated(100_000).max_ratio(ratio), true),
        (Deflate::new().max_inflated(99_999).max_ratio(ratio), false),
        (Deflate::new().max_inflated(100_000).max_ratio(ratio - 1), false),
    ] {
        let (mut near, mut far) = over_bare(deflate);
        put(&mut far, marked(&data, zeros.len(), BINARY));
        assert_eq!(next(&mut near).is_ok(), is_fine, "{deflate:?}");
    }
    // Up to 64 KiB the ratio is nobody's business.
    let (mut near, mut far) = over_bare(Deflate::new().max_ratio(1));
    put(&mut far, marked(&super::data(&zeros[..65_536]), 65_536, BINARY));
    assert_eq!(next(&mut near).unwrap().len(), 65_536);
}

#[test]
fn what_is_in_a_message_is_not_opened_again() {
    let inner = marked(&data(&[0; 50_000]), 50_000, BINARY);
    let (mut near, mut far) = over_bare(Deflate::new());
    put(&mut far, marked(&data(inner.as_bytes()), inner.len(), BINARY));
    assert_eq!(next(&mut near).unwrap(), inner);
}

#[test]
fn the_close_message_waits_for_room_and_wakes_both_halves() {
    let (near, mut far) = channel(1);
    let mut near = CompressionLayer::new(Deflate::new().keep_context()).layer(near);
    let (writes, reads) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let (writer, reader) = (Waker::from(writes.clone()), Waker::from(reads.clone()));
    put(&mut near, Message::text("in the way"));
    assert!(near.poll_ready_unpin(&mut Context::from_waker(&writer)).is_pending());

    put(&mut far, marked(&noise(3, 500), 3000, KEPT_BINARY));
    assert!(matches!(near.poll_next_unpin(&mut Context::from_waker(&reader)), Poll::Ready(Some(Err(_)))));
    assert!(near.poll_next_unpin(&mut Context::from_waker(&reader)).is_pending());
    assert_eq!(next(&mut far).unwrap(), Message::text("in the way"));
    assert_eq!((writes.get(), reads.get()), (1, 1));
    assert!(matches!(near.poll_next_unpin(&mut Context::from_waker(&reader)), Poll::Ready(None)));
    assert!(matches!(near.poll_ready_unpin(&mut Context::from_waker(&writer)), Poll::Ready(Err(_))));
    assert!(next(&mut far).unwrap().is_close());
}

#[test]
fn a_driver_ends_with_the_error_of_a_lost_context() {
    let (mut near, far) = pair(Deflate::new().keep_context(), Deflate::new());
    put(&mut near, Message::text(chat(1, 1000)));
    let (_sender, mut receiver, driver) = far.drive(tower_transport::QueueConfig::messages()).into_parts();
    let (item, _) = block_on(async { futures_util::future::join(receiver.next(), driver).await });
    assert!(item.unwrap().unwrap_err().is_protocol());
}
