//! What guards the HTTP request before it becomes a transport.
pub mod auth;
