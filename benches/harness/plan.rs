//! How much of a benchmark is run, and of what, by its arguments.

pub struct Plan {
    pub rounds: usize,
    /// Shares the number of messages of a round.
    divisor: usize,
    filters: Vec<String>,
}

impl Plan {
    /// Rounds, and what shares their messages: with `--quick`, and without. Without cargo's `--bench` (so under `cargo
    /// test`) it only shows that everything runs.
    pub fn from_arguments(quick: (usize, usize), full: (usize, usize)) -> Self {
        let (flags, filters): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
        let has = |flag| flags.iter().any(|word| word == flag);
        let (rounds, divisor) = match (has("--bench"), has("--quick")) {
            (false, _) => (1, 100),
            (true, true) => quick,
            (true, false) => full,
        };
        Self { rounds, divisor, filters }
    }

    /// Whether a scenario is asked for: by any part of its name, or because none is named.
    pub fn wants(&self, scenario: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| scenario.contains(filter.as_str()))
    }

    pub fn count(&self, messages: usize) -> usize {
        messages.div_ceil(self.divisor)
    }
}
