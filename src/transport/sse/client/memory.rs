//! The state of an event source that outlives its connections.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;

/// The state shared by a connector, its clones and their streams.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The URI that the state belongs to: another server's ids mean nothing to this one.
    uri: Option<Uri>,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Memory {
    /// Begins a stream of `uri`. Returns the id to continue from, which is `first` if nothing is known about this URI.
    pub(super) fn begin(&self, uri: &Uri, first: &str) -> String {
        let mut kept = self.lock();
        if kept.uri.as_ref() != Some(uri) {
            *kept = Kept { uri: Some(uri.clone()), last_event_id: first.to_owned(), retry: None };
        }
        kept.last_event_id.clone()
    }

    /// Stores the state of a stream of `uri`. Has no effect if a stream of another URI has begun meanwhile.
    pub(super) fn keep(&self, uri: &Uri, last_event_id: &str, retry: Option<Duration>) {
        let mut kept = self.lock();
        if kept.uri.as_ref() == Some(uri) {
            if kept.last_event_id != last_event_id {
                kept.last_event_id.clear();
                kept.last_event_id.push_str(last_event_id);
            }
            kept.retry = retry.or(kept.retry);
        }
    }

    pub(super) fn last_event_id(&self) -> String {
        self.lock().last_event_id.clone()
    }

    pub(super) fn retry(&self) -> Option<Duration> {
        self.lock().retry
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No operation leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_url_is_nothing_to_another() {
        let (a, b) = (Uri::from_static("http://h/a"), Uri::from_static("http://h/b"));
        let memory = Memory::default();
        assert_eq!(memory.begin(&a, "first"), "first");
        memory.keep(&a, "7", Some(Duration::from_secs(1)));
        memory.keep(&a, "8", None);
        assert_eq!((memory.begin(&a, "first"), memory.retry()), ("8".to_owned(), Some(Duration::from_secs(1))));
        assert_eq!((memory.begin(&b, ""), memory.retry()), (String::new(), None));
        memory.keep(&a, "9", None);
        assert_eq!(memory.last_event_id(), "", "a stream that another one has replaced");
    }
}
