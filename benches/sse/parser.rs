//! Our parser beside `sse-stream`, the fastest one that there is: the same chunks of 16 KiB, as a socket gives them.

use std::{hint::black_box, io, time::Duration};

use bytes::{Bytes, BytesMut};
use cpu_time::ThreadTime;
use futures_util::{FutureExt, StreamExt, stream};
use sse_stream::SseByteStream;
use tower_transport::transport::sse::{Event, Parser};

use crate::{
    goal::goal,
    plan::Plan,
    rows::{self, Row},
};

const CHUNK: usize = 16 << 10;

/// How many bytes there are, about: they stay in the cache, as what comes from a socket does.
const STREAM: usize = 256 << 10;

/// The kind of an event's data, its bytes, and whether each event has a type and an id.
const CASES: [(&str, usize, bool); 4] = [
    ("parser 32 B", 32, false),
    ("parser 200 B", 200, false),
    ("parser 200 B with type and id", 200, true),
    ("parser 1 KiB", 1 << 10, false),
];

pub(crate) fn run(plan: &Plan) {
    for (name, size, named) in CASES {
        if !plan.wants(name) {
            continue;
        }
        let chunks = chunks(size, named, STREAM / size);
        let chunks = vec![chunks; plan.count(20)].concat();
        let events = STREAM / size * plan.count(20);
        let rows: [Row<'_>; 2] =
            [("sse-stream", Box::new(|| theirs(&chunks, events))), ("ours", Box::new(|| ours(&chunks, events)))];
        let ratios = rows::run(name, plan.rounds, events, &rows);
        // At least 1.5 times the events per second.
        goal(&format!("sse/{}-to-sse-stream", name.replace(' ', "-")), ratios[1], 0.667);
    }
}

/// A stream of this many events, in the pieces that a socket returns.
fn chunks(size: usize, named: bool, events: usize) -> Vec<Bytes> {
    let mut bytes = BytesMut::new();
    for index in 0..events {
        let mut event = Event::new("x".repeat(size));
        if named {
            event = event.event("update").expect("one line").id(&index.to_string()).expect("one line");
        }
        event.encode(&mut bytes);
    }
    bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}

fn ours(chunks: &[Bytes], events: usize) -> Duration {
    let start = ThreadTime::now();
    let mut parser = Parser::new();
    let mut seen = 0;
    for chunk in chunks {
        parser.push(chunk.clone());
        while let Ok(Some(event)) = parser.next_event() {
            black_box(&event);
            seen += 1;
        }
    }
    assert_eq!(seen, events);
    start.elapsed()
}

fn theirs(chunks: &[Bytes], events: usize) -> Duration {
    let start = ThreadTime::now();
    let chunks = chunks.iter().cloned().map(Ok::<_, io::Error>);
    let seen = SseByteStream::new(stream::iter(chunks)).fold(0, |seen, event| {
        black_box(&event.expect("a good stream"));
        std::future::ready(seen + 1)
    });
    assert_eq!(seen.now_or_never(), Some(events), "it waits for nothing");
    start.elapsed()
}
