//! The lowest bit of the first byte chooses the role, the next one whether reads wait, and the second byte how much one
//! read gives; the rest is what the peer sends. Whatever it is: the messages of tungstenite, and its verdict, except for
//! the differences that are listed in `tests/support/against_tungstenite.rs`.
#![no_main]

#[path = "../../tests/support/against_tungstenite.rs"]
mod against_tungstenite;
mod runtime;

use libfuzzer_sys::fuzz_target;
use tower_transport::Limits;

const MESSAGE: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let [settings, piece, bytes @ ..] = input else { return };
    let (is_client, waits) = (settings & 1 != 0, settings & 2 != 0);
    let limits = Limits::new().message(MESSAGE).frame(MESSAGE).fragments(usize::MAX);
    let pieces = [usize::from(*piece).max(1).pow(2)];
    runtime::block_on(against_tungstenite::compare(is_client, limits, bytes, 0, &pieces, waits));
});
