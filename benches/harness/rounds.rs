//! Interleaved rounds: in each, every row runs once, so that whatever else the machine does falls on all of them. The
//! figures are medians over the rounds, and a ratio is the median of the ratios within each round.

use std::time::Duration;

use crate::{contestants::T, statistics::median};

/// The measurement of one row in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Nanoseconds: the median of all round trips, or the wall time per message.
    pub wall: f64,
    /// Nanoseconds of the process's CPU time (both ends, user and system) per round trip or message.
    pub cpu: f64,
}

impl Sample {
    /// The time that a number of messages took.
    pub fn of(wall: Duration, cpu: Duration, messages: usize) -> Self {
        let each = |time: Duration| time.as_nanos() as f64 / messages as f64;
        Self { wall: each(wall), cpu: each(cpu) }
    }
}

/// One contestant in one scenario.
pub struct Row<M = Sample> {
    pub name: &'static str,
    pub run: Box<dyn Fn() -> M>,
}

impl<M> Row<M> {
    pub fn new(name: &'static str, run: impl Fn() -> M + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// The samples of all rounds.
pub struct Table {
    rows: Vec<(&'static str, Vec<Sample>)>,
    base: &'static str,
}

/// Runs every row once a round; each round begins with another row.
pub fn run(rounds: usize, rows: &[Row]) -> Table {
    let mut table = Table { rows: rows.iter().map(|row| (row.name, Vec::with_capacity(rounds))).collect(), base: T };
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let index = (round + turn) % rows.len();
            table.rows[index].1.push((rows[index].run)());
        }
    }
    table
}

impl Table {
    /// Prints ratios to the row `base` in place of tokio-tungstenite's.
    #[must_use]
    pub fn against(self, base: &'static str) -> Self {
        Self { base, ..self }
    }

    fn samples(&self, name: &str) -> Option<&[Sample]> {
        self.rows.iter().find(|(row, _)| *row == name).map(|(_, samples)| samples.as_slice())
    }

    /// The median over the rounds; `None` where the row did not run.
    pub fn middle(&self, row: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.samples(row).map(|samples| median(samples.iter().map(of)))
    }

    /// `row / base`: the median of the ratios within each round; `None` where one of them did not run.
    pub fn ratio(&self, row: &str, base: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.samples(row)?.iter().zip(self.samples(base)?);
        Some(median(pairs.map(|(row, base)| of(row) / of(base))))
    }

    /// `row` against whichever of the other libraries is the fastest: the largest of its ratios.
    pub fn ratio_to_fastest(&self, row: &str, of: impl Fn(&Sample) -> f64 + Copy) -> Option<f64> {
        let peers = self.rows.iter().map(|(name, _)| *name).filter(|name| !name.starts_with("ours"));
        peers.filter_map(|peer| self.ratio(row, peer, of)).reduce(f64::max)
    }

    /// Prints one line a row: times in microseconds, each with its ratio to the base, or to the first row where the
    /// base did not run.
    pub fn print(&self, title: &str, wall: &str) {
        self.print_columns(title, wall, "CPU us");
    }

    /// The same, where the second figure is not the CPU time.
    pub fn print_columns(&self, title: &str, wall: &str, cpu: &str) {
        let base = if self.samples(self.base).is_some() { self.base } else { self.rows[0].0 };
        println!("\n{title}");
        println!("  {:<28} {wall:>12} {:>8} {cpu:>12} {:>8}", "", "ratio", "ratio");
        for (name, samples) in &self.rows {
            let middle = |of: fn(&Sample) -> f64| median(samples.iter().map(of)) / 1e3;
            let ratio = |of: fn(&Sample) -> f64| self.ratio(name, base, of).unwrap_or(f64::NAN);
            println!(
                "  {name:<28} {:>12.3} {:>8.3} {:>12.3} {:>8.3}",
                middle(|sample| sample.wall),
                ratio(|sample| sample.wall),
                middle(|sample| sample.cpu),
                ratio(|sample| sample.cpu),
            );
        }
    }
}
