use std::num::NonZeroUsize;

use tower::{Service, ServiceBuilder, service_fn};
use tower_transport::{
    Message,
    layer::service::{Outbound, ServiceLayer},
};

use super::{Row, echo, message, through};

/// A service that is ready at once, in each direction; and in the one direction several messages at a time.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "+ inbound service",
            run: |messages| through(ServiceLayer::inbound(service_fn(echo)), message(), messages),
        },
        Row { name: "+ outbound service", run: |messages| through(outbound(service_fn(echo)), message(), messages) },
        Row {
            name: "+ both, tower's Filter",
            run: |messages| {
                let filter = ServiceBuilder::new().filter(Ok::<Message, tower::BoxError>).service(service_fn(echo));
                let both = ServiceBuilder::new()
                    .layer(ServiceLayer::inbound(filter.clone()).concurrency(SEVERAL))
                    .layer(outbound(filter).concurrency(SEVERAL));
                through(both, message(), messages);
            },
        },
    ]
}

const SEVERAL: NonZeroUsize = NonZeroUsize::new(16).unwrap();

fn outbound<S: Service<Message>>(service: S) -> ServiceLayer<S, Outbound<Message>> {
    ServiceLayer::outbound(service)
}
