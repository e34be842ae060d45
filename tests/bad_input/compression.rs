//! The memory that a peer can make the compression layer hold. Each test runs alone on its thread, whose memory is
//! measured.

use std::sync::OnceLock;

use flate2::{Compress, Compression, FlushCompress};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::ServiceBuilder;
use tower_transport::{Error, Limits, Message, ServiceBuilderExt, TransportExt, channel, layer::compression::Deflate};

use crate::{allocator::Growth, attack::Victim, within};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const BINARY: u8 = 1;
const KEPT_BINARY: u8 = 3;

/// A message as a peer may write it, by `docs/wire.md`.
fn marked(data: &[u8], length: usize, kind: u8) -> Message {
    let length = u32::try_from(length).unwrap().to_le_bytes();
    Message::binary([data, &length, &[kind, 1, 0xf8, b't', b't', b'x', 1, 0xff]].concat())
}

/// Deflate data of this many MiB of zeros, at the highest compression level.
fn zeros(mib: usize) -> Vec<u8> {
    let mut state = Compress::new(Compression::new(9), false);
    let (chunk, mut data) = (vec![0; MIB], Vec::with_capacity((mib + 64) * 2 * KIB));
    for _ in 0..mib {
        state.compress_vec(&chunk, &mut data, FlushCompress::None).unwrap();
    }
    state.compress_vec(&[], &mut data, FlushCompress::Sync).unwrap();
    assert!(state.total_in() == (mib * MIB) as u64 && data.ends_with(&[0, 0, 0xff, 0xff]));
    data.truncate(data.len() - 4);
    data
}

/// 100 MiB of zeros, made once: in a debug build that takes seconds.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| zeros(100))
}

/// The outcome of the message, and the peak of bytes held in addition to it.
fn receive(deflate: Deflate, message: Message) -> (Result<Message, Error>, usize) {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = ServiceBuilder::new().compress(deflate).service(here);
    there.send_message(message).now_or_never().unwrap().unwrap();
    let growth = Growth::start();
    let received = here.next().now_or_never().unwrap().unwrap();
    (received, growth.peak())
}

#[test]
fn a_bomb_of_100_mib_is_refused_before_it_is_inflated() {
    let data = bomb();
    assert!(data.len() < 110 * KIB, "{}", data.len());
    for kind in [BINARY, KEPT_BINARY] {
        let deflate = Deflate::new().max_inflated(MIB).keep_context();
        let (received, peak) = receive(deflate, marked(data, 100 * MIB, kind));
        println!("100 MiB in {} KiB, honestly: {peak} bytes held at most", data.len() / KIB);
        assert!(received.unwrap_err().is_too_large());
        assert!(peak < 16 * KIB, "{peak}");
    }
}

#[test]
fn a_bomb_that_lies_about_its_size_costs_its_limit_and_64_kib() {
    let data = bomb();
    for (kind, claim) in [(BINARY, MIB), (KEPT_BINARY, MIB), (BINARY, 64 * KIB), (BINARY, 1), (KEPT_BINARY, 0)] {
        let deflate = Deflate::new().max_inflated(MIB).keep_context();
        let (received, peak) = receive(deflate, marked(data, claim, kind));
        println!("100 MiB in {} KiB that claim {} KiB: {} KiB held at most", data.len() / KIB, claim / KIB, peak / KIB);
        assert!(received.unwrap_err().is_codec());
        // The inflater is 47 KiB of that, and the thread's, where it is not the connection's kept context.
        assert!(peak <= claim.max(64 * KIB) + 64 * KIB, "{peak}");
    }
}

#[test]
fn a_bomb_within_the_limit_is_refused_for_its_ratio() {
    let data = zeros(3);
    let (received, peak) = receive(Deflate::new(), marked(&data, 3 * MIB, BINARY));
    let error = received.unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("200 to 1"), "{error}");
    assert!(peak < 16 * KIB, "{peak}");
}

#[test]
fn a_nested_bomb_is_opened_once() {
    let inner = marked(bomb(), 100 * MIB, BINARY);
    let mut data = Vec::with_capacity(64 * KIB);
    Compress::new(Compression::new(9), false).compress_vec(inner.as_bytes(), &mut data, FlushCompress::Sync).unwrap();
    data.truncate(data.len() - 4);
    assert!(data.len() < 2 * KIB, "{}", data.len());
    let outer = marked(&data, inner.len(), BINARY);
    println!("100 MiB, twice compressed: {} bytes", outer.len());
    let (received, peak) = receive(Deflate::new().max_ratio(1032), outer);
    assert_eq!(received.unwrap(), inner);
    assert!(peak <= inner.len() + 64 * KIB, "{peak}");
}

#[test]
fn a_flood_of_empty_stored_blocks_gives_nothing_and_holds_nothing() {
    let data = [0, 0, 0, 0xff, 0xff].repeat(MIB / 5);
    for (claim, is_fine) in [(0, true), (1, false), (4 * MIB, false)] {
        let (received, peak) = receive(Deflate::new(), marked(&data, claim, BINARY));
        assert_eq!(received.is_ok_and(|message| message.is_empty()), is_fine);
        assert!(peak <= claim + 128 * KIB, "{peak}");
    }
}

#[test]
fn a_flood_of_tiny_messages_that_claim_64_kib_holds_the_room_for_one() {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = ServiceBuilder::new().compress(Deflate::new()).service(here);
    let message = marked(&[0; 3], 64 * KIB, BINARY);
    let growth = Growth::start();
    for _ in 0..10_000 {
        there.send_message(message.clone()).now_or_never().unwrap().unwrap();
        assert!(here.next().now_or_never().unwrap().unwrap().is_err());
    }
    assert!(growth.peak() < 128 * KIB, "{}", growth.peak());
    assert_eq!(here.stats().refused(), 10_000);
}

#[tokio::test]
async fn over_a_socket_a_bomb_costs_its_own_message_and_the_connection_goes_on() {
    within(async {
        let (raw, socket) = Victim::Server.meet(Limits::new()).await;
        let mut peer = tower_transport::transport::websocket::WebSocket::client(raw, Limits::new());
        let mut socket = ServiceBuilder::new().compress(Deflate::new()).service(socket);
        peer.feed(marked(bomb(), 4 * MIB, BINARY)).await.unwrap();
        peer.send(Message::text("sorry")).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap_err().is_codec());
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("sorry"));
    })
    .await;
}
