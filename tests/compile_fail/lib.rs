//! Nothing but the place where cargo looks for a library; `explained.rs` is the test.
