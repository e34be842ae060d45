//! What happens to a message on its way.

pub mod codec;
pub mod per_connection;
