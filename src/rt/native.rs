pub(crate) use tokio::{
    runtime::Handle,
    spawn,
    task::unconstrained,
    time::{Instant, Sleep, sleep, timeout},
};
