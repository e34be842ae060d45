//! How values become messages.
