//! Typed values in place of messages.
