//! Topics: one message to many.

mod cost;
mod hub;
mod model;
mod presence;
mod threads;
