use std::sync::{Arc, Mutex};

use tower_transport::Message;

/// Numbers what it is asked to, and counts what is missing and what comes twice on the other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checker(Arc<Mutex<Counts>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) gaps: u64,
    pub(crate) duplicates: u64,
    next: u64,
}

impl Checker {
    /// The message of a number: some are large, so that paths are cut in the middle of one.
    pub(crate) fn message(number: u64) -> Message {
        let filler = if number % 10 == 9 { 20_000 } else { 20 };
        Message::text(format!("{number} {}", "x".repeat(filler)))
    }

    pub(crate) fn take(&self, message: &Message) {
        let number: u64 = message.as_text().unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut counts = self.0.lock().unwrap();
        counts.received += 1;
        if number >= counts.next {
            counts.gaps += number - counts.next;
            counts.next = number + 1;
        } else {
            counts.duplicates += 1;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.0.lock().unwrap()
    }

    /// That all came once and in order.
    pub(crate) fn assert_whole(&self, sent: u64) {
        assert_eq!(self.counts(), Counts { received: sent, gaps: 0, duplicates: 0, next: sent });
    }
}

#[test]
fn the_checker_can_fail() {
    let checker = Checker::default();
    for number in [0, 1, 4, 3] {
        checker.take(&Checker::message(number));
    }
    let Counts { received, gaps, duplicates, .. } = checker.counts();
    assert_eq!((received, gaps, duplicates), (4, 2, 1));
}
