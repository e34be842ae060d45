//! The memory and the time that a peer can cost by permessage-deflate. Each test runs alone on its thread, whose memory
//! is measured.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, FlushCompress};
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tower_transport::{
    Error, Limits, Message,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketAcceptor},
};

use crate::{
    allocator::Growth,
    attack::REQUEST,
    wire::{BINARY, CONTINUATION, FIN, From, frame},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const RSV1: u8 = 0x40;

/// The memory beside the message: the inflater, and the spare room of a buffer.
const BESIDE: usize = 64 * KIB;

fn deflater() -> Compress {
    Compress::new(Compression::new(9), false)
}

/// Deflate data of this many MiB of zeros, without the end of its flush.
fn zeros(mib: usize) -> Vec<u8> {
    let (mut state, chunk) = (deflater(), vec![0; MIB]);
    let mut data = Vec::with_capacity((mib + 64) * 2 * KIB);
    for _ in 0..mib {
        state.compress_vec(&chunk, &mut data, FlushCompress::None).unwrap();
    }
    state.compress_vec(&[], &mut data, FlushCompress::Sync).unwrap();
    data.truncate(data.len() - 4);
    data
}

fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| zeros(100))
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(plain.len() + 100);
    deflater().compress_vec(plain, &mut data, FlushCompress::Sync).unwrap();
    data.truncate(data.len() - 4);
    data
}

/// A server of ours with compression, and the attacker's end.
async fn meet(takes_over: bool, limits: Limits) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (mut attacker, victim) = tokio::io::duplex(16 * MIB);
    let request = REQUEST.trim_end().to_owned() + "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n";
    attacker.write_all(request.as_bytes()).await.unwrap();
    let config = PerMessageDeflate::new().context_takeover(takes_over).peer_context_takeover(takes_over);
    let (_, victim) = WebSocketAcceptor::new().per_message_deflate(config).limits(limits).accept(victim).await.unwrap();
    assert_eq!(victim.extensions().unwrap().contains("client_no_context_takeover"), !takes_over);
    (attacker, victim)
}

/// The outcome of one message that comes in these frames, and the peak of bytes held in addition to those of the frames.
async fn receive(takes_over: bool, limits: Limits, frames: &[(u8, &[u8])]) -> (Result<Message, Error>, usize) {
    // An error is yielded once the peer has closed, too, or this time is over.
    let (mut attacker, mut victim) = meet(takes_over, limits.close(Duration::ZERO)).await;
    // The chunk that the connections of a thread share.
    attacker.write_all(&frame(FIN | BINARY, "first").bytes(From::Client)).await.unwrap();
    victim.next().await.unwrap().unwrap();
    for (first, payload) in frames {
        attacker.write_all(&frame(*first, *payload).bytes(From::Client)).await.unwrap();
    }
    let growth = Growth::start();
    let received = victim.next().await.unwrap();
    (received, growth.peak())
}

#[tokio::test]
async fn a_bomb_costs_the_limit_and_64_kib() {
    for takes_over in [false, true] {
        for limit in [MIB, 300 * KIB] {
            let limits = Limits::new().message(limit);
            let (received, peak) = receive(takes_over, limits, &[(FIN | RSV1 | BINARY, bomb())]).await;
            let compressed = bomb().len();
            println!("100 MiB in {} KiB, limit {} KiB: {} KiB", compressed / KIB, limit / KIB, peak / KIB);
            assert!(received.unwrap_err().is_too_large());
            assert!(peak <= limit + BESIDE + compressed, "{peak}");
        }
    }
}

