//! The token source of a client, with its cache.

mod cache;
mod source;

pub use self::source::{FixedToken, Getting, Tokens};
