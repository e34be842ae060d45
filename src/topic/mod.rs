//! One message to many: topics, subscriptions with a policy each, history and presence.
//!
//! # Why
//!
//! A feed of prices, a chat room or a document has many readers, and the slowest one must not hold up the others. A
//! `broadcast` channel tells a slow reader that it lagged and nothing else; a queue without a bound fills the memory; a
//! bounded one stalls the publisher. Here each reader has a queue of its own with a named [`Policy`], and is told what
//! it missed.
//!
//! # The parts
//!
//! | | |
//! |---|---|
//! | [`Topics`] | a hub, cheap to clone. [`publish`](Topics::publish) sends a message to all who subscribe to a topic |
//! | [`Topic`] | one topic by its name, any key that is `Hash + Eq` |
//! | [`Subscription`] | a stream of the messages of one or more topics, through one bounded queue |
//!
//! A session uses a subscription in its own loop, or by the layer `layer::topic`, which merges published messages with
//! direct ones and maps the requests to subscribe of an application's own protocol.
//!
//! # Delivery
//!
//! - **Order.** A subscriber gets the messages of one topic in the order of their [positions](Position), none twice.
//!   There is no order between topics.
//! - **Nothing is missed silently.** A subscriber gets every message after the position that
//!   [`subscribe`](Subscription::subscribe) returns, or an [`Event::Gap`] where messages are missing. A subscription
//!   whose policy is [`Policy::close`] ends with an error instead.
//! - **Publishing never waits** for a reader. It takes short locks: while one publisher passes through the members of a
//!   topic, another one follows, and members come and go.
//! - **Encoded and compressed once.** All subscribers share one message. Topics of [`Message`](crate::Message)s and of
//!   [encoded](crate::codec::Encoded) values are also [prepared](crate::Message) for permessage-deflate, which then
//!   compresses each message once for all connections with the same settings.
//!
//! # History
//!
//! With a [`History`], a topic keeps its last messages, or the last one of each key. A late subscriber begins with
//! [`Start::History`], and one that comes back with [`Start::After`] the position of the last message that it has
//! processed. It reads the history at its own pace, a few messages at a time, and becomes a live subscriber where the
//! history ends. If the messages that it needs are no longer there, it gets a gap first.
//!
//! # Presence
//!
//! A [`Presence`] knows who is in each topic: everybody has a key and a small value. [`join`](Presence::join) returns a
//! guard that leaves when it is dropped, and a [`Watcher`] is told all who are present, then who joins and leaves.
//!
//! # Bounds
//!
//! | of | bound | default |
//! |---|---|---|
//! | a subscription | [`Policy::max_messages`], [`max_bytes`](Policy::max_bytes) | 256 messages, 1 MiB |
//! | | [`Policy::max_topics`] | 1,024 |
//! | a topic's history | [`History`]: messages, bytes, age | off |
//! | a hub | [`TopicsConfig::max_topics`] | 65,536 |
//! | a presence | the members of a topic, by its constructor; four times that many changes wait for a watcher | |
//!
//! Messages are shared, so a thousand readers that stall hold each message once.
//!
//! # Cost
//!
//! A publication allocates once, and nothing for each receiver. A receiver costs a lock, an entry of its queue and, if
//! it waits, a wake-up.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use futures_util::StreamExt;
//! use tower_transport::{Message, topic::{Event, History, Policy, Start, Topics, TopicsConfig}};
//!
//! let config = TopicsConfig::messages().history(History::recent(100.try_into()?));
//! let topics: Topics<String> = Topics::with_config(config);
//! let mut subscription = topics.subscribe("prices", Start::Live, Policy::drop_oldest())?;
//!
//! topics.publish("prices", Message::text("101"))?;
//! let Some(Ok(Event::Message(price))) = subscription.next().await else { panic!("a message") };
//! assert_eq!(price.message(), &Message::text("101"));
//!
//! // A client that comes back names the last position that it has seen.
//! let seen = price.position();
//! drop(subscription);
//! topics.publish("prices", Message::text("102"))?;
//! let mut subscription = topics.subscription(Policy::coalesce());
//! subscription.subscribe("prices", Start::After(seen))?;
//! let Some(Ok(Event::Message(price))) = subscription.next().await else { panic!("a message") };
//! assert_eq!(price.message(), &Message::text("102"));
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```

mod history;
mod hub;
mod members;
mod policy;
mod position;
mod presence;
mod publication;
mod sequence;
mod subscription;

pub use self::{
    history::History,
    hub::{Published, Topic, Topics, TopicsConfig},
    policy::Policy,
    position::{Position, Start},
    presence::{Change, Presence, PresenceEvent, Present, Watcher},
    publication::{Event, Publication},
    subscription::Subscription,
};
