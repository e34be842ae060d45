use std::{error::Error as _, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use tower_transport::{
    Message,
    codec::{Codec, RkyvCodec, View},
};

use crate::codec::value::{Order, order, sample};

/// The payload at an address that is `offset` over a multiple of 16.
fn at_offset(payload: &[u8], offset: usize) -> Bytes {
    let mut room = vec![0; payload.len() + 32];
    let start = room.as_ptr().addr().wrapping_neg() % 16 + offset;
    room[start..start + payload.len()].copy_from_slice(payload);
    Bytes::from(room).slice(start..start + payload.len())
}

fn archive(order: &Order) -> Bytes {
    RkyvCodec::<Order>::new().encode(order).unwrap().into_bytes()
}

proptest! {
    #[test]
    fn what_goes_out_comes_in_again(orders in prop::collection::vec(order(), 1..5)) {
        let mut owned = RkyvCodec::<Order>::new();
        let mut views = RkyvCodec::<Order>::views();
        for order in orders {
            let message = owned.encode(&order).unwrap();
            prop_assert_eq!(&owned.decode(message.clone()).unwrap(), &order);
            let view = views.decode(message).unwrap();
            prop_assert!(*view == order);
            prop_assert_eq!(view.to_owned().unwrap(), order);
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_a_codec_error(bytes in prop::collection::vec(any::<u8>(), 0..300), offset in 0..16usize) {
        check(at_offset(&bytes, offset))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 10_000 }))]

    #[test]
    fn a_mutated_archive_is_a_value_or_a_codec_error(
        order in order(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        offset in 0..16usize,
    ) {
        let mut bytes = archive(&order).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(at_offset(&bytes, offset))?;
    }
}

/// Decodes both ways; what was accepted must be readable to its last byte.
fn check(bytes: Bytes) -> Result<(), TestCaseError> {
    let view = RkyvCodec::<Order>::views().decode(Message::Binary(bytes.clone()));
    let owned = RkyvCodec::<Order>::new().decode(Message::Binary(bytes));
    match (view, owned) {
        (Ok(view), Ok(owned)) => {
            prop_assert!(*view == owned);
            let printed = format!("{view:?}");
            prop_assert!(!printed.is_empty());
        }
        (Err(view), Err(owned)) => prop_assert!(view.is_codec() && owned.is_codec()),
        (view, owned) => prop_assert!(false, "the view was {view:?} and the value {owned:?}"),
    }
    Ok(())
}

#[test]
fn every_misalignment_gives_the_same_view() {
    let bytes = archive(&sample());
    let mut codec = RkyvCodec::<Order>::views();
    let realigned = codec.realigned();
    for offset in 0..16 {
        assert!(*codec.decode(Message::Binary(at_offset(&bytes, offset))).unwrap() == sample(), "{offset}");
    }
    // An order holds 64-bit numbers: it can be read at offsets 0 and 8.
    assert_eq!(realigned.get(), 14);
}

#[test]
fn a_list_that_needs_more_alignment_than_its_root_is_read_at_every_offset() {
    let mut codec = RkyvCodec::<Vec<u64>>::views();
    let realigned = codec.realigned();
    let bytes = codec.encode(&vec![u64::MAX, 1, 2]).unwrap().into_bytes();
    for offset in 0..16 {
        let view = codec.decode(Message::Binary(at_offset(&bytes, offset))).unwrap();
        assert_eq!(view.as_slice(), [u64::MAX, 1, 2], "{offset}");
    }
    assert!(realigned.get() >= 14);
}

#[test]
fn an_aligned_view_is_the_received_memory() {
    let bytes = at_offset(&archive(&sample()), 0);
    let view = RkyvCodec::<Order>::views().decode(Message::Binary(bytes.clone())).unwrap();
    assert_eq!(view.bytes().as_ptr(), bytes.as_ptr());
    assert!(bytes.as_ptr_range().contains(&view.symbol.as_ptr()));
}

#[test]
fn views_that_were_moved_do_not_share_their_memory_while_they_live() {
    let mut codec = RkyvCodec::<String>::views();
    let views: Vec<View<String>> = (0..100)
        .map(|n| {
            let message = codec.encode(&format!("a text that is not inlined, number {n}")).unwrap();
            codec.decode(Message::Binary(at_offset(message.as_bytes(), 1))).unwrap()
        })
        .collect();
    for (n, view) in views.iter().enumerate() {
        assert_eq!(view.as_str(), format!("a text that is not inlined, number {n}"));
    }
    assert_eq!(codec.realigned().get(), 100);
}

#[test]
fn a_view_outlives_its_codec_and_crosses_threads() {
    let view = {
        let mut codec = RkyvCodec::<Order>::views();
        let message = codec.encode(&sample()).unwrap();
        codec.decode(message).unwrap()
    };
    let copy = view.clone();
    std::thread::spawn(move || assert!(*copy == sample())).join().unwrap();
    assert!(*view == sample());
}

#[test]
fn every_truncation_is_a_codec_error() {
    let bytes = archive(&sample());
    let mut codec = RkyvCodec::<Order>::views();
    for end in 0..bytes.len() {
        assert!(codec.decode(Message::Binary(bytes.slice(..end))).unwrap_err().is_codec(), "{end}");
    }
}

#[test]
fn bytes_before_the_archive_change_nothing_and_bytes_after_it_are_read_as_the_root() {
    let bytes = archive(&sample());
    let mut codec = RkyvCodec::<Order>::views();
    let before = [vec![0; 4096], bytes.to_vec()].concat();
    assert!(*codec.decode(Message::binary(before)).unwrap() == sample());
    let after = [bytes.to_vec(), vec![0xff; 4096]].concat();
    assert!(codec.decode(Message::binary(after)).unwrap_err().is_codec());
}

#[test]
fn text_is_refused_with_the_reason() {
    let error = RkyvCodec::<Order>::new().decode(Message::text("{}")).unwrap_err();
    assert_eq!(error.to_string(), "rkyv archives are binary messages, and this one is text");
    assert!(error.is_codec());
}

#[test]
fn rkyvs_own_error_is_the_source() {
    let error = RkyvCodec::<Order>::new().decode(Message::binary(vec![0xff; 128])).unwrap_err();
    assert!(error.source().unwrap().is::<::rkyv::rancor::BoxedError>());
}

#[derive(Debug, ::rkyv::Archive, ::rkyv::Serialize, ::rkyv::Deserialize)]
#[rkyv(
    serialize_bounds(__S: ::rkyv::ser::Writer),
    deserialize_bounds(__D::Error: ::rkyv::rancor::Source),
    bytecheck(bounds(__C: ::rkyv::validation::ArchiveContext, __C::Error: ::rkyv::rancor::Source))
)]
struct Nested(#[rkyv(omit_bounds)] Option<Box<Self>>);

fn nested(depth: usize) -> Nested {
    (1..depth).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))))
}

