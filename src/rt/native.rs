pub(crate) use tokio::{
    spawn,
    task::unconstrained,
    time::{Instant, Sleep, sleep, timeout},
};
