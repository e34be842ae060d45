//! The suite whose parameter is the transport, in two halves: what the client of each case does, and what its server
//! does. `tests/net/transports` runs both in one process. A page (`tests/browser`) runs the client's half against a
//! program that runs the server's. Both cut connections over UDP with the same relay.

pub mod client;
#[cfg(not(target_arch = "wasm32"))]
pub mod relay;
#[cfg(not(target_arch = "wasm32"))]
pub mod server;
pub mod value;

use std::{num::NonZeroU32, time::Duration};

use tower_transport::{
    BoxTransport, CloseCode, CloseFrame, Message,
    layer::{
        batch::BatchPolicy,
        compression::Deflate,
        heartbeat::HeartbeatLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::Backoff,
        resume::ResumeLayer,
    },
    stack::{OptimizedBuilder, OptimizedTransport},
};

use self::value::{Value, noise};

/// Boxed, so that the suite is compiled once.
pub type Wire = BoxTransport<Message>;
pub type End = BoxTransport<Value>;

/// The ends of a conversation.
pub const CLIENT: u8 = 1;
pub const SERVER: u8 = 2;

/// How much may be unacknowledged.
const REPLAY: usize = 1 << 20;
const ACK_DELAY: Duration = Duration::from_millis(5);

fn batch() -> BatchPolicy {
    BatchPolicy::new(32, Duration::from_millis(1))
}

/// One that is met, and waits a little.
fn rate() -> RateLimitLayer {
    let quota = Quota::per_second(NonZeroU32::new(20_000).unwrap());
    RateLimitLayer::per_connection(quota.allow_burst(NonZeroU32::new(200).unwrap())).outbound()
}

fn deflate() -> Deflate {
    Deflate::new().min_size(256)
}

/// The pings of a transport.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pings {
    /// It sends and answers them.
    Its,
    /// It sends them, and the layer answers.
    Answered,
    /// It has none, and the layer sends messages.
    #[allow(dead_code, reason = "only a page has such transports")]
    Messages,
}

/// Soon enough for a link that is dead without a word; a machine that is busy for so long costs a connection, and no
/// message.
fn heartbeat() -> HeartbeatLayer {
    HeartbeatLayer::new(Duration::from_millis(100), Duration::from_millis(400))
}

/// The recommended stack, which negotiates the form of its pings.
pub fn optimized(pings: Pings) -> OptimizedBuilder {
    OptimizedTransport::builder()
        .heartbeat(if pings == Pings::Answered { heartbeat().answer_pings() } else { heartbeat() })
        .resume(ResumeLayer::new().ack_delay(ACK_DELAY))
        .backoff(Backoff::fixed(Duration::from_millis(2)))
}

/// From empty to large, each as bytes and as text.
fn of_all_sizes() -> Vec<Message> {
    let sizes = [0, 1, 125, 126, 16_383, 16_384, 65_535, 65_536, 300_000, 4 << 20, 0];
    sizes.into_iter().flat_map(|size| [Message::binary(noise(size, 7)), Message::text("é".repeat(size / 2))]).collect()
}

/// The messages before a close.
fn before_close() -> Vec<Message> {
    (0..50).map(|number| Message::text(format!("{number}").repeat(100))).collect()
}

fn close_frame() -> CloseFrame {
    CloseFrame::new(CloseCode::new(4321).unwrap(), "enough, é")
}

/// A message that is compressible or not, tiny or not.
fn nth_message(number: u64) -> Message {
    match number % 50 {
        7 => Message::text("so it goes ".repeat(500)),
        9 => Message::binary(noise(5000, number)),
        size => Message::binary([&number.to_le_bytes()[..], &noise(size as usize, number)].concat()),
    }
}

/// The answer of the bridge's service.
fn doubled(mut value: Value) -> Value {
    value.number *= 2;
    value.payload.reverse();
    value
}
