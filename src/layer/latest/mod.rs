//! The last value of each key for subscribers.
//!
//! # Why
//!
//! In a feed of prices, positions or settings, a new subscriber needs the current *state* before the changes, without a
//! gap between the two and without old values after new ones.
//!
//! # How it works
//!
//! A [`Latest`] is a bounded store of the last value of each key. Every value that is [published](Latest::publish)
//! there is sent on every transport of the layer. Each transport first sends the contents of the store at the time it
//! was wrapped (the snapshot), the value that was published longest ago first, and then everything published since.
//!
//! **Order, and no gap.** Every publication has a number, and a transport remembers the number up to which it has sent
//! everything. The snapshot is the part before that number. For each key, values therefore arrive in the order of
//! publication, none twice, and the last one always:
//!
//! - A subscriber that is slower than the publisher gets fewer values, not older ones: a value that is replaced in the
//!   store before it could be sent is skipped. Memory is that of the store, regardless of the number of slow
//!   subscribers; at most 32 more values wait in a transport.
//! - Values of different keys also arrive in the order of their publication, as far as they arrive.
//! - A key that was [evicted](Latest::evicted) for lack of room, or [removed](Latest::remove), before a subscriber had
//!   it, is not sent to that subscriber.
//!
//! Messages that the user of the transport sends are sent unchanged, after the snapshot, and are not recorded.
//!
//! # Backpressure
//!
//! `publish` never waits. A subscribed transport sends values while it is read, as a server reads or a
//! [driver](crate::TransportExt::drive) does. Its `poll_ready` waits until the snapshot is sent, and for the inner
//! transport.
//!
//! # Position in the stack
//!
//! Outermost, above the codec: the layer holds values, not payloads, and each connection encodes its own. (Below a
//! codec it holds messages that are encoded once; compression and limits then go below it.)
//!
//! # Errors
//!
//! Returns the errors of the inner transport unchanged. When the inner transport accepts nothing more, values are no
//! longer sent, and the user's own sends and the end of the stream report the reason.
//!
//! If a layer below [rejects](crate::Error::is_rejection) a published value (it is too large, the codec cannot encode
//! it, a rate limit refuses it), that value is not sent to this subscriber. The stream returns the rejection once, and
//! the transport continues with the next value. The user's own sends do not return it.
//!
//! # Cancel safety
//!
//! Dropping a future over a subscribed transport loses no value.
//!
//! # On the wire
//!
//! The layer adds nothing: values are ordinary messages.
//!
//! # Cost
//!
//! A transport without news pays one atomic load for each message that it reads. A publication costs two entries of a
//! map, a clone for each subscriber that sends it, and a wake-up for each that waits; occasionally a node of a tree is
//! allocated. `cargo bench -p benches --bench overhead` has the rows.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::FutureExt;
//! use tower::ServiceBuilder;
//! use tower_transport::{ServiceBuilderExt, TransportExt, channel, layer::latest::Latest};
//!
//! let prices = Latest::new(|(symbol, _): &(&'static str, u32)| *symbol);
//! prices.publish(("A", 1));
//! prices.publish(("B", 2));
//! prices.publish(("A", 3));
//!
//! let (server, mut client) = channel::<(&str, u32), ()>(8);
//! let mut server = ServiceBuilder::new().latest(prices.clone()).service(server);
//! prices.publish(("B", 4));
//! // The server reads as usual; nothing comes in, and the values are sent.
//! assert!(server.receive_message().now_or_never().is_none());
//! assert_eq!(TransportExt::<()>::receive_message(&mut client).await.unwrap()?, ("A", 3));
//! assert_eq!(TransportExt::<()>::receive_message(&mut client).await.unwrap()?, ("B", 4));
//!
//! prices.publish(("C", 5)); // wakes the server's task
//! assert!(server.receive_message().now_or_never().is_none());
//! assert_eq!(TransportExt::<()>::receive_message(&mut client).await.unwrap()?, ("C", 5));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # Compared with `tokio::sync::broadcast` and `watch`
//!
//! `broadcast` has a queue of everything, and tells slow receivers that they missed something; `watch` has one value.
//! `LatestLayer` has the last value of each key, and the snapshot.

mod layer;
mod store;

pub use self::{
    layer::{LatestLayer, Subscribed},
    store::Latest,
};
