//! Server-sent events ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
//!
//! An HTTP response that does not end, and that is text: events, each a few lines, each with a type, an id and data. Every browser
//! reads it (`EventSource`), every proxy lets it pass.
//!
//! # The parts
//!
//! - [`Event`] is one event, both ways. It writes itself: [`Event::encode`], and [`encode_comment`] beside it.
//! - [`Parser`] reads events out of bytes. It knows of no socket, and runs everywhere, in a browser's wasm too.
//! - [`SseConnector`] is the client: it opens a stream of events, [`Sse`], which only receives. Below the reconnect layer it is what a
//!   browser's `EventSource` is. [`SseMessages`] are the data of its events, for codecs and the other layers of messages.
//! - [`EventStream`] is the server: the body of a response out of any stream of events, with keep-alive comments;
//!   [`event_channel`] makes one that any task may send to, and [`LastEventId`] and [`Replay`] let a client go on where it was.
//! - [`SseDuplex`] is events down and POSTs up as one transport of messages, both ends: see [`duplex`]. Where a WebSocket does not get through, all layers run over it.
//!
//! # Where it waits
//!
//! The parser and the writer never do. The client reads as its events are taken, and not ahead; the server asks its stream of
//! events for more as the client reads.
//!
//! # Errors
//!
//! An event stream has no close message. To the client, every end is an error that [`is_closed`](crate::Error::is_closed) and worth
//! another attempt; a server says by status 204 that there is nothing more. What a hostile server can make a client hold is bounded:
//! `docs/attacks.md` has the figures.
//!
//! # Cancel safety
//!
//! What was read is kept, and what was accepted is sent, whichever future is dropped.
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

#[cfg(not(target_arch = "wasm32"))]
mod client;
#[cfg(not(target_arch = "wasm32"))]
mod downlink;
#[cfg(not(target_arch = "wasm32"))]
pub mod duplex;
mod encode;
mod event;
mod label;
#[cfg(not(target_arch = "wasm32"))]
mod line;
mod parser;
#[cfg(not(target_arch = "wasm32"))]
mod server;

pub use self::{encode::encode_comment, event::Event, parser::Parser};

// What speaks HTTP: native only.
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    client::{Sse, SseConnecting, SseConnector, SseMessages},
    duplex::{SseDuplex, SseDuplexAnswer, SseDuplexBody, SseDuplexConnecting, SseDuplexConnector, SseDuplexServer},
    server::{EventReceiver, EventSender, EventStream, LastEventId, Replay, event_channel},
};
