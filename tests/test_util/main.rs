//! The test kit, tested: what is broken must be found.
#![cfg(feature = "test-util")]

mod broken;
mod contract;
