use std::sync::atomic::Ordering::Relaxed;

use crate::transports::{carrier::Carrier, stack::both, talk::converse, value::Random};

/// The same cuts for the same seed, each after at most about this many hundreds of messages.
pub(crate) fn budgets<C: Carrier>(seed: u64, hundreds: usize) -> Vec<usize> {
    let mut random = Random::new(seed);
    (0..C::CUTS).map(|_| 1 + random.below(C::UNITS * hundreds)).collect()
}

pub(crate) async fn wherever_connections_are_cut_nothing_is_lost_or_doubled<C: Carrier>() {
    for seed in 1..=3 {
        let both = both::<C>(budgets::<C>(seed, 4)).await;
        let cuts = both.cuts.clone();
        drop(converse(both, 3000).await);
        assert!(cuts.load(Relaxed) > 0, "seed {seed}: nothing was cut");
    }
}

/// Early cuts: in the handshake, in the exchange of resume, in the first batches.
pub(crate) async fn a_batch_that_was_cut_in_two_comes_whole<C: Carrier>() {
    for seed in 11..=13 {
        let both = both::<C>(budgets::<C>(seed, 1)).await;
        let cuts = both.cuts.clone();
        drop(converse(both, 300).await);
        assert!(cuts.load(Relaxed) > 0, "seed {seed}: nothing was cut");
    }
}
