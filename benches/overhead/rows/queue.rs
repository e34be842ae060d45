use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
};

use futures_util::{SinkExt, StreamExt};
use tower_layer::Layer;
use tower_transport::{Message, channel, layer::queue::QueueLayer};

use super::{Row, message, through};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: QUEUE, run: |messages| through(QueueLayer::default(), message(), messages) },
        Row { name: "+ queue, each waits", run: waiting },
    ]
}

pub(crate) const QUEUE: &str = "+ queue";

/// Each message finds the channel full, and waits in the queue until the one before it was read.
fn waiting(messages: usize) {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = QueueLayer::default().layer(here);
    let message = message();
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..=messages {
        assert!(matches!(here.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))));
        assert!(here.start_send_unpin(black_box(&message).clone()).is_ok());
        if here.queued() > 0 {
            assert!(here.poll_flush_unpin(&mut cx).is_pending());
            let Poll::Ready(Some(received)) = there.poll_next_unpin(&mut cx) else { panic!("the message is there") };
            black_box(received).ok();
        }
    }
}
