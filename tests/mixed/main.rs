//! All layers at once: the order in which they see a message, stacks that are put together at random over links that fail, and the
//! recommended stack over a socket that is cut.

mod every;
mod messages;
mod optimized;
mod proxy;
mod random;
mod saw;
#[path = "../serve/mod.rs"]
mod serve;
mod stack;
mod talk;
