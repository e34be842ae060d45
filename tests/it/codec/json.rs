use std::{collections::BTreeMap, error::Error as _};

use proptest::prelude::*;
use tower_transport::{
    Message,
    codec::{Codec, JsonCodec},
};

use crate::codec::value::{Order, order, sample};

proptest! {
    #[test]
    fn what_goes_out_comes_in_again(orders in prop::collection::vec(order(), 1..5)) {
        let mut codec = JsonCodec::<Order>::new();
        for order in orders {
            let message = codec.encode(&order).unwrap();
            prop_assert!(message.as_text().is_some());
            prop_assert_eq!(codec.decode(Message::binary(message.clone().into_bytes())).unwrap(), order.clone());
            prop_assert_eq!(codec.decode(message).unwrap(), order);
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_a_codec_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = JsonCodec::<Order>::new().decode(Message::binary(bytes)) {
            prop_assert!(error.is_codec());
        }
    }

    #[test]
    fn every_truncation_is_a_codec_error(cut in 0.0..1.0f64) {
        let mut codec = JsonCodec::<Order>::new();
        let whole = codec.encode(&sample()).unwrap().into_bytes();
        let part = whole.slice(..(whole.len() as f64 * cut) as usize);
        prop_assert!(codec.decode(Message::binary(part)).unwrap_err().is_codec());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    format!("{error} {error:?} {}", error.source().map(chain).unwrap_or_default())
}

#[test]
fn an_error_never_quotes_the_payload() {
    let mut codec = JsonCodec::<BTreeMap<String, u32>>::new();
    let mut fields = JsonCodec::<Order>::new();
    for payload in [r#"{"k": "hunter2"}"#, r#"{"k": hunter2}"#, r#"{"hunter2"#, r#"["hunter2"]"#, r#""hunter2""#] {
        let error = codec.decode(Message::text(payload)).unwrap_err();
        assert!(error.is_codec() && !chain(&error).contains("hunter2"), "{}", chain(&error));
    }
    let error = fields.decode(Message::text(r#"{"id": 1, "side": "hunter2"}"#)).unwrap_err();
    assert!(!chain(&error).contains("hunter2"), "{}", chain(&error));
}

#[test]
fn an_error_tells_position_and_cause() {
    let error = JsonCodec::<Order>::new().decode(Message::text("{\"id\":\n1}")).unwrap_err();
    assert_eq!(error.to_string(), "not the JSON that is expected, at line 2 column 2");
    let cause = error.source().unwrap().downcast_ref::<serde_json::Error>().unwrap();
    assert!(cause.to_string().starts_with("missing field `side`"));
}

#[test]
fn a_value_without_a_json_form_is_an_error_and_the_codec_goes_on() {
    let mut codec = JsonCodec::<BTreeMap<(u8, u8), u8>>::new();
    assert!(codec.encode(&BTreeMap::from([((1, 2), 3)])).unwrap_err().is_codec());
    assert_eq!(codec.encode(&BTreeMap::new()).unwrap(), Message::text("{}"));
}

#[test]
fn nesting_without_end_is_an_error_and_not_a_full_stack() {
    let deep = "[".repeat(1 << 20);
    assert!(JsonCodec::<serde_json::Value>::new().decode(Message::text(deep)).unwrap_err().is_codec());
}

#[test]
fn the_buffer_comes_back_when_the_message_is_dropped() {
    let mut codec = JsonCodec::<u64>::new();
    let first = codec.encode(&1).unwrap().as_bytes().as_ptr();
    let reused = (0..10_000).filter(|n| codec.encode(n).unwrap().as_bytes().as_ptr() == first).count();
    assert!(reused > 0);
}
