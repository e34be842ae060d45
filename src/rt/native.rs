pub(crate) use tokio::{
    runtime::Handle,
    spawn,
    task::{coop::has_budget_remaining, unconstrained},
    time::{Instant, Sleep, sleep, timeout},
};
