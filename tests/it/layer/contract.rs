//! The contract of `Transport`, over each codec: the layer at both ends of a channel with room for one message.

use tower::ServiceBuilder;
use tower_transport::{
    Channel, Message, ServiceBuilderExt, channel,
    codec::{Codec, Format, HybridCodec, JsonCodec, RkyvCodec, View},
    contract_tests,
    layer::codec::Coded,
    test_util::contract::Contract,
};

#[derive(
    Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
)]
#[rkyv(derive(Debug))]
struct Order {
    id: u64,
    note: String,
}

fn nth(i: usize) -> Order {
    Order { id: i as u64, note: "x".repeat(i % 40) }
}

fn pair<C: Codec + Clone>(codec: &C) -> (Coded<Channel, C>, Coded<Channel, C>) {
    let (here, there) = channel::<Message, Message>(1);
    let stack = ServiceBuilder::new().codec(codec.clone());
    (stack.clone().service(here), stack.service(there))
}

/// A view, compared with the value that it is of.
impl PartialEq<Order> for View<Order> {
    fn eq(&self, order: &Order) -> bool {
        self.to_owned().is_ok_and(|own| own == *order)
    }
}

contract_tests!(mod json, pair = pair(&JsonCodec::<Order>::new()), message = nth);
contract_tests!(mod rkyv_owned, pair = pair(&RkyvCodec::<Order>::new()), message = nth);
contract_tests!(mod hybrid_json, pair = pair(&HybridCodec::<Order>::always(Format::Json)), message = nth);
contract_tests!(mod hybrid_rkyv, pair = pair(&HybridCodec::<Order>::always(Format::Rkyv)), message = nth);
contract_tests!(mod hybrid_mirror, pair = pair(&HybridCodec::<Order>::mirror(Format::Rkyv)), message = nth);
contract_tests!(
    mod rkyv_views,
    contract = Contract::new(async || pair(&RkyvCodec::<Order>::views()), nth).outgoing(nth, nth).incoming(nth, nth)
);
