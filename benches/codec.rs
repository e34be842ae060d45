//! The cost of a codec per message: time, ratio to JSON, allocations. Run by `cargo bench -p benches --bench codec`.
//!
//! The contestants of a table take turns within each round, in an order that rotates, and a ratio is the median over
//! rounds of the two times of one round: so a noisy machine disturbs both sides alike. JSON, the 1.00 of each table, is
//! `serde_json::to_vec` and `serde_json::from_slice`, as one would write them without this crate.
//!
//! Decoding gets the same message again and again: a view gives it back, the others take a clone (two atomic
//! operations).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rkyv::{
    api::high::{HighSerializer, to_bytes_in_with_alloc},
    rancor::BoxedError,
    ser::allocator::{Arena, ArenaHandle},
    util::AlignedVec,
};
use tower_transport::codec::JsonCodec;
use tower_transport::{
    Message,
    codec::{Codec, Owned, RkyvCodec, RkyvEncode},
};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // One thread allocates here, so no atomic addition is needed, which would cost as much as some contestants.
    ALLOCATIONS.store(ALLOCATIONS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as asked of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as asked of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as asked of the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as asked of the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(
    Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
struct Chat {
    id: u64,
    sent_at: i64,
    room: String,
    client: String,
    author: Author,
    text: String,
    mentions: Vec<String>,
    reply_to: Option<u64>,
    edited: bool,
}

#[derive(
    Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
struct Author {
    id: u64,
    name: String,
}

fn chat() -> Chat {
    Chat {
        id: 81_723_645_192,
        sent_at: 1_790_000_123_456,
        room: "engineering".to_owned(),
        client: "desktop 4.2".to_owned(),
        author: Author { id: 4_217, name: "Ada Lovelace".to_owned() },
        text: "The analytical engine weaves algebraic patterns, like a loom.".to_owned(),
        mentions: vec!["charles".to_owned(), "grace".to_owned(), "a.turing".to_owned()],
        reply_to: Some(81_723_645_190),
        edited: false,
    }
}

struct Contestant<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
    times: Vec<f64>,
    allocations: f64,
}

fn contestant<'a>(name: &'static str, run: impl FnMut() + 'a) -> Contestant<'a> {
    Contestant { name, run: Box::new(run), times: Vec::new(), allocations: f64::NAN }
}

/// Nanoseconds per call, over `calls` of them.
fn time(run: &mut dyn FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        run();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a table to its end; the ratios are to the first contestant.
fn compete<'a>(title: &str, rounds: usize, mut all: Vec<Contestant<'a>>) -> Vec<Contestant<'a>> {
    const BATCH: Duration = Duration::from_micros(200);
    let mut calls = Vec::new();
    for one in &mut all {
        // Warm: buffers have grown, caches are filled, branches are learnt.
        let warm = (0..5).map(|_| time(&mut one.run, 20)).fold(f64::INFINITY, f64::min);
        calls.push(((BATCH.as_nanos() as f64 / warm) as u32).clamp(1, 10_000));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        time(&mut one.run, 1000.min(calls[calls.len() - 1]));
        let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
        one.allocations = counted as f64 / f64::from(1000.min(calls[calls.len() - 1]));
    }
    for round in 0..rounds {
        for turn in 0..all.len() {
            let index = (round + turn) % all.len();
            let ns = time(&mut all[index].run, calls[index]);
            all[index].times.push(ns);
        }
    }
    println!("\n{title}\n{:<34} {:>12} {:>8} {:>8}", "", "ns", "ratio", "allocs");
    for one in &all {
        let ns = median(one.times.clone());
        println!("{:<34} {ns:>12.1} {:>8.4} {:>8.2}", one.name, ratio(&all, one.name, all[0].name), one.allocations);
    }
    all
}

fn find<'a, 'b>(all: &'a [Contestant<'b>], name: &str) -> &'a Contestant<'b> {
    all.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no contestant {name}"))
}

