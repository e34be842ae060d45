//! A value with what messages have: strings, numbers, lists, options, alternatives, nesting.

use proptest::prelude::*;

#[derive(
    Clone,
    Debug,
    PartialEq,
    serde::Serialize,
    serde::Deserialize,
    ::rkyv::Archive,
    ::rkyv::Serialize,
    ::rkyv::Deserialize,
)]
#[rkyv(derive(Debug), compare(PartialEq))]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) side: Side,
    pub(crate) symbol: String,
    pub(crate) levels: Vec<(u32, i64)>,
    pub(crate) note: Option<String>,
    pub(crate) tags: Vec<String>,
}

#[derive(
    Clone,
    Debug,
    PartialEq,
    serde::Serialize,
    serde::Deserialize,
    ::rkyv::Archive,
    ::rkyv::Serialize,
    ::rkyv::Deserialize,
)]
#[rkyv(derive(Debug), compare(PartialEq))]
pub(crate) enum Side {
    Buy,
    Sell { short: bool },
    Cross(String),
}

pub(crate) fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), any::<bool>().prop_map(|short| Side::Sell { short }), ".{0,20}".prop_map(Side::Cross)]
}

pub(crate) fn order() -> impl Strategy<Value = Order> {
    let levels = prop::collection::vec(any::<(u32, i64)>(), 0..20);
    let tags = prop::collection::vec(".{0,12}", 0..6);
    (any::<u64>(), side(), ".{0,40}", levels, prop::option::of(".{0,60}"), tags)
        .prop_map(|(id, side, symbol, levels, note, tags)| Order { id, side, symbol, levels, note, tags })
}

pub(crate) fn sample() -> Order {
    Order {
        id: 7,
        side: Side::Sell { short: true },
        symbol: "a symbol that is not inlined".to_owned(),
        levels: vec![(1, -1), (2, i64::MAX)],
        note: Some("a note that is not inlined".to_owned()),
        tags: vec!["fast".to_owned(), "a tag that is not inlined".to_owned()],
    }
}
