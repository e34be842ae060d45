//! What is worth keeping: the last value of each key for who comes later ([`LatestLayer`]), and answers of a service for who asks
//! again ([`CacheLayer`]).
//!
//! # Why
//!
//! Messages on a connection are no requests, and most must not be kept. Two things are worth it. A feed of prices, positions or
//! settings: a new subscriber wants to know where things *stand* before it hears what changes, without a gap between the two and
//! without old values after new ones. And questions whose answers stay true for a while, where a hundred who ask at once should cost
//! one question.
//!
//! # `LatestLayer`
//!
//! A [`Latest`] is a bounded store of the last value of each key. What is [published](Latest::publish) there goes out on every transport
//! of the layer. Each transport first sends what the store had when it was wrapped (the snapshot), the value that was published
//! longest ago first; then what has been published since.
//!
//! **Order, and no gap.** Every publication has a number, and a transport remembers the number up to which it has sent everything; the
//! snapshot is simply what lies before it. So per key, values arrive in the order of publication, none twice, and the last one always:
//!
//! - A subscriber that is slower than the publisher gets fewer values, not older ones: what is replaced in the store before its turn is
//!   not sent. Memory is that of the store, whatever the number of slow subscribers; at most 32 values more wait in a transport.
//! - Values of different keys arrive in the order of their publication as well, as far as they arrive.
//! - A key that was [evicted](Latest::evicted) for want of room, or [removed](Latest::remove), before a subscriber had it, is not sent to it.
//!
//! What the user of the transport sends goes out as it is, after the snapshot, and is not recorded.
//!
//! # `CacheLayer`
//!
//! Natively only. By default at most 10,000 answers, each for 60 s. **Errors are not kept.** **One flight for each key:** while a
//! request is with the inner service, others with its key wait for its answer, and get its error if it fails. When the call that asks is
//! dropped, its question is dropped with it, and one of those who wait asks anew. An answer that expired is asked for by the next call;
//! nothing is refreshed before.
//!
//! # Where it waits
//!
//! `publish` never waits. A subscribed transport sends values while it is read, as a server reads or a [driver](crate::TransportExt::drive)
//! does; its `poll_ready` waits until the snapshot is out, and for the inner transport. A [`Cache`] is always ready; a call that is no hit
//! waits, within itself, for the inner service to be ready and then for its answer. So a busy service does not hold up hits; to bound how
//! many misses wait, put tower's `ConcurrencyLimit` or `LoadShed` above.
//!
//! # Where it belongs in the stack
//!
//! `LatestLayer` outermost, above the codec: it holds values, not payloads, and each connection encodes its own. (Below a codec it holds
//! messages that are encoded once; then compression and limits stand below it.) `CacheLayer` above what a repeated question should not
//! pay for (a timeout, a `service::Client`), below what each call must go through (authorization).
//!
//! # Errors
//!
//! Those of the inner transport, as they are; when it takes nothing more, values are no longer sent, and the user's own sends and the end
//! of the stream tell why. Those of the inner service, as [`Error`](crate::Error); all who waited for one flight get a clone.
//!
//! # Cancel safety
//!
//! A future over a subscribed transport that is dropped loses no value. A dropped call of a cache takes back its question, and disturbs no
//! other call.
//!
//! # What it adds to the wire
//!
//! Nothing: values are messages as any other.
//!
//! # Cost
//!
//! A transport without news pays for one atomic load for each message that it reads. A publication is two entries of a map, a clone for each
//! subscriber that sends it, and a wake-up for each that waits; now and then a node of a tree is allocated. A hit of the cache costs
//! moka's lookup, a clone of the answer and one reading of the clock; a miss allocates its future (moka's has no name) and what moka
//! needs for the entry. `cargo bench -p benches --bench overhead` has the rows.
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
//! // The server reads, as it does anyway; nothing comes in, and the values go out.
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
//! # Unlike `tokio::sync::broadcast` and `watch`, and a cache of HTTP
//!
//! `broadcast` has a queue of everything, and tells the slow that they missed something; `watch` has one value. This has the last
//! value of each key, and the snapshot. tower and tower-http have no cache; one for HTTP knows `Cache-Control`, which a message does not have,
//! so here a key and a time are given by hand.

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
