//! Rows that take turns: in each round every row runs once, so that whatever else the machine does falls on all of
//! them.

use std::time::Duration;

use crate::statistics::median;

/// The measurement of one row: the CPU time of a number of events.
pub(crate) type Row<'a> = (&'static str, Box<dyn Fn() -> Duration + 'a>);

/// Runs the rows, prints nanoseconds per event and the ratio to the first row, and gives the ratios in the order of the
/// rows.
pub(crate) fn run(title: &str, rounds: usize, events: usize, rows: &[Row<'_>]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(rounds); rows.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for turn in 0..rows.len() {
            let index = (round + turn) % rows.len();
            let time = (rows[index].1)().as_secs_f64();
            if round > 0 {
                times[index].push(time);
            }
        }
    }
    println!("\n{title}\n  {:<28} {:>10} {:>10} {:>8}", "", "ns/event", "Mevents/s", "ratio");
    let mut ratios = Vec::with_capacity(rows.len());
    for ((name, _), own) in rows.iter().zip(&times) {
        let ratio = median(own.iter().zip(&times[0]).map(|(own, base)| own / base));
        let each = median(own.iter().copied()) / events as f64;
        println!("  {name:<28} {:>10.1} {:>10.2} {ratio:>8.3}", each * 1e9, 1e-6 / each);
        ratios.push(ratio);
    }
    ratios
}
