use std::time::{Duration, SystemTime};

use tower::service_fn;
use tower_transport::layer::auth::{Claims, Credentials, ExpiryLayer, Principal, RenewLayer, Tokens};

use super::{Row, message, through};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: EXPIRY, run: |messages| through(ExpiryLayer::new(&Session), message(), messages) },
        Row {
            name: "+ auth, expiry and renewal",
            run: |messages| {
                let verifier = service_fn(|_: Credentials| std::future::ready(Err::<Claims, _>(no())));
                let layer = ExpiryLayer::new(&Session).renewal(verifier, Duration::from_secs(60));
                through(layer, message(), messages);
            },
        },
        Row {
            name: "+ auth, renewed client",
            run: |messages| through(RenewLayer::new(Tokens::fixed("token")), message(), messages),
        },
    ]
}

pub(crate) const EXPIRY: &str = "+ auth, expiry";

struct Session;

impl Principal for Session {
    fn expires_at(&self) -> Option<SystemTime> {
        Some(SystemTime::now() + Duration::from_secs(86_400))
    }
}

fn no() -> tower_transport::Error {
    tower_transport::Error::auth("nobody asks here")
}
