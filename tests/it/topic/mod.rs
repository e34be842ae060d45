//! Topics: one message to many.

mod hub;
mod model;
mod threads;