#[test]
fn nesting_is_accepted_up_to_the_limit_and_refused_beyond() {
    let mut codec = RkyvCodec::<Nested>::new();
    let limit = RkyvCodec::<Nested>::DEFAULT_MAX_DEPTH.get();
    for (depth, fits) in [(1, true), (limit - 1, true), (limit, false), (1000, false)] {
        let message = codec.encode(&nested(depth)).unwrap();
        assert_eq!(codec.decode(message).is_ok(), fits, "{depth}");
    }
    let mut codec = RkyvCodec::<Nested>::new().max_depth(NonZeroUsize::new(2000).unwrap());
    let message = codec.encode(&nested(1000)).unwrap();
    assert!(codec.decode(message).is_ok());
}

#[test]
fn values_without_a_size_and_shared_ones_pass_too() {
    let mut unit = RkyvCodec::<()>::views();
    let message = unit.encode(&()).unwrap();
    assert!(message.is_empty());
    unit.decode(message).unwrap();

    let text: Arc<str> = "shared by two fields".into();
    let mut shared = RkyvCodec::<(Arc<str>, Arc<str>)>::new();
    let message = shared.encode(&(text.clone(), text)).unwrap();
    let (first, second) = shared.decode(message).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn clones_share_settings_and_count_and_no_buffer() {
    let mut codec = RkyvCodec::<String>::views().max_depth(NonZeroUsize::MIN);
    let mut copy = codec.clone();
    let (here, there) = (codec.encode(&"one".to_owned()).unwrap(), copy.encode(&"two".to_owned()).unwrap());
    assert_ne!(here.as_bytes().as_ptr(), there.as_bytes().as_ptr());
    assert!(copy.decode(here.clone()).is_err() && codec.decode(here).is_err());

    let mut codec = RkyvCodec::<u64>::views();
    let message = codec.encode(&5).unwrap();
    assert_eq!(codec.clone().decode(Message::Binary(at_offset(message.as_bytes(), 3))).unwrap().to_native(), 5);
    assert_eq!(codec.realigned().get(), 1);
}
