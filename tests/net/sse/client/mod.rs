//! The receive-only client, against servers of others and servers that misbehave.

mod answers;
mod foreign;
mod reconnect;
mod redirects;
mod scripted;
mod stream;
mod tls;
