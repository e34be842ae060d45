//! Eight flows of messages at a steady pace, whatever carries them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tower_transport::{Error, Message};

pub(crate) const FLOWS: usize = 8;
pub(crate) const SIZE: usize = 1 << 10;
/// Between two messages of one flow.
pub(crate) const PACE: Duration = Duration::from_millis(8);

/// A message says when it was to be sent, in nanoseconds since the beginning.
fn message(since: u64) -> Message {
    let mut payload = BytesMut::zeroed(SIZE);
    (&mut payload[..8]).put_u64(since);
    Message::binary(payload.freeze())
}

/// Sends `messages` for each of `flows`, one flow a little after the other, each at its time whether or not the
/// previous ones have come back. A message that waits for its send counts as late: its clock starts when it was due.
pub(crate) async fn send<S>(mut sink: S, flows: Arc<[usize]>, messages: usize, start: Instant)
where
    S: Sink<Message, Error = Error> + Unpin,
{
    for turn in 0..messages {
        for flow in flows.iter() {
            let due = PACE * turn as u32 + PACE / FLOWS as u32 * *flow as u32;
            tokio::time::sleep_until((start + due).into()).await;
            sink.send(message(due.as_nanos() as u64)).await.expect("an open transport");
        }
    }
    // The sink stays open until all have come back.
    std::future::pending::<()>().await;
}

/// How long each of `messages` took to come back, in milliseconds.
pub(crate) async fn receive<S>(mut stream: S, messages: usize, start: Instant) -> Vec<f64>
where
    S: Stream<Item = Result<Message, Error>> + Unpin,
{
    let mut millis = Vec::with_capacity(messages);
    while millis.len() < messages {
        let message = stream.next().await.expect("an echo").expect("an echo");
        let due = u64::from_be_bytes(*message.as_bytes().first_chunk().expect("eight bytes"));
        millis.push((start.elapsed() - Duration::from_nanos(due)).as_secs_f64() * 1e3);
    }
    millis
}
