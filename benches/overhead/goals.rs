//! The goals, each over the rows of `rows`.

use crate::{
    Cost,
    goal::goal,
    over,
    rows::{BARE, ONE, TEN},
};

/// The layers that leave the payload as it is: the name of the goal, and its row.
const LAYERS: &[(&str, &str)] = &[
    ("auth-expiry", crate::rows::auth::EXPIRY),
    ("heartbeat", crate::rows::HEARTBEAT),
    ("limit", crate::rows::limit::SIZES),
    ("limit-with-times", crate::rows::limit::TIMES),
    ("queue", crate::rows::QUEUE),
    ("reconnect", crate::rows::reconnect::RECONNECT),
    ("trace", crate::rows::TRACE),
];

/// Rows of other layers that allocate nothing either, with a message that they do not transform or a count of what they
/// add.
const WITHOUT_ALLOCATION: &[(&str, &str)] = &[
    ("batch-lone-message", crate::rows::batch::LONE),
    ("compression-below-its-size", crate::rows::compression::SMALL),
    ("rate-limit", crate::rows::rate_limit::PER_CONNECTION),
    ("reconnect-fail", crate::rows::reconnect::FAIL),
    ("reconnect-keep", crate::rows::reconnect::KEEP),
];

pub(crate) fn print(costs: &[Cost]) {
    let find = |name| costs.iter().find(|cost| cost.name == name).expect("the row ran");
    let (bare, one, ten) = (find(BARE), find(ONE), find(TEN));

    match (bare.instructions, one.instructions) {
        (Some(bare), Some(one)) => goal("overhead/pass-through-layer-instructions", one - bare, 20.0),
        _ => println!("instructions were not counted: that needs `cargo bench` and valgrind"),
    }
    goal("overhead/pass-through-layer-allocations", one.allocations - bare.allocations, 0.0);
    goal("overhead/10-pass-through-layers-ns", over(ten, bare), 25.0);

    // A message passes the layer at both ends of the channel; the goal is for one of them.
    for (name, row) in LAYERS {
        let cost = find(row);
        goal(&format!("overhead/{name}-ns-per-layer-passed"), over(cost, bare) / 2.0, 2.0);
        goal(&format!("overhead/{name}-allocations"), cost.allocations - bare.allocations, 0.0);
    }
    for (name, row) in WITHOUT_ALLOCATION {
        goal(&format!("overhead/{name}-allocations"), find(row).allocations - bare.allocations, 0.0);
    }
    // All of the six are passed out at one end, and in at the other: twelve times a layer in all.
    {
        use crate::rows::stack::{SIX, SIX_COUNTED};

        goal("overhead/stack-of-six-ns-both-ends", over(find(SIX), bare), 60.0);
        goal("overhead/stack-of-six-allocations", find(SIX).allocations - bare.allocations, 0.0);
        match find(SIX_COUNTED).clock_reads {
            Some(reads) => goal("overhead/stack-of-six-clock-reads", reads, 1.0),
            None => println!("reads of the clock were not counted: that needs Linux with glibc"),
        }
    }
    // The rate limit's own work is a check, which reads the clock: the goals are over governor's, done by hand.
    {
        use crate::rows::rate_limit::{BY_HAND, BY_HAND_KEYED, CHECK, GOVERNOR_KEYED, KEYED, PER_CONNECTION};

        let ratio = |layer, by_hand| over(find(layer), bare) / over(find(by_hand), bare);
        goal("overhead/rate-limit-vs-governor", ratio(PER_CONNECTION, BY_HAND), 1.2);
        goal("overhead/rate-limit-keyed-vs-governor", ratio(KEYED, BY_HAND_KEYED), 1.2);
        goal("overhead/rate-limit-check-key-vs-governor", crate::times(find(CHECK), find(GOVERNOR_KEYED)), 1.2);
    }
    {
        use crate::rows::compression::{BARE, LAYER};

        goal("overhead/compression-vs-flate2-reset", crate::times(find(LAYER), find(BARE)), 1.05);
        // The payload itself, once on each end.
        goal("overhead/compression-allocations", find(LAYER).allocations, 2.0);
    }
    goal("overhead/batch-of-64-allocations-per-message", find(crate::rows::batch::PACKED).allocations, 2.0 / 64.0);
}
