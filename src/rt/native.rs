pub(crate) use tokio::{
    runtime::Handle,
    spawn,
    task::{coop::has_budget_remaining, unconstrained},
    time::{Instant, Sleep, sleep, timeout},
};

/// Returns whether a timer can be made here: in a tokio runtime.
pub(crate) fn has_timers() -> bool {
    Handle::try_current().is_ok()
}
