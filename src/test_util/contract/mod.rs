//! The contract of [`Transport`](crate::Transport), as checks that one line runs for any transport or layer.
//!
//! In a test file, one line generates one named test for each rule, so that a failure names the rule:
//!
//! ```
//! use tower_transport::{Message, channel, contract_tests};
//!
//! contract_tests!(mod channel_contract, pair = channel(4), message = |i| Message::text(i.to_string()));
//! # fn main() {}
//! ```
//!
//! The same as a plain function, on any executor:
//!
//! ```
//! use tower_transport::{Message, channel, test_util::contract::{Contract, block_on}};
//!
//! let contract = Contract::new(async || channel(4), |i| Message::text(i.to_string()));
//! block_on(contract.all());
//! ```
//!
//! # Checks
//!
//! The rules are the [`Check`]s. Each runs in both directions, on a fresh pair. Nothing sleeps, and no time is
//! measured: a check polls both ends, and fails if an expected event does not happen although every other task had its
//! turn (or, with [`Contract::patience`], when your timer fires). Control messages ([`Message::is_control`]) that
//! arrive are skipped, because a transport may have its own.
//!
//! A failure states which rule was violated, what was found and what to do:
//!
//! ```text
//! contract broken: wake_ups
//!   rule:  a Pending half wakes its newest waker when it can make progress
//!   ends:  from the second to the first end of the pair
//!   found: poll_next was Pending, a message was flushed, and the newest waker was not woken (1 messages in flight)
//!   to do: before Pending is returned, the waker of this very context must be registered; ...
//! ```
//!
//! Some properties cannot be observed from both ends and are not checked: how many *bytes* are buffered, whether a
//! flush reached the operating system or only the peer, and how a transport handles messages of other kinds than the
//! given ones.
//!
//! # Which check finds which mistake
//!
//! | mistake in a layer | check |
//! |---|---|
//! | An own message takes the room that was promised, and `start_send` fails | [`Readiness`](Check::Readiness) |
//! | `start_send` goes to the inner transport without room | [`Readiness`](Check::Readiness), [`Order`](Check::Order) |
//! | A message overtakes another in a buffer of the layer, is lost or sent twice | [`Order`](Check::Order) |
//! | `poll_flush` does not send what the layer buffers, or does not flush below | [`Flush`](Check::Flush) |
//! | A queue without a bound: `poll_ready` never returns `Pending` | [`BackPressure`](Check::BackPressure) |
//! | The stream waits until the sink has room | [`Duplex`](Check::Duplex) |
//! | State in a future, not in the transport: dropping a send loses a message | [`Cancellation`](Check::Cancellation) |
//! | One waker for both halves, an old waker, or `Pending` without a waker | [`WakeUps`](Check::WakeUps) |
//! | `poll_close` does not send what was accepted, or messages are accepted after it | [`Close`](Check::Close) |
//! | An error on each poll, a stream that never ends, a sink that hides the loss | [`Cut`](Check::Cut) |
//!
//! [`layer::own`](crate::layer::own) does what most of these ask for, and
//! [`docs/writing-a-layer.md`](crate::guide::writing_a_layer) shows a layer that uses it.
//!
//! # Choice of pairs
//!
//! - For a transport: its two ends. With a real socket, choose messages large enough to fill the buffers below within
//!   [`Contract::room`] messages, and run on a runtime: `contract_tests!(mod sockets, pair = connect().await, message =
//!   |i| Message::binary(vec![i as u8; 65_536]), room = 1_000, on = tokio)`.
//! - For a layer that adds nothing to the wire: the layer over one end of a [`channel`](crate::channel()), and the bare
//!   other end. Use a small capacity: a channel of 1 detects a layer that sends without checking for room.
//! - For a layer that changes messages: the mirrored layer on the other end, or the bare end and the messages that
//!   arrive there:
//!
//! ```
//! use futures_util::{SinkExt, TryStreamExt};
//! use tower_transport::{Error, Message, channel, test_util::contract::{Contract, block_on}};
//!
//! // Numbers on one end, text on the other.
//! let pair = async || {
//!     let (here, there) = channel::<Message, Message>(1);
//!     let here = here
//!         .with(async |number: u64| Ok::<_, Error>(Message::text(number.to_string())))
//!         .map_ok(|message: Message| message.as_text().and_then(|text| text.parse().ok()).unwrap_or(0));
//!     (here, there)
//! };
//! let contract = Contract::new(pair, |i| i as u64)
//!     .outgoing(|i| i as u64, |i| Message::text(i.to_string()))
//!     .incoming(|i| Message::text(i.to_string()), |i| i as u64);
//! block_on(contract.all());
//! ```
//!
//! [`Message::is_control`]: crate::Message::is_control

mod bench;
mod check;
mod macros;
mod rules;
mod runner;
mod wait;

pub use self::{
    check::Check,
    runner::{Contract, Messages},
    wait::block_on,
};
