use proptest::prelude::*;
use tower_transport::{
    Message,
    codec::{Codec, Format, HybridCodec, JsonCodec, RkyvCodec},
};

use crate::codec::value::{Order, Side, order, sample};

fn format(message: &Message) -> Format {
    if message.as_text().is_some() { Format::Json } else { Format::Rkyv }
}

proptest! {
    #[test]
    fn both_formats_are_understood_whatever_is_sent(order in order(), always_json: bool) {
        let sent = if always_json { Format::Json } else { Format::Rkyv };
        let mut codec = HybridCodec::<Order>::always(sent);
        let message = codec.encode(&order).unwrap();
        prop_assert_eq!(format(&message), sent);
        prop_assert_eq!(&codec.decode(message).unwrap(), &order);
        let json = JsonCodec::<Order>::new().encode(&order).unwrap();
        prop_assert_eq!(&codec.decode(json).unwrap(), &order);
        let rkyv = RkyvCodec::<Order>::new().encode(&order).unwrap();
        prop_assert_eq!(&codec.decode(rkyv).unwrap(), &order);
        prop_assert_eq!(format(&codec.encode(&order).unwrap()), sent);
    }

    #[test]
    fn any_message_is_a_value_or_a_codec_error(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut codec = HybridCodec::<Order>::mirror(Format::Json);
        for message in [Message::text(text), Message::binary(bytes)] {
            if let Err(error) = codec.decode(message) {
                prop_assert!(error.is_codec());
            }
        }
    }
}

#[test]
fn a_mirror_sends_its_first_choice_and_then_what_the_peer_last_sent() {
    for first in [Format::Json, Format::Rkyv] {
        let mut codec = HybridCodec::<Order>::mirror(first);
        assert_eq!(format(&codec.encode(&sample()).unwrap()), first);
        for message in [
            JsonCodec::<Order>::new().encode(&sample()).unwrap(),
            RkyvCodec::<Order>::new().encode(&sample()).unwrap(),
            JsonCodec::<Order>::new().encode(&sample()).unwrap(),
        ] {
            let theirs = format(&message);
            codec.decode(message).unwrap();
            assert_eq!(format(&codec.encode(&sample()).unwrap()), theirs);
        }
    }
}

#[test]
fn a_mirror_learns_nothing_from_a_bad_payload_and_nothing_from_another_connection() {
    let mut codec = HybridCodec::<Order>::mirror(Format::Rkyv);
    codec.decode(Message::text("{")).unwrap_err();
    assert_eq!(format(&codec.encode(&sample()).unwrap()), Format::Rkyv);

    codec.decode(JsonCodec::<Order>::new().encode(&sample()).unwrap()).unwrap();
    assert_eq!(format(&codec.encode(&sample()).unwrap()), Format::Json);
    assert_eq!(format(&codec.clone().encode(&sample()).unwrap()), Format::Rkyv);
}

#[test]
fn a_function_of_the_value_can_choose() {
    let choose = |order: &Order| if order.side == Side::Buy { Format::Json } else { Format::Rkyv };
    let mut codec = HybridCodec::<Order>::by_value(choose);
    assert_eq!(format(&codec.encode(&Order { side: Side::Buy, ..sample() }).unwrap()), Format::Json);
    assert_eq!(format(&codec.encode(&sample()).unwrap()), Format::Rkyv);
}

#[test]
fn the_rkyv_half_can_be_configured_and_counted() {
    let rkyv = RkyvCodec::<u64>::new();
    let realigned = rkyv.realigned();
    let mut codec = HybridCodec::<u64>::always(Format::Rkyv).rkyv(rkyv);
    let bytes = codec.encode(&1).unwrap().into_bytes();
    let odd = bytes::Bytes::from([vec![0; 1], bytes.to_vec()].concat()).slice(1..);
    codec.decode(Message::Binary(odd)).unwrap();
    assert_eq!(realigned.get(), 1);
}
