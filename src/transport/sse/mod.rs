//! Server-sent events ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
//!
//! An HTTP response that does not end, and that is text: events, each a few lines, each with a type, an id and data. Every browser
//! reads it (`EventSource`), every proxy lets it pass.
//!
//! # The parts
//!
//! - [`Event`] is one event, both ways. It writes itself: [`Event::encode`], and [`encode_comment`] beside it.
//! - [`Parser`] reads events out of bytes. It knows of no socket, and runs everywhere, in a browser's wasm too.
//! - [`EventStream`] is the body of a server's response: any stream of events, or what is sent into an [`event_channel`]. By
//!   [`LastEventId`] a client that comes back says where it left off.
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
