//! Server-sent events ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
//!
//! An event stream is an HTTP response that does not end and that consists of text. It is a sequence of events, each a
//! few lines with a type, an id and data. Every browser can read it (`EventSource`), and every proxy passes it.
//!
//! # The parts
//!
//! - [`Event`] is one event, in either direction. [`Event::encode`] writes it, and [`encode_comment`] writes a comment.
//! - [`Parser`] reads events from bytes. It knows no socket and runs everywhere, including in a browser's wasm.
//! - [`SseConnector`] is the client: it opens a receive-only stream of events, [`Sse`]. Below the reconnect layer it is
//!   the counterpart of a browser's `EventSource`. [`SseMessages`] are the data of its events, for codecs and other
//!   message layers.
//! - [`EventStream`] is the server: it makes a response body of any stream of events, with keep-alive comments.
//!   [`event_channel`] creates one that any task may send to. [`LastEventId`] and [`Replay`] let a client continue
//!   where it left off.
//! - [`SseDuplex`] combines events down and POSTs up into one message transport, for both ends: see [`duplex`]. All
//!   layers run over it if a WebSocket does not get through.
//!
//! # Backpressure
//!
//! The parser and the writer never wait. The client reads only as its events are taken; the server polls its stream of
//! events only as the client reads.
//!
//! # Errors
//!
//! An event stream has no close message. For the client, every end is an error for which
//! [`is_closed`](crate::Error::is_closed) is true and which is worth a retry. A server reports with status 204 that
//! there is nothing more. The memory that a hostile server can make a client hold is bounded:
//! [`docs/attacks.md`](crate::guide::attacks) has the figures.
//!
//! # Cancel safety
//!
//! Dropping any future keeps the bytes that were read, and accepted events are still sent.
//!
//! # On the wire
//!
//! ```text
//! event: note          the type; without it, "message"
//! id: 42               what the client names when it comes back (Last-Event-ID)
//! retry: 3000          how long it waits before that, in milliseconds
//! data: two
//! data: lines
//!                      a blank line ends the event
//! : a comment
//! ```

mod client;
#[cfg(not(target_arch = "wasm32"))]
mod connection;
mod downlink;
pub mod duplex;
mod encode;
mod event;
mod exchange;
#[cfg(target_arch = "wasm32")]
mod fetch;
mod label;
mod parser;
#[cfg(not(target_arch = "wasm32"))]
mod server;

pub use self::{
    client::{Sse, SseConnecting, SseConnector, SseMessages},
    duplex::{SseDuplex, SseDuplexConnecting, SseDuplexConnector},
    encode::encode_comment,
    event::Event,
    parser::Parser,
};

// The server's ends are native.
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    duplex::{SseDuplexAnswer, SseDuplexBody, SseDuplexServer},
    server::{EventReceiver, EventSender, EventStream, LastEventId, Replay, event_channel},
};
