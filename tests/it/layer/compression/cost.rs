//! The memory of a connection, and the allocations of a message.

use allocation_counter::measure;

use super::*;

const KIB: u64 = 1024;

fn round(near: &mut Compressed<Channel>, far: &mut Compressed<Channel>, message: &Message) {
    put(near, message.clone());
    assert_eq!(&next(far).unwrap(), message);
}

#[test]
fn a_message_allocates_its_payload_once_on_each_end_and_nothing_else() {
    for deflate in [Deflate::new(), Deflate::new().keep_context()] {
        let (mut near, mut far) = pair(deflate, deflate);
        let messages = [Message::text(chat(1, 2048)), Message::binary(chat(2, 60_000).into_bytes())];
        for message in &messages {
            round(&mut near, &mut far, message);
        }
        let sent = || near.stats().sent().compressed_bytes;
        let (before, plain) = (sent(), messages.iter().map(|message| message.len() as u64).sum::<u64>());
        let info = measure(|| messages.iter().for_each(|message| round(&mut near, &mut far, message)));
        assert_eq!(info.count_total, 4, "{info:?}");
        // The message's own size, and not a byte more.
        assert_eq!(info.bytes_total, plain + near.stats().sent().compressed_bytes - before);
    }
}

#[test]
fn a_message_over_64_kib_is_cut_to_its_size_by_one_reallocation() {
    let (mut near, mut far) = pair(Deflate::new(), Deflate::new());
    let message = Message::text(chat(1, 1 << 20));
    round(&mut near, &mut far, &message);
    let info = measure(|| round(&mut near, &mut far, &message));
    assert!(info.count_total <= 3, "{info:?}");
}

#[test]
fn a_message_that_passes_allocates_nothing() {
    let (mut near, mut far) = pair(Deflate::new(), Deflate::new());
    let message = Message::text(chat(1, 200));
    round(&mut near, &mut far, &message);
    assert_eq!(measure(|| round(&mut near, &mut far, &message)).count_total, 0);
}

/// Bytes that a connection holds, both ends, after a message each way.
fn held(deflate: Deflate) -> u64 {
    const CONNECTIONS: u64 = 16;
    let message = Message::text(chat(1, 2048));
    let connect = || {
        let (mut near, mut far) = pair(deflate, deflate);
        round(&mut near, &mut far, &message);
        round(&mut far, &mut near, &message);
        (near, far)
    };
    // The thread's own states are made here.
    let mut connections = vec![connect()];
    connections.reserve(CONNECTIONS as usize);
    let info = measure(|| connections.extend(std::iter::repeat_with(connect).take(CONNECTIONS as usize)));
    u64::try_from(info.bytes_current).unwrap() / CONNECTIONS
}

#[test]
fn an_idle_connection_holds_no_state_of_zlib_unless_its_context_is_kept() {
    let (idle, kept) = (held(Deflate::new()), held(Deflate::new().keep_context()));
    println!("two ends and their channel hold {idle} bytes, with kept contexts {kept}");
    assert!(idle < 4 * KIB, "{idle}");
    let end = (kept - idle) / 2;
    assert!((330 * KIB..440 * KIB).contains(&end), "{end}");
}
