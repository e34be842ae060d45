//! The items of a stream, compared with messages of the same transport that no call has.

use std::{num::NonZeroU32, time::Instant};

use cpu_time::ProcessTime;
use futures_util::{SinkExt, StreamExt, stream};
use harness::{
    goal::goal,
    loopback::on_one_thread,
    plan::Plan,
    rounds::{self, Row, Sample},
};
use tower::service_fn;
use tower_transport::{
    Transport,
    service::peer::{Frame, IncomingCall, PeerBuilder, Reply},
};

use crate::{
    PAYLOAD,
    ours::{Messages, Wire, ends},
};

pub(crate) fn run(plan: &Plan) {
    let count = plan.count(200_000);
    for (over, is_channel) in [("a channel", true), ("a WebSocket over TCP", false)] {
        let rows = [
            Row::new("bare messages", move || on_one_thread(pair(is_channel, None, count))),
            Row::new("items, window 16", move || on_one_thread(pair(is_channel, NonZeroU32::new(16), count))),
            Row::new("items, window 256", move || on_one_thread(pair(is_channel, NonZeroU32::new(256), count))),
        ];
        let table = rounds::run(plan.rounds, &rows).against("bare messages");
        table.print(&format!("{count} items over {over}: per item, both ends"), "wall us");
        let name = if is_channel { "channel" } else { "web-socket" };
        for (window, row) in [(16, "items, window 16"), (256, "items, window 256")] {
            if let Some(ratio) = table.ratio(row, "bare messages", |sample| sample.cpu) {
                goal(&format!("rpc/item-vs-message-{name}-window{window}"), ratio, 1.2);
            }
        }
    }
}

async fn pair(is_channel: bool, window: Option<NonZeroU32>, count: usize) -> Sample {
    if is_channel {
        let (here, there) = tower_transport::channel(128);
        measure(here, there, window, count).await
    } else {
        let [here, there] = ends().await;
        measure(here, there, window, count).await
    }
}

async fn measure<T>(here: T, there: T, window: Option<NonZeroU32>, count: usize) -> Sample
where
    T: Transport<Messages, In = Messages, TransportError: Send> + Send + Unpin + 'static,
{
    match window {
        Some(window) => items(here, there, window, count).await,
        None => messages(here, there, count).await,
    }
}

async fn items<T>(here: T, there: T, window: NonZeroU32, count: usize) -> Sample
where
    T: Transport<Messages, In = Messages, TransportError: Send> + Send + Unpin + 'static,
{
    let numbers = move || {
        service_fn(move |_: IncomingCall<_>| {
            std::future::ready(Ok::<_, String>(Reply::Stream(stream::iter(0..count).map(|_| Ok(PAYLOAD)))))
        })
    };
    let (_caller, peer) = PeerBuilder::new(Wire::new()).build(there, numbers());
    tokio::spawn(peer);
    let (mut caller, peer) = PeerBuilder::new(Wire::new()).window(window).build(here, numbers());
    tokio::spawn(peer);
    let (cpu, wall) = (ProcessTime::now(), Instant::now());
    let mut stream = caller.stream(PAYLOAD, false).await.expect("a place");
    let mut received = 0;
    while let Some(item) = stream.next().await {
        assert_eq!(item.expect("an item"), PAYLOAD);
        received += 1;
    }
    assert_eq!(received, count);
    Sample::of(wall.elapsed(), cpu.elapsed(), count)
}

/// As they would be sent by hand: fed while there is room, then flushed.
async fn messages<T>(mut here: T, mut there: T, count: usize) -> Sample
where
    T: Transport<Messages, In = Messages, TransportError: Send> + Send + Unpin + 'static,
{
    let (cpu, wall) = (ProcessTime::now(), Instant::now());
    let sending = tokio::spawn(async move {
        let mut messages = stream::iter(0..count).map(|_| Ok(Frame::Item { id: 1, answer: PAYLOAD }));
        there.send_all(&mut messages).await.ok();
        there
    });
    for _ in 0..count {
        let message = here.next().await.expect("a message").ok();
        assert_eq!(message, Some(Frame::Item { id: 1, answer: PAYLOAD }));
    }
    let sample = Sample::of(wall.elapsed(), cpu.elapsed(), count);
    drop(sending.await);
    sample
}
