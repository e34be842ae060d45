//! The layer over one end, and the bare channel at the other: it adds nothing to the wire.

use super::*;
use tower_transport::{contract_tests, layer::rate_limit::PerByte};

fn generous() -> RateLimitLayer {
    RateLimitLayer::per_connection(Quota::per_second(cells(1_000_000))).runtime_clock()
}

/// Room for one at once: nearly every message waits.
fn tight() -> RateLimitLayer {
    per_connection(1)
}

fn pair<L: tower::Layer<Channel>>(layer: L) -> (L::Service, Channel) {
    let (here, there) = messages(1);
    (here.layer(layer), there)
}

contract_tests!(mod wide, pair = pair(generous()), message = text, on = paused_tokio);
contract_tests!(mod wide_by_bytes, pair = pair(generous().cost(PerByte)), message = text, on = paused_tokio);
contract_tests!(mod wide_rejecting, pair = pair(generous().reject()), message = text, on = paused_tokio);
contract_tests!(mod wide_closing, pair = pair(generous().close()), message = text, on = paused_tokio);
contract_tests!(mod narrow, pair = pair(tight()), message = text, on = paused_tokio);
