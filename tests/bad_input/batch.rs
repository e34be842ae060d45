//! Batches that lie, from a peer on a real socket: one clear error each, and memory bounded by what was really sent.

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tower::Layer;
use tower_transport::{
    Error, Limits, Message,
    layer::batch::{BatchLayer, Batched},
    transport::websocket::WebSocket,
};

use crate::{
    allocator::Growth,
    attack::Victim,
    wire::{BINARY, FIN, TEXT, frame},
    within,
};

const KIB: usize = 1024;
const MARK: [u8; 8] = [1, 2, 0xf8, b't', b't', b'x', 1, 0xff];

fn batch(payload: &[u8], index: &[u8], length: u32) -> Vec<u8> {
    [payload, index, &length.to_le_bytes(), &MARK].concat()
}

/// Sends one binary message, then a text; gives what the victim makes of it, and how much it held at most beyond
/// what came.
async fn attacked(
    victim: Victim,
    layer: BatchLayer,
    message: Vec<u8>,
    session: impl AsyncFnOnce(&mut Batched<WebSocket>),
) -> usize {
    let limits = Limits::new();
    let (mut attacker, socket) = victim.meet(limits).await;
    let length = message.len();
    let bytes = [frame(FIN | BINARY, message), frame(FIN | TEXT, "still here")].map(|it| it.bytes(victim.attacker()));
    let attacker = async move {
        for part in &bytes {
            attacker.write_all(part).await.unwrap();
        }
        // Kept, so that what is given back does not hide what the victim takes.
        (attacker, bytes)
    };
    let mut socket = layer.layer(socket);
    let session = async {
        let growth = Growth::start();
        session(&mut socket).await;
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
        growth.peak().saturating_sub(length)
    };
    let (held, _attacker) = within(async { tokio::join!(session, attacker) }).await;
    held
}

async fn refused(layer: BatchLayer, message: Vec<u8>, says: &str, is: fn(&Error) -> bool) {
    for victim in [Victim::Server, Victim::Client] {
        let held = attacked(victim, layer.clone(), message.clone(), async |socket| {
            let error = socket.next().await.unwrap().unwrap_err();
            assert!(is(&error) && error.to_string().contains(says), "{error:?}");
        });
        let held = held.await;
        println!("{} bytes, {says}: {} KiB held beside the message", message.len(), held / KIB);
        // The read buffer of a socket: the chunk of a busy connection has 128 KiB.
        assert!(held < 256 * KIB, "{held}");
    }
}

#[tokio::test]
async fn lengths_that_lie_are_refused_and_nothing_is_allocated_for_them() {
    let lies: [(&[u8], &str); 6] = [
        (&[0xfe, 0xff, 0xff, 0xff, 0xf], "more bytes than there are"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "longer than 32 bits"),
        (&[0xff, 0xff, 0xff], "cut short"),
        (&[4, 4], "more bytes than there are"),
        (&[2], "belong to no message"),
        (&[], "no message"),
    ];
    for (index, says) in lies {
        refused(BatchLayer::default(), batch(b"abc", index, index.len() as u32), says, Error::is_protocol).await;
    }
    for length in [4, 1 << 20, u32::MAX] {
        refused(BatchLayer::default(), batch(b"", &[2], length), "exceeds the batch", Error::is_protocol).await;
    }
}

#[tokio::test]
async fn a_count_of_u64_max_or_of_u32_max_is_no_length_and_is_refused() {
    // As peers might write it who put a count there.
    let counted = [&b"abc"[..], &u64::MAX.to_le_bytes(), &MARK].concat();
    refused(BatchLayer::default(), counted, "exceeds the batch", Error::is_protocol).await;
}

#[tokio::test]
async fn a_million_empty_messages_in_one_frame_are_refused_by_default() {
    let million = batch(b"", &vec![0; 1_000_000], 1_000_000);
    refused(BatchLayer::default(), million, "more than 65536 messages", Error::is_too_large).await;
}

#[tokio::test]
async fn a_million_empty_messages_in_one_frame_cost_no_memory_where_they_are_allowed() {
    let million = batch(b"", &vec![1; 1_000_000], 1_000_000);
    let layer = BatchLayer::default().max_items(1_000_000);
    let held = attacked(Victim::Server, layer, million, async |socket| {
        for _ in 0..1_000_000 {
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(""));
        }
    });
    let held = held.await;
    println!("1,000,000 empty messages: {} KiB held beside the frame", held / KIB);
    assert!(held < 256 * KIB, "{held}");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_found_before_the_first_message_is_given() {
    let mut index = vec![2; 1000];
    index.push(3);
    let payload = [&[b'a'; 1000][..], &[0xff]].concat();
    refused(BatchLayer::default(), batch(&payload, &index, 1001), "UTF-8", Error::is_protocol).await;
}
