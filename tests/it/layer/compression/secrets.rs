//! Batches above compression: what their lengths tell.

use tower_transport::layer::batch::{BatchLayer, BatchPolicy, Batched};

use super::*;

const SECRET: &str = "session=6f1c0d9b7a2e4c83";

fn stack(policy: BatchPolicy, deflate: Deflate) -> (Batched<Compressed<Channel>>, Channel) {
    let (near, far) = channel(8);
    (BatchLayer::new(policy).layer(CompressionLayer::new(deflate).layer(near)), far)
}

/// The length on the wire of a batch of a secret and a stranger's guess.
fn length(deflate: Deflate, guess: &str) -> usize {
    let (mut near, mut far) = stack(BatchPolicy::on_flush(64), deflate);
    near.feed(Message::text(format!("{SECRET}{}", "-".repeat(300)))).now_or_never().unwrap().unwrap();
    put(&mut near, Message::text(format!("{guess}{}", "-".repeat(300))));
    next(&mut far).unwrap().len()
}

#[test]
fn a_batch_that_is_compressed_tells_a_good_guess_from_a_bad_one_and_one_that_is_not_does_not() {
    let (good, bad) = (SECRET, "session=0000000000000000");
    assert!(length(Deflate::new(), good) < length(Deflate::new(), bad), "why there is such a setting");
    let plain = Deflate::new().batches(false);
    assert_eq!(length(plain, good), length(plain, bad));
}

#[test]
fn what_is_worth_compressing_is_compressed_by_itself_where_batches_are_not() {
    let deflate = Deflate::new().batches(false);
    let (near, far) = stack(BatchPolicy::on_flush(64).alone_from(256), deflate);
    let mut near = near;
    let mut far = BatchLayer::default().layer(CompressionLayer::new(deflate).layer(far));
    let messages = [10, 3000, 255, 256, 20, 30].map(|length| Message::text(chat(length, length)));
    for message in &messages {
        near.feed(message.clone()).now_or_never().expect("there is room").unwrap();
    }
    SinkExt::<Message>::flush(&mut near).now_or_never().unwrap().unwrap();
    for message in messages {
        assert_eq!(next(&mut far).unwrap(), message);
    }
    assert_eq!(near.get_ref().stats().sent().plain_bytes, 3000 + 256, "those from 256 bytes on, each alone");
}

#[test]
fn a_refusal_after_which_the_stream_goes_on_is_a_rejection_and_one_that_ends_it_is_not() {
    for (binary, is_rejection) in [(BINARY, true), (KEPT_BINARY, false)] {
        let (mut near, mut far) = over_bare(Deflate::new().keep_context());
        for (what, length) in [("over the limit", 1 << 30), ("not deflate data", 3000)] {
            if is_at_its_end(&mut near) {
                break;
            }
            put(&mut far, marked(&noise(3, 500), length, binary));
            let error = next(&mut near).unwrap_err();
            assert_eq!(error.is_rejection(), is_rejection, "{what}: {error}");
        }
    }
}