fn ratio(all: &[Contestant<'_>], name: &str, base: &str) -> f64 {
    let pairs = find(all, name).times.iter().zip(&find(all, base).times);
    median(pairs.map(|(one, base)| one / base).collect())
}

fn goal(name: &str, value: f64, bound: f64) {
    println!("goal {name} {value:.3} <= {bound} {}", if value <= bound { "met" } else { "missed" });
}

/// The payload at an address that is `offset` over a multiple of 16.
fn at_offset(payload: &[u8], offset: usize) -> Message {
    let mut room = vec![0; payload.len() + 32];
    let start = room.as_ptr().addr().wrapping_neg() % 16 + offset;
    room[start..start + payload.len()].copy_from_slice(payload);
    Message::Binary(Bytes::from(room).slice(start..start + payload.len()))
}

/// The value that every contestant supports.
trait Value:
    serde::Serialize
    + serde::de::DeserializeOwned
    + RkyvEncode
    + Owned
    + for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, BoxedError>>
    + for<'a> rkyv::Serialize<HighSerializer<&'a mut AlignedVec, ArenaHandle<'a>, BoxedError>>
{
}

impl Value for Chat {}
impl Value for Vec<f32> {}

fn encode<'a, T: Value>(title: &str, rounds: usize, value: &'a T, archive: &'a [u8]) -> Vec<Contestant<'a>> {
    let (mut buffer, mut copy) = (Vec::new(), Vec::new());
    let mut codec = RkyvCodec::<T>::new();
    let mut all = vec![
        contestant("serde_json::to_vec", || {
            black_box(serde_json::to_vec(black_box(value)).unwrap());
        }),
        contestant("serde_json, kept Vec", move || {
            buffer.clear();
            serde_json::to_writer(&mut buffer, black_box(value)).unwrap();
            black_box(&buffer);
        }),
    ];
    {
        let mut codec = JsonCodec::<T>::new();
        all.push(contestant("JsonCodec", move || {
            black_box(codec.encode(black_box(value)).unwrap());
        }));
    }
    all.push(contestant("rkyv::to_bytes", || {
        black_box(rkyv::to_bytes::<BoxedError>(black_box(value)).unwrap());
    }));
    let (mut arena, mut kept) = (Arena::new(), AlignedVec::<16>::new());
    all.push(contestant("rkyv, kept AlignedVec and Arena", move || {
        kept.clear();
        let writer: &mut AlignedVec = &mut kept;
        let serialized = to_bytes_in_with_alloc::<_, _, BoxedError>(black_box(value), writer, arena.acquire());
        black_box(serialized.unwrap());
    }));
    all.push(contestant("RkyvCodec", move || {
        black_box(codec.encode(black_box(value)).unwrap());
    }));
    all.push(contestant("memcpy of the archive, kept Vec", move || {
        copy.clear();
        copy.extend_from_slice(black_box(archive));
        black_box(&copy);
    }));
    let mut shared = BytesMut::with_capacity(4096.max(archive.len()));
    all.push(contestant("the same, into shared bytes", move || {
        shared.reserve(archive.len());
        shared.extend_from_slice(black_box(archive));
        black_box(shared.split().freeze());
    }));
    compete(title, rounds, all)
}

fn decode<'a, T: Value + 'a>(title: &str, rounds: usize, json: &'a [u8], archive: &'a [u8]) -> Vec<Contestant<'a>> {
    let (aligned, odd) = (at_offset(archive, 0), at_offset(archive, 1));
    let mut message = aligned.clone();
    let (mut owned, mut views, mut moved) = (RkyvCodec::<T>::new(), RkyvCodec::<T>::views(), RkyvCodec::<T>::views());
    let mut all = vec![contestant("serde_json::from_slice", || {
        black_box(serde_json::from_slice::<T>(black_box(json)).unwrap());
    })];
    {
        let (mut codec, text) = (JsonCodec::<T>::new(), Message::text(std::str::from_utf8(json).unwrap()));
        all.push(contestant("JsonCodec", move || {
            black_box(codec.decode(black_box(text.clone())).unwrap());
        }));
    }
    all.push(contestant("RkyvCodec, owned", move || {
        black_box(owned.decode(black_box(aligned.clone())).unwrap());
    }));
    all.push(contestant("RkyvCodec, view", move || {
        let view = black_box(views.decode(black_box(std::mem::replace(&mut message, Message::Close(None)))).unwrap());
        message = Message::Binary(view.into_bytes());
    }));
    all.push(contestant("RkyvCodec, view, misaligned", move || {
        black_box(moved.decode(black_box(odd.clone())).unwrap());
    }));
    compete(title, rounds, all)
}

fn main() {
    let chat = chat();
    let (json, archive) = payloads(&chat);
    println!("a chat message: {} bytes of JSON, {} bytes of rkyv", json.len(), archive.len());
    let encoded = encode("encode a chat message", 201, &chat, &archive);
    let decoded = decode::<Chat>("decode a chat message", 201, &json, &archive);

    let floats: Vec<f32> = (0..1 << 18).map(|n| (n as f32).sin()).collect();
    let (json, archive) = payloads(&floats);
    println!("\n1 MiB of f32: {} bytes of JSON, {} bytes of rkyv", json.len(), archive.len());
    let encoded_large = encode("encode 1 MiB of f32", 31, &floats, &archive);
    decode::<Vec<f32>>("decode 1 MiB of f32", 31, &json, &archive);

    println!();
    let view = "RkyvCodec, view";
    goal("codec/rkyv-view-decode-vs-json", ratio(&decoded, view, "serde_json::from_slice"), 0.12);
    goal("codec/rkyv-encode-vs-json", ratio(&encoded, "RkyvCodec", "serde_json::to_vec"), 0.35);
    goal("codec/rkyv-encode-allocations", find(&encoded, "RkyvCodec").allocations, 0.0);
    let misaligned = find(&decoded, "RkyvCodec, view, misaligned").allocations;
    goal("codec/rkyv-view-allocations", find(&decoded, view).allocations.max(misaligned), 0.0);
    let memcpy = ratio(&encoded_large, "RkyvCodec", "memcpy of the archive, kept Vec");
    goal("codec/rkyv-encode-1MiB-vs-memcpy", memcpy, 1.2);
}

/// The JSON and the archive of a value.
fn payloads<T: Value>(value: &T) -> (Vec<u8>, Vec<u8>) {
    (serde_json::to_vec(value).unwrap(), rkyv::to_bytes::<BoxedError>(value).unwrap().to_vec())
}
