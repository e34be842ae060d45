//! All layers at once: the order in which they see a message, stacks that are put together at random over links that
//! fail, and the recommended stack over a socket that is cut.

use crate::{proxy, serve};

mod every;
mod messages;
mod optimized;
mod random;
mod saw;
mod stack;
mod talk;
