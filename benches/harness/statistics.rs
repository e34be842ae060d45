//! The two statistics that the benchmarks use.

/// The value that `share` of all (0.0 to 1.0) are not above.
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    assert!(!values.is_empty(), "a percentile of nothing");
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// The middle value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values.into_iter().collect(), 0.5)
}
