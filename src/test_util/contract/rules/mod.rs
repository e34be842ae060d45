//! The checks, one per file. Each gets a fresh pair, and runs once per direction.

mod back_pressure;
mod cancellation;
mod close;
mod cut;
mod duplex;
mod flush;
mod order;
mod readiness;
mod wake_ups;

use super::{bench::Bench, check::Check};

pub(super) async fn run(check: Check, bench: Bench<'_>) {
    match check {
        Check::Readiness => readiness::check(bench).await,
        Check::BackPressure => back_pressure::check(bench).await,
        Check::Order => order::check(bench).await,
        Check::Flush => flush::check(bench).await,
        Check::Cancellation => cancellation::check(bench).await,
        Check::Close => close::check(bench).await,
        Check::Cut => cut::check(bench).await,
        Check::WakeUps => wake_ups::check(bench).await,
        Check::Duplex => duplex::check(bench).await,
    }
}
