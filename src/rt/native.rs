pub(crate) use tokio::{
    spawn,
    time::{Instant, Sleep, sleep, timeout},
};
