//! Empty: cargo requires a library. `explained.rs` is the test.
