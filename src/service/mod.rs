//! The bridges between a transport and `tower::Service`.
