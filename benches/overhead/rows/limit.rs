use std::{num::NonZeroUsize, time::Duration};

use tower_transport::layer::limit::LimitLayer;

use super::{Row, message, through};

pub(crate) const SIZES: &str = "+ limit";
pub(crate) const TIMES: &str = "+ limit, with times";

pub(super) fn rows() -> Vec<Row> {
    const HOUR: Duration = Duration::from_secs(3600);
    vec![
        Row { name: SIZES, run: |messages| through(LimitLayer::new(), message(), messages) },
        Row {
            name: TIMES,
            run: |messages| {
                let in_flight = NonZeroUsize::new(256).expect("it is not zero");
                let layer = LimitLayer::new().idle_timeout(HOUR).lifetime(24 * HOUR).max_in_flight(in_flight);
                through(layer, message(), messages);
            },
        },
    ]
}
