//! Bridges between a transport and `tower::Service`: [`Client`] makes calls over a transport, [`Server`] answers them.
//!
//! # Why one wants it
//!
//! A transport carries messages, but many protocols consist of requests and answers. With these two types, a transport
//! connects to the rest of tower. Every layer for services (timeout, retry, load shedding, concurrency limits, your
//! own) goes on a `Client` or on the service behind a `Server`. The layers for messages stay below, in the transport's
//! stack.
//!
//! ```text
//!   ServiceBuilder (timeout, retry, ..)            ServiceBuilder (limits, trace, ..)
//!   Client: Service<Req, Response = Res>           Server: calls a Service<Req, Response = Res>
//!        | Req             ^ Res                        ^ Req             | Res
//!        v                 |                            |                 v
//!   transport stack (codec, batch, ..)   <------>   transport stack (codec, batch, ..)
//! ```
//!
//! # How answers find their requests
//!
//! Both ends must agree on one of these, or on your own [`Correlate`] and [`Respond`]:
//!
//! | | client | server | on the wire |
//! |---|---|---|---|
//! | in order | [`Client::in_order`] | [`Server::in_order`] | nothing is added; a slow answer holds up later ones |
//! | by tag | [`Client::by_tag`] | [`Server::as_they_finish`] | [`Tagged`] values; answers in any order |
//!
//! In order, a message that is lost or rejected between the two ends shifts all later answers to the wrong calls. A
//! lost connection ends both ends for that reason. Do not put layers below that reject a message after they have
//! accepted it, and continue: a [driven](crate::TransportExt::drive) queue, batches, sessions that resume. By tag, such
//! layers are fine.
//!
//! # Backpressure
//!
//! A client's `poll_ready` waits for a place among the calls in flight. Its call waits for the transport to accept the
//! request, then for the answer. A server waits for the service before it takes the next request, and reads nothing
//! meanwhile, so a slow service slows its peer down through the transport.
//!
//! # Errors and shutdown
//!
//! An error or the end of the transport ends every waiting call with the cause, and so does a lost connection of a
//! reconnecting transport. [`Error::may_have_been_executed`](crate::Error::may_have_been_executed) tells whether a
//! retry could execute a call twice. A service that fails ends its connection, unless its errors are turned into
//! answers, and so does an answer that the transport rejects, unless
//! [`on_rejected_answer`](Server::on_rejected_answer) replaces it. No call waits forever for an answer that will not
//! come, and no close waits forever for a peer that does not read ([`Server::close_within`],
//! [`Drive::close_within`]). See [`Client`] and [`Server`].
//!
//! # Rejected answers
//!
//! Every call must end. A server cannot make an answer of its own, because answers may be of any type, and a caller
//! that gets none waits forever. So unless [`on_rejected_answer`](Server::on_rejected_answer) makes an
//! answer, a rejected one ends the connection, and the end of the connection ends the call:
//!
//! | | requests that were read | then |
//! |---|---|---|
//! | in order | earlier answers are sent; later ones are dropped | the transport is closed with 1011 |
//! | by tag | all are finished, and their answers are sent | the same |
//!
//! The future then completes with the error. In order, the caller of the rejected answer would take the next one for
//! its own.
//!
//! By tag, the caller of the rejected answer therefore waits as long as the slowest request in flight. Limit that
//! with tower's timeout on the service. The server reads no more requests meanwhile.
//!
//! A layer with a queue below the server may reject an answer after it has accepted it. The server then cannot know
//! which call the answer belongs to, so [`on_rejected_answer`](Server::on_rejected_answer) does not apply, and the
//! connection is closed as above. In order, the layer may already have sent later answers to the wrong callers: below a
//! server in order, use only layers that reject a message at once.
//!
//! Each rejected answer is counted ([`Handle::rejected_answers`]) and logged (feature `tracing`), and so is each
//! request that cannot be read ([`Handle::unreadable_requests`]).
//!
//! # Choice for connections that may be lost
//!
//! [`Pool`](crate::stack::pool::Pool) is made for calls: it connects when it is called, shares connections between
//! calls, and a lost connection only fails the calls on it. A [`Client::by_tag`] over a
//! [reconnecting](crate::layer::reconnect) transport fits if the peer also needs the connection while no call is in
//! flight.
//!
//! # Cancel safety
//!
//! A dropped call is abandoned, and affects no other call; see [`Client`]. A dropped server drops everything that it
//! has in flight.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::{Error, channel, service::{Client, Server}};
//!
//! let (here, there) = channel(8);
//! let length = service_fn(|text: &'static str| std::future::ready(Ok::<_, Error>(text.len())));
//! let server = Server::as_they_finish(there, length);
//! let handle = server.handle();
//! let server = tokio::spawn(server);
//!
//! let mut client = ServiceBuilder::new()
//!     .concurrency_limit(16)
//!     .timeout(Duration::from_secs(1))
//!     .service(Client::by_tag(here));
//! assert_eq!(client.ready().await?.call("eleven char").await?, 11);
//!
//! handle.graceful_shutdown();
//! server.await.unwrap()?;
//! let error: Error = client.ready().await?.call("too late").await.unwrap_err().into();
//! assert!(error.is_closed());
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! # Compared with tokio-tower and tarpc
//!
//! There is no task behind a client and no channel between it and its calls: the call that is polled does the work for
//! all. A call therefore costs less than one through a driver with oneshots, and the client needs no runtime.
//! `benches/calls.rs` measures all four. [`Client::drive`] adds the advantages of a driver.

mod answers;
mod calls;
mod client;
mod correlate;
mod drive;
mod exchange;
mod handle;
mod held;
#[cfg(all(test, random_model))]
mod interleaving_tests;
mod list;
mod make;
#[cfg(feature = "peer")]
#[cfg_attr(docsrs, doc(cfg(feature = "peer")))]
pub mod peer;
mod permits;
mod phase;
mod poll_task;
mod server;
mod shared_exchange;
mod wake_flag;

pub use self::{
    client::{Call, Client},
    correlate::{ByTag, Correlate, InOrder, Respond, Tagged},
    drive::Drive,
    handle::Handle,
    make::{Serve, serve},
    server::Server,
};

#[cfg(feature = "rkyv")]
#[cfg_attr(docsrs, doc(cfg(feature = "rkyv")))]
pub use self::correlate::{ArchivedTagged, TaggedResolver};
