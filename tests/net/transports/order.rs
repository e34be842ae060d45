use futures_util::{SinkExt, StreamExt};
use tower_transport::Message;

use crate::transports::{carrier::Carrier, stack::both, talk::converse, value::noise};

pub(crate) async fn values_arrive_in_order_both_ways<C: Carrier>() {
    let both = both::<C>(Vec::new()).await;
    let (near, mut far) = converse(both, 2000).await;

    // And none comes that was not said.
    drop((near.sender, near.receiver));
    assert!(far.receiver.receive().await.is_none());
    near.driving.await.unwrap().unwrap();
}

/// The transport as it is: what the layers do to a message is theirs.
pub(crate) async fn messages_from_empty_to_large_arrive_as_they_were_sent<C: Carrier>() {
    let (mut near, mut far) = C::open(Vec::new()).await.connect().await;
    let sizes = [0, 1, 125, 126, 16_383, 16_384, 65_535, 65_536, 300_000, 4 << 20, 0];
    let messages: Vec<_> = sizes
        .into_iter()
        .flat_map(|size| [Message::binary(noise(size, 7)), Message::text("é".repeat(size / 2))])
        .collect();
    let expected = messages.clone();
    for (way, is_back) in [("there", false), ("back", true)] {
        let (from, to) = if is_back { (&mut far, &mut near) } else { (&mut near, &mut far) };
        let sending = async {
            for message in messages.clone() {
                from.send(message).await.unwrap();
            }
        };
        let receiving = async {
            for expected in &expected {
                let message = to.next().await.unwrap().unwrap();
                let (size, is_text) = (message.len(), message.as_text().is_some());
                assert!(message == *expected, "{way}: {size} bytes, text: {is_text}");
            }
        };
        tokio::join!(sending, receiving);
    }
}
