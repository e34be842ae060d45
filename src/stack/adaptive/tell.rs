use std::sync::Arc;

use super::{Decided, Decision, Reason, TransportKind};
use crate::{
    layer::trace::{CONNECT_SECONDS, CONNECTS, FALLBACKS, PATHS_LOST},
    log,
};

/// Reports a decision to the metrics and the log. All labels are words of this crate.
pub(super) fn tell(name: &Arc<str>, decided: &Decided) {
    let (origin, attempt) = (&*decided.origin, decided.attempt);
    match &decided.decision {
        Decision::Remembered { kind } => {
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, "trying the transport that worked recently first")
        }
        Decision::Started { kind, after } => {
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, ?after, "started")
        }
        Decision::FellBack { kind, reason, error, after } => {
            fell_back(name, *kind, *reason);
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, %reason, %error, ?after, "fell back");
        }
        Decision::Stopped { kind, reason, error, after } => {
            fell_back(name, *kind, *reason);
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, %reason, %error, ?after, "stopped");
        }
        Decision::Connected { kind, after } => {
            let labels = [("name", name.to_string()), ("role", "client".into()), ("transport", kind.word().into())];
            metrics::counter!(CONNECTS, &labels).increment(1);
            metrics::histogram!(CONNECT_SECONDS, &labels).record(after.as_secs_f64());
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, ?after, "connected");
        }
        Decision::Failed { error, after } => {
            tracing::debug!(target: log::STACK, %name, origin, attempt, %error, ?after, "failed")
        }
        Decision::LostMidSession { kind, error } => {
            let labels = [("name", name.to_string()), ("role", "client".into()), ("transport", kind.word().into())];
            metrics::counter!(PATHS_LOST, &labels).increment(1);
            tracing::debug!(target: log::STACK, %name, origin, attempt, %kind, %error, "the path went dead");
        }
        Decision::Missed { .. } => {}
    }
}

fn fell_back(name: &Arc<str>, kind: TransportKind, reason: Reason) {
    let labels = [
        ("name", name.to_string()),
        ("role", "client".into()),
        ("transport", kind.word().into()),
        ("reason", reason.word().into()),
    ];
    metrics::counter!(FALLBACKS, &labels).increment(1);
}
