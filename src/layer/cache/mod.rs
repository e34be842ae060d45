//! Two caches: the last value of each key for later subscribers ([`LatestLayer`]), and the answers of a service for
//! repeated requests ([`CacheLayer`]).
//!
//! # Why
//!
//! Messages on a connection are not requests, and most should not be cached. Two cases are different. In a feed of
//! prices, positions or settings, a new subscriber needs the current *state* before the changes, without a gap between
//! the two and without old values after new ones. The other case is a request whose answer stays valid for a while: a
//! hundred simultaneous requests should cost one.
//!
//! # `LatestLayer`
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
//! # `CacheLayer`
//!
//! Only available on native targets. By default at most 10,000 answers are kept, each for 60 s. **Errors are not
//! cached.** **One flight for each key:** while a request is with the inner service, other requests with its key wait
//! for its answer, and get its error if it fails. If the call that made the request is dropped, the request is dropped
//! with it, and one of the waiting calls makes it again. The next call requests an expired answer again; nothing is
//! refreshed earlier.
//!
//! # Backpressure
//!
//! `publish` never waits. A subscribed transport sends values while it is read, as a server reads or a
//! [driver](crate::TransportExt::drive) does. Its `poll_ready` waits until the snapshot is sent, and for the inner
//! transport. A [`Cache`] is always ready. A call that is not a hit waits, inside its future, for the inner service to
//! be ready and then for its answer, so a busy service does not hold up hits. To bound how many misses wait, put
//! tower's `ConcurrencyLimit` or `LoadShed` above.
//!
//! # Position in the stack
//!
//! `LatestLayer` goes outermost, above the codec: it holds values, not payloads, and each connection encodes its own.
//! (Below a codec it holds messages that are encoded once; compression and limits then go below it.) `CacheLayer` goes
//! above the layers that a repeated request should not pay for (a timeout, a `service::Client`), and below the layers
//! that each call must pass (authorization).
//!
//! # Errors
//!
//! Returns the errors of the inner transport unchanged. When the inner transport accepts nothing more, values are no
//! longer sent, and the user's own sends and the end of the stream report the reason. Returns the errors of the inner
//! service, as [`Error`](crate::Error); every call that waited for one flight gets a clone.
//!
//! # Cancel safety
//!
//! Dropping a future over a subscribed transport loses no value. Dropping a call of a cache withdraws its request, and
//! affects no other call.
//!
//! # On the wire
//!
//! The layers add nothing: values are ordinary messages.
//!
//! # Cost
//!
//! A transport without news pays one atomic load for each message that it reads. A publication costs two entries of a
//! map, a clone for each subscriber that sends it, and a wake-up for each that waits; occasionally a node of a tree is
//! allocated. A hit of the cache costs moka's lookup, a clone of the answer and one reading of the clock. A miss
//! allocates its future (moka's cannot be named) and what moka needs for the entry. `cargo bench -p benches --bench
//! overhead` has the rows.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::FutureExt;
//! use tower::ServiceBuilder;
//! use tower_transport::{ServiceBuilderExt, TransportExt, channel, layer::cache::Latest};
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
#![cfg_attr(
    not(target_arch = "wasm32"),
    doc = r#"
Answers, by name and for ten seconds; names that begin with a dot are never kept:

```
# tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
use std::time::Duration;

use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{Error, ServiceBuilderExt, layer::cache::CacheLayer};

let layer = CacheLayer::shared(|name: &String| (!name.starts_with('.')).then(|| name.clone()))
    .capacity(1000)
    .time_to_live(Duration::from_secs(10));
let mut service = ServiceBuilder::new()
    .cache(layer)
    .service(service_fn(async |name: String| Ok::<_, Error>(name.len())));
for _ in 0..3 {
    assert_eq!(service.ready().await?.call("Ada".to_owned()).await?, 3);
}
assert_eq!((service.misses(), service.hits()), (1, 2));
# Ok::<(), Error>(()) }).unwrap();
```
"#
)]
//!
//! # Compared with `tokio::sync::broadcast` and `watch`, and an HTTP cache
//!
//! `broadcast` has a queue of everything, and tells slow receivers that they missed something; `watch` has one value.
//! `LatestLayer` has the last value of each key, and the snapshot. tower and tower-http have no cache. An HTTP cache
//! uses `Cache-Control`, which a message does not have, so here you provide a key and a time.

#[cfg(not(target_arch = "wasm32"))]
mod answers;
#[cfg(not(target_arch = "wasm32"))]
mod future;
mod latest;
mod layer;
#[cfg(not(target_arch = "wasm32"))]
mod service;
#[cfg(not(target_arch = "wasm32"))]
mod store;
mod transport;
mod values;

#[cfg(not(target_arch = "wasm32"))]
pub use self::{answers::CacheLayer, future::ResponseFuture, service::Cache};
pub use self::{latest::Latest, layer::LatestLayer, transport::Subscribed};
