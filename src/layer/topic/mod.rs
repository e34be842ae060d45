//! Topics for one session: what is published goes to the peer, next to the messages of the transport's user.
//!
//! # Why
//!
//! A server that lets its clients subscribe reads their requests, asks whether they may, merges what is published with
//! its own messages, and gives up on a client that is too slow. This layer does all of that for the application's own
//! protocol, which a [`TopicProtocol`] of a few lines describes.
//!
//! # How it works
//!
//! | a message of the peer | |
//! |---|---|
//! | subscribes | is decided by [`authorize`](TopicLayer::authorize), and answered by [`subscribed`] |
//! | unsubscribes | is answered by [`TopicProtocol::unsubscribed`] |
//! | anything else | is an item of the stream, as without the layer |
//!
//! All topics of a session share one [`Subscription`](crate::topic::Subscription), with one queue and one
//! [`Policy`](crate::topic::Policy). [`TopicProtocol::event`] writes the published messages. A protocol that sends
//! published messages as they are clones them, so that they stay encoded and compressed once; one that wraps each in an
//! envelope of its session encodes it for each.
//!
//! # Backpressure
//!
//! A publisher never waits. Published messages are sent while the transport is read, as a server does and a
//! [driver](crate::TransportExt::drive). At most 32 are taken from the queue at a time; the others wait there, where
//! the policy applies to them.
//!
//! While a request is being decided, nothing is read from the peer.
//!
//! # Position in the stack
//!
//! Outermost of what carries one connection: above a codec it reads and writes values, below one it reads and writes
//! messages that are encoded already. Limits of a peer's rate and size go below it.
//!
//! # Errors
//!
//! Returns the errors of the inner transport unchanged. If a layer below [rejects](crate::Error::is_rejection) a
//! published message, the stream returns the rejection once and goes on. With
//! [`Policy::close`](crate::topic::Policy::close), a peer that is too slow is closed with the policy's code, and the
//! stream returns the error. A message with more than [`max_requests`](TopicLayer::max_requests) closes the transport
//! with 1008.
//!
//! The errors of the authorization go to [`subscribed`], not to the stream.
//!
//! # Cancel safety
//!
//! Dropping a future over the transport loses no message and no request.
//!
//! # On the wire
//!
//! The layer adds nothing: its messages are those of the protocol.
//!
//! # Cost
//!
//! A message of the peer costs a call of the protocol. Without news, reading takes the lock of the session's own queue.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::FutureExt;
//! use tower::{ServiceBuilder, service_fn};
//! use tower_transport::{
//!     Error, Message, TransportExt, channel,
//!     layer::topic::{Requests, SubscribeRequest, TopicLayer, TopicProtocol},
//!     topic::{Event, Policy, Position, Start, Topics},
//! };
//!
//! /// `+name` subscribes, `-name` unsubscribes.
//! #[derive(Clone)]
//! struct Lines;
//!
//! impl TopicProtocol for Lines {
//!     type Topic = String;
//!     type Message = Message;
//!     type In = Message;
//!     type Out = Message;
//!
//!     fn read(&mut self, message: Message, requests: &mut Requests<String, Message>) -> Option<Message> {
//!         let text = message.as_text().unwrap_or_default();
//!         match text.split_at_checked(1) {
//!             Some(("+", topic)) => requests.subscribe(topic.to_owned(), Start::Live),
//!             Some(("-", topic)) => requests.unsubscribe(topic.to_owned()),
//!             _ => return Some(message),
//!         }
//!         None
//!     }
//!
//!     fn event(&mut self, event: Event<String, Message>, mut send: impl FnMut(Message)) {
//!         match event {
//!             Event::Message(publication) => send(publication.into_message()),
//!             event => send(Message::text(format!("missed something of {}", event.topic()))),
//!         }
//!     }
//!
//!     fn subscribed(&mut self, topic: &String, outcome: Result<Position, Error>, mut send: impl FnMut(Message)) {
//!         if outcome.is_err() {
//!             send(Message::text(format!("no {topic} for you")));
//!         }
//!     }
//! }
//!
//! let topics = Topics::new();
//! let public = service_fn(async |request: SubscribeRequest<String>| match request.topic.as_str() {
//!     "secrets" => Err(Error::auth("not for everyone")),
//!     _ => Ok(()),
//! });
//! let (server, mut client) = channel::<Message, Message>(8);
//! let layer = TopicLayer::new(topics.clone(), Lines, Policy::drop_oldest()).authorize(public);
//! let mut server = ServiceBuilder::new().layer(layer).service(server);
//!
//! for request in ["+prices", "+secrets", "hello"] {
//!     client.send_message(Message::text(request)).await?;
//! }
//! // The server reads as usual.
//! assert_eq!(server.receive_message().await.unwrap()?, Message::text("hello"));
//! assert_eq!(client.receive_message().await.unwrap()?, Message::text("no secrets for you"));
//!
//! topics.publish("prices", Message::text("101"))?;
//! assert!(server.receive_message().now_or_never().is_none());
//! assert_eq!(client.receive_message().await.unwrap()?, Message::text("101"));
//! # Ok::<(), Error>(()) }).unwrap().unwrap();
//! ```
//!
//! [`subscribed`]: TopicProtocol::subscribed

mod layer;
mod protocol;
mod transport;

pub use self::{
    layer::{Everyone, TopicLayer},
    protocol::{Requests, SubscribeRequest, TopicProtocol},
    transport::TopicSession,
};
