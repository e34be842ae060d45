//! What is measured: one file each.

pub(crate) mod flow;
pub(crate) mod idle;
pub(crate) mod many;
pub(crate) mod one_way;
pub(crate) mod ping_pong;
pub(crate) mod senders;

use crate::contestant::Contestant;

/// Something that each contestant can be measured in.
pub(crate) trait Scenario: Copy + 'static {
    type Measured;

    fn run<C: Contestant>(self) -> Self::Measured;
}

/// The payload sizes, and how they are called.
pub(crate) const SIZES: [(&str, usize); 4] =
    [("32 B", 32), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("1 MiB", 1 << 20)];
