use std::{cell::Cell, panic::catch_unwind};

pub(crate) use tokio::{
    runtime::Handle,
    spawn,
    task::{coop::has_budget_remaining, unconstrained},
    time::{Instant, Sleep, sleep, timeout},
};

/// Returns whether a task can be spawned here.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn has_runtime() -> bool {
    Handle::try_current().is_ok()
}

/// Spawns a task for which nobody waits.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn detach(future: impl Future<Output: Send> + Send + 'static) {
    drop(spawn(future));
}

/// Returns whether a timer can be made here: in a tokio runtime with its time driver enabled (`enable_time`).
///
/// tokio has no other way to ask than to make a timer, which panics if it cannot. So the first call in a runtime
/// without timers reaches the panic hook, once per thread. With `panic = "abort"` every runtime counts as one with
/// timers.
pub(crate) fn has_timers() -> bool {
    thread_local! {
        static LAST: Cell<Option<(tokio::runtime::Id, bool)>> = const { Cell::new(None) };
    }
    let Ok(handle) = Handle::try_current() else { return false };
    let runtime = handle.id();
    match LAST.get() {
        Some((last, has_timers)) if last == runtime => has_timers,
        _ => {
            let has_timers = cfg!(panic = "abort") || catch_unwind(|| drop(sleep(std::time::Duration::ZERO))).is_ok();
            LAST.set(Some((runtime, has_timers)));
            has_timers
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::has_timers;

    #[test]
    fn a_runtime_is_asked_for_timers_without_a_panic() {
        let (without, with) =
            (Builder::new_current_thread().build(), Builder::new_current_thread().enable_time().build());
        let (without, with) = (without.unwrap(), with.unwrap());
        for _ in 0..2 {
            assert!(!has_timers());
            assert!(!without.block_on(async { has_timers() }));
            assert!(with.block_on(async { has_timers() }));
        }
    }
}
