use std::sync::atomic::Ordering::Relaxed;

use crate::{
    suite::value::Random,
    transports::{carrier::Carrier, join},
};

/// The same cuts for the same seed, each after at most about this many hundreds of messages.
fn budgets<C: Carrier>(seed: u64, hundreds: usize) -> Vec<usize> {
    let mut random = Random::new(seed);
    (0..C::CUTS).map(|_| 1 + random.below(C::UNITS * hundreds)).collect()
}

macro_rules! cut {
    ($($test:ident: $seeds:expr, $hundreds:literal;)*) => {
        $(
            pub(crate) async fn $test<C: Carrier>() {
                for seed in $seeds {
                    let route = C::open(budgets::<C>(seed, $hundreds)).await;
                    let cuts = join!(C, route, $test);
                    assert!(cuts.load(Relaxed) > 0, "seed {seed}: nothing was cut");
                }
            }
        )*
    };
}

cut! {
    wherever_connections_are_cut_nothing_is_lost_or_doubled: 1..=3, 4;
    a_batch_that_was_cut_in_two_comes_whole: 11..=13, 1;
    the_recommended_stack_loses_nothing_where_it_is_cut: [5], 2;
}
