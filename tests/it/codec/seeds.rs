//! The seeds of the fuzz targets, kept valid; run with `UPDATE_SEEDS=1` to write them again.

use std::{fs, path::PathBuf};

use tower_transport::{
    Message,
    codec::{Codec, Format, HybridCodec, JsonCodec, RkyvCodec},
};

use crate::codec::value::{Order, Side, sample};

fn small() -> Order {
    Order { id: 1, side: Side::Buy, symbol: String::new(), levels: Vec::new(), note: None, tags: Vec::new() }
}

fn seed(path: &str, first: u8, payload: &Message) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(path);
    let contents = [&[first], payload.as_bytes()].concat();
    if std::env::var_os("UPDATE_SEEDS").is_some() {
        fs::write(&path, &contents).unwrap();
    }
    let stored = fs::read(path).unwrap();
    assert_eq!(stored[0], first);
    stored[1..].to_vec()
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_seeds_of_the_fuzz_targets_are_what_the_codecs_write() {
    if !PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz").exists() {
        return; // the published package comes without them
    }
    let cross = Order { side: Side::Cross("crossed with another".to_owned()), ..sample() };
    for (name, order) in [("seed-small", small()), ("seed-sample", sample()), ("seed-cross", cross)] {
        let archive = RkyvCodec::<Order>::new().encode(&order).unwrap();
        let json = JsonCodec::<Order>::new().encode(&order).unwrap();

        let stored = seed(&format!("rkyv_view/{name}"), 3, &archive);
        assert!(*RkyvCodec::<Order>::views().decode(Message::binary(stored)).unwrap() == order);

        let mut codec = HybridCodec::<Order>::always(Format::Json);
        let stored = seed(&format!("hybrid_decode/{name}-binary"), 0, &archive);
        assert_eq!(codec.decode(Message::binary(stored)).unwrap(), order);
        let stored = seed(&format!("hybrid_decode/{name}-text"), 1, &json);
        assert_eq!(codec.decode(Message::text(String::from_utf8(stored).unwrap())).unwrap(), order);
    }
}