#[tokio::test]
async fn a_bomb_in_fragments_costs_the_same() {
    let pieces: Vec<&[u8]> = bomb().chunks(10 * KIB).collect();
    let last = pieces.len() - 1;
    let frames: Vec<(u8, &[u8])> = pieces
        .iter()
        .enumerate()
        .map(|(i, piece)| {
            let first = if i == 0 { RSV1 | BINARY } else { CONTINUATION };
            (if i == last { FIN | first } else { first }, *piece)
        })
        .collect();
    let (received, peak) = receive(false, Limits::new().message(MIB), &frames).await;
    println!("100 MiB in {} fragments, limit 1 MiB: {} KiB", frames.len(), peak / KIB);
    assert!(received.unwrap_err().is_too_large());
    assert!(peak <= MIB + BESIDE + 2 * bomb().len(), "{peak}");
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes() {
    let data = zeros(1);
    let (received, peak) = receive(false, Limits::new().message(MIB), &[(FIN | RSV1 | BINARY, &data)]).await;
    assert_eq!(received.unwrap().len(), MIB);
    println!("1 MiB in {} bytes, limit 1 MiB: {} KiB", data.len(), peak / KIB);
    assert!(peak <= MIB + BESIDE + data.len(), "{peak}");
}

#[tokio::test]
async fn a_bomb_within_a_bomb_is_inflated_once() {
    let nested = deflated(bomb());
    let (received, peak) = receive(false, Limits::new().message(MIB), &[(FIN | RSV1 | BINARY, &nested)]).await;
    println!("100 MiB in {} KiB in {} bytes: {} KiB", bomb().len() / KIB, nested.len(), peak / KIB);
    assert_eq!(received.unwrap().len(), bomb().len());
    assert!(peak <= 2 * bomb().len() + BESIDE, "{peak}");
}

#[tokio::test]
async fn empty_blocks_cost_no_memory_and_little_time() {
    // As many as fit into the default limit: stored ones, fixed ones, and such that end their stream.
    let stored = [0, 0, 0, 0xff, 0xff].repeat(4 * MIB / 5);
    // A fixed block without content is 10 bits, so four of them are 5 bytes.
    let fixed = [0b0000_0010, 0b0000_1000, 0b0010_0000, 0b1000_0000, 0].repeat(4 * MIB / 5);
    let last = [3, 0].repeat(2 * MIB);
    for (name, blocks, is_valid) in [("stored", stored, true), ("fixed", fixed, true), ("final", last, false)] {
        let start = Instant::now();
        let limits = Limits::new().frame(4 * MIB);
        let (received, peak) = receive(true, limits, &[(FIN | RSV1 | BINARY, &blocks)]).await;
        println!(
            "4 MiB of empty {name} blocks: {} KiB, {:?}",
            peak.saturating_sub(blocks.len()) / KIB,
            start.elapsed()
        );
        assert_eq!(received.as_ref().is_ok_and(Message::is_empty), is_valid, "{name}: {received:?}");
        assert!(received.is_ok() || received.unwrap_err().is_protocol());
        assert!(peak <= blocks.len() + 256 * KIB + BESIDE, "{peak}");
    }
}

#[tokio::test]
async fn a_reference_beyond_the_agreed_window_costs_nothing() {
    // A match 32 KiB back, where 9 bits were agreed on: understood, because the window here does not depend on it.
    let plain = [vec![1; 300], (0..32_000_u32).map(|i| ((i * i) >> 7) as u8).collect(), vec![1; 300]].concat();
    let (mut attacker, victim) = tokio::io::duplex(MIB);
    let request = REQUEST.trim_end().to_owned()
        + "\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits=9\r\n\r\n";
    attacker.write_all(request.as_bytes()).await.unwrap();
    let acceptor = WebSocketAcceptor::new().per_message_deflate(PerMessageDeflate::new());
    let (_, mut victim) = acceptor.accept(victim).await.unwrap();
    assert!(victim.extensions().unwrap().ends_with("client_max_window_bits=9"));
    attacker.write_all(&frame(FIN | RSV1 | BINARY, deflated(&plain)).bytes(From::Client)).await.unwrap();
    assert_eq!(victim.next().await.unwrap().unwrap(), Message::binary(plain));
    // A match beyond everything that was sent: a fixed block with a match of length 3 at distance 1.
    attacker.write_all(&frame(FIN | RSV1 | BINARY, [0x02, 0x02, 0x00]).bytes(From::Client)).await.unwrap();
    let error = victim.next().await.unwrap().unwrap_err();
    assert!(error.is_protocol(), "{error}");
}

#[tokio::test]
async fn fifty_idle_connections_hold_no_context_without_takeover() {
    let mut connections = Vec::new();
    for _ in 0..50 {
        connections.push(meet(false, Limits::new()).await);
    }
    let data = deflated(&[7; 10 * KIB]);
    let growth = Growth::start();
    for (attacker, victim) in &mut connections {
        attacker.write_all(&frame(FIN | RSV1 | BINARY, &data[..]).bytes(From::Client)).await.unwrap();
        assert_eq!(victim.next().await.unwrap().unwrap().len(), 10 * KIB);
    }
    println!("50 connections that have inflated: {} KiB together", growth.peak() / KIB);
    // One inflater, one buffer, one chunk: all of the thread.
    assert!(growth.peak() < 512 * KIB, "{}", growth.peak());
}
