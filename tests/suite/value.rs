//! The values that are sent. They are numbered, so that a gap, a duplicate or another order is seen.

use rkyv::{Archive, Deserialize, Serialize};
use tower_transport::codec::RkyvCodec;

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Value {
    pub number: u64,
    pub payload: Vec<u8>,
}

pub fn codec() -> RkyvCodec<Value> {
    RkyvCodec::new()
}

/// The value of a number: most are tiny, some shrink, some do not, and each end's are its own.
pub fn nth(end: u8, number: u64) -> Value {
    let payload = match number % 64 {
        17 => vec![end; 4000],
        43 => noise(3000, number),
        some => noise(some as usize / 4, number),
    };
    Value { number, payload }
}

/// Does not shrink.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| random.number() as u8).take(length).collect()
}

/// The same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.number() as usize % bound
    }
}
