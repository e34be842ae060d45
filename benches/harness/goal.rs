//! Goals, one line each, so that anyone can read where the project stands.

/// Prints whether `value` keeps within `bound`.
pub fn goal(name: &str, value: f64, bound: f64) {
    let verdict = if value <= bound { "met" } else { "missed" };
    println!("goal {name} {} <= {} {verdict}", short(value), short(bound));
}

/// At most four decimals, none that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
