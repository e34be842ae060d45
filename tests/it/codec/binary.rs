//! The codecs of binary formats of serde: MessagePack and CBOR.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tower_transport::{
    Message,
    codec::{CborCodec, Codec, MessagePackCodec},
};

use crate::codec::value::{Order, order, sample};

fn chain(error: &dyn std::error::Error) -> String {
    format!("{error} {error:?} {}", error.source().map(chain).unwrap_or_default())
}

macro_rules! promises {
    ($name:ident, $Codec:ident) => {
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn what_goes_out_comes_in_again(orders in prop::collection::vec(order(), 1..5)) {
                    let mut codec = $Codec::<Order>::new();
                    for order in orders {
                        let message = codec.encode(&order).unwrap();
                        prop_assert!(matches!(message, Message::Binary(_)));
                        prop_assert_eq!(codec.decode(message).unwrap(), order);
                    }
                }

                #[test]
                fn any_bytes_are_a_value_or_a_codec_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
                    if let Err(error) = $Codec::<Order>::new().decode(Message::binary(bytes.clone())) {
                        prop_assert!(error.is_codec());
                    }
                    if let Err(error) = $Codec::<serde_json::Value>::new().decode(Message::binary(bytes)) {
                        prop_assert!(error.is_codec());
                    }
                }

                #[test]
                fn every_truncation_is_a_codec_error(cut in 0.0..1.0f64) {
                    let mut codec = $Codec::<Order>::new();
                    let whole = codec.encode(&sample()).unwrap().into_bytes();
                    let part = whole.slice(..(whole.len() as f64 * cut) as usize);
                    prop_assert!(codec.decode(Message::binary(part)).unwrap_err().is_codec());
                }
            }

            #[test]
            fn bytes_after_the_value_are_an_error() {
                let mut codec = $Codec::<Order>::new();
                let mut bytes = codec.encode(&sample()).unwrap().into_bytes().to_vec();
                bytes.push(0);
                let error = codec.decode(Message::binary(bytes)).unwrap_err();
                assert!(error.to_string().starts_with("1 bytes follow the"), "{error}");
            }

            #[test]
            fn text_is_an_error_that_says_so() {
                let error = $Codec::<u32>::new().decode(Message::text("7")).unwrap_err();
                assert!(error.is_codec() && error.to_string().ends_with("this one is text"), "{error}");
            }

            #[test]
            fn an_error_never_quotes_the_payload() {
                let secret = $Codec::<BTreeMap<String, String>, ()>::new()
                    .encode(&BTreeMap::from([("k".to_owned(), "hunter2".to_owned())]))
                    .unwrap();
                let text = $Codec::<String, ()>::new().encode(&"hunter2".to_owned()).unwrap();
                let errors = [
                    $Codec::<(), BTreeMap<String, u32>>::new().decode(secret.clone()).unwrap_err(),
                    $Codec::<(), Order>::new().decode(secret).unwrap_err(),
                    $Codec::<(), u32>::new().decode(text).unwrap_err(),
                ];
                for error in errors {
                    assert!(error.is_codec() && !chain(&error).contains("hunter2"), "{}", chain(&error));
                }
            }

            #[test]
            fn nesting_without_end_is_an_error_and_not_a_full_stack() {
                // An array of one element: 0x91 in MessagePack, 0x81 in CBOR.
                let deep = vec![if stringify!($name) == "cbor" { 0x81 } else { 0x91 }; 1 << 20];
                let error = $Codec::<serde_json::Value>::new().decode(Message::binary(deep)).unwrap_err();
                assert!(error.is_codec());
            }

            #[test]
            fn a_value_is_nested_at_most_as_deep_as_set() {
                let nested: serde_json::Value = serde_json::from_str("[[[[[[[[]]]]]]]]").unwrap();
                let mut codec = $Codec::<serde_json::Value>::new();
                let message = codec.encode(&nested).unwrap();
                assert_eq!(codec.decode(message.clone()).unwrap(), nested);
                assert!(codec.max_depth(4).decode(message).unwrap_err().is_codec());
            }

            #[test]
            fn the_buffer_comes_back_when_the_message_is_dropped() {
                let mut codec = $Codec::<u64>::new();
                let first = codec.encode(&1).unwrap().as_bytes().as_ptr();
                let reused = (0..10_000).filter(|n| codec.encode(n).unwrap().as_bytes().as_ptr() == first).count();
                assert!(reused > 0);
            }
        }
    };
}

promises!(messagepack, MessagePackCodec);
promises!(cbor, CborCodec);

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Point {
    x: i8,
    y: Option<u16>,
}

#[test]
fn structs_are_maps_of_their_fields_as_other_languages_read_them() {
    let point = Point { x: -1, y: Some(500) };
    let messagepack = MessagePackCodec::<Point>::new().encode(&point).unwrap();
    assert_eq!(messagepack.as_bytes(), b"\x82\xa1x\xff\xa1y\xcd\x01\xf4");
    let cbor = CborCodec::<Point>::new().encode(&point).unwrap();
    assert_eq!(cbor.as_bytes(), b"\xa2\x61x\x20\x61y\x19\x01\xf4");
}

#[test]
fn a_field_that_one_end_does_not_know_is_ignored_and_an_optional_one_may_be_absent() {
    assert_eq!(
        MessagePackCodec::<Point>::new()
            .decode(Message::binary(b"\x82\xa1z\x93\x01\x02\x03\xa1x\x05".to_vec()))
            .unwrap(),
        Point { x: 5, y: None },
    );
    assert_eq!(
        CborCodec::<Point>::new().decode(Message::binary(b"\xa2\x61z\x83\x01\x02\x03\x61x\x05".to_vec())).unwrap(),
        Point { x: 5, y: None },
    );
}

#[test]
fn a_compact_codec_sends_structs_as_arrays_and_each_reads_both() {
    let point = Point { x: -1, y: Some(500) };
    let compact = MessagePackCodec::<Point>::new().compact().encode(&point).unwrap();
    assert_eq!(compact.as_bytes(), b"\x92\xff\xcd\x01\xf4");
    assert_eq!(MessagePackCodec::<Point>::new().decode(compact).unwrap(), point);
    let named = MessagePackCodec::<Point>::new().encode(&point).unwrap();
    assert_eq!(MessagePackCodec::<Point>::new().compact().decode(named).unwrap(), point);
}
