//! The scenarios, one file each.

pub mod flow;
pub mod idle;
pub mod many;
pub mod one_way;
pub mod ping_pong;
pub mod senders;

use crate::contestant::Contestant;

/// Something that each contestant can be measured in.
pub trait Scenario: Copy + 'static {
    type Measured;

    fn run<C: Contestant>(self) -> Self::Measured;
}

/// The payload sizes, and how they are called.
pub const SIZES: [(&str, usize); 4] = [("32 B", 32), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("1 MiB", 1 << 20)];
