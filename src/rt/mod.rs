//! Tasks and the clock. No other module of the crate names a runtime or another clock. The runtime is tokio natively
//! (so a paused clock applies here too) and the browser in wasm32.

#[cfg(not(target_arch = "wasm32"))]
mod native;
mod progress;
mod timer;
#[cfg(all(target_arch = "wasm32", any(feature = "websocket", feature = "sse")))]
mod turn;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
#[allow(unused_imports, reason = "which of them are used depends on the features")]
pub(crate) use self::native::{
    Handle, Instant, Sleep, detach, has_budget_remaining, has_runtime, has_timers, sleep, spawn, timeout, unconstrained,
};
#[allow(unused_imports, reason = "which of them are used depends on the features")]
pub(crate) use self::progress::{PATIENCE, Progress};
#[allow(unused_imports, reason = "which of them are used depends on the features")]
pub(crate) use self::timer::Timer;
#[cfg(all(target_arch = "wasm32", any(feature = "websocket", feature = "sse")))]
pub(crate) use self::turn::Turn;
#[cfg(target_arch = "wasm32")]
#[allow(unused_imports, reason = "which of them are used depends on the features")]
pub(crate) use self::wasm::{
    Instant, Sleep, detach, has_budget_remaining, has_runtime, has_timers, is_offline, property, random, sleep,
    timeout, unconstrained,
};
