use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tower_transport::Message;

/// Counts missing and duplicate messages, which are numbered from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checker(Arc<Mutex<Counts>>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    gaps: u64,
    duplicates: u64,
    next: u64,
}

impl Checker {
    /// Returns the message with a number. Some are large, so that connections are cut in the middle of one.
    pub(crate) fn message(number: u64) -> Message {
        Message::text(format!("{number} {}", "x".repeat(if number % 10 == 9 { 20_000 } else { 20 })))
    }

    /// Returns a message without a number.
    pub(crate) fn hello() -> Message {
        Message::text("hello")
    }

    pub(crate) fn take(&self, message: &Message) {
        let number = message.as_text().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let Some(number) = number else { return };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.received += 1;
        if number < counts.next {
            counts.duplicates += 1;
        } else {
            counts.gaps += number - counts.next;
            counts.next = number + 1;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    pub(crate) const fn is_whole(&self, sent: u64) -> bool {
        self.received == sent && self.gaps == 0 && self.duplicates == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} gaps, {} duplicates)", self.received, self.gaps, self.duplicates)
    }
}
