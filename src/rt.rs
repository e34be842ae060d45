//! Tasks and the clock. Nothing else in the crate names a runtime.

pub(crate) use tokio::{
    spawn,
    time::{Sleep, sleep, timeout},
};
