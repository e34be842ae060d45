//! Packing and unpacking.

use std::task::{Context, Poll, Waker};

use futures_util::{SinkExt, StreamExt};
use tower_layer::Layer;
use tower_transport::{
    Message, channel,
    layer::batch::{BatchLayer, BatchPolicy},
};

use super::{Row, message, through};

pub(crate) const LONE: &str = "+ batch, flushed each";
pub(crate) const PACKED: &str = "+ batch of 64";
/// The baseline of [`PACKED`]: 64 messages through the bare channel, then one flush.
pub(crate) const FED: &str = "bare channel, 64 fed";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: LONE, run: |messages| through(BatchLayer::default(), message(), messages) },
        Row { name: FED, run: |messages| fed(tower_layer::Identity::new(), messages) },
        Row { name: PACKED, run: |messages| fed(BatchLayer::new(BatchPolicy::default()), messages) },
    ]
}

/// Feeds 64 messages, flushes once, and receives them.
fn fed<L>(layer: L, messages: usize)
where
    L: Layer<
            tower_transport::Channel,
            Service: futures_sink::Sink<Message> + futures_core::Stream<Item: Sized> + Unpin,
        >,
{
    let (here, there) = channel::<Message, Message>(64);
    let (mut here, mut there) = (layer.layer(here), layer.layer(there));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..messages / 64 {
        for _ in 0..64 {
            assert!(matches!(here.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))));
            assert!(here.start_send_unpin(std::hint::black_box(message())).is_ok());
        }
        assert!(matches!(here.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
        for _ in 0..64 {
            let Poll::Ready(Some(received)) = there.poll_next_unpin(&mut cx) else { panic!("the message is there") };
            std::hint::black_box(received);
        }
    }
}
