use metrics::{Counter, Histogram};

use super::sampling::Sampler;

/// One direction of a connection: its counts, the part of them that the recorder knows, and the selection of sampled
/// messages.
///
/// Counts are added up here and reported to the recorder from time to time, because an addition costs less than an
/// atomic one behind a `dyn`. All other work for a message is due at a known message number, so for the other messages
/// it costs one comparison.
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The number of the message, counted from 1, at which more work is due.
    due: u64,
    reported_messages: u64,
    reported_bytes: u64,
    messages_counter: Counter,
    bytes_counter: Counter,
    sizes: Option<Histogram>,
    sampler: Sampler,
    /// Whether the closed state has been recorded.
    pub(super) is_closed: bool,
}

/// A busy transport that never rests is reported every 256 messages.
const REPORT_EVERY: u64 = 256;

impl Traffic {
    pub(super) fn new(messages: Counter, bytes: Counter, sizes: Option<Histogram>, sampler: Sampler) -> Self {
        let mut traffic = Self {
            messages: 0,
            bytes: 0,
            due: 0,
            reported_messages: 0,
            reported_bytes: 0,
            messages_counter: messages,
            bytes_counter: bytes,
            sizes,
            sampler,
            is_closed: false,
        };
        traffic.schedule();
        traffic
    }

    /// Counts a message for which no work is due. Returns `false` without counting if work is due.
    #[inline]
    pub(super) fn passes(&mut self, size: usize) -> bool {
        let number = self.messages + 1;
        if number >= self.due {
            return false;
        }
        self.messages = number;
        self.bytes += size as u64;
        true
    }

    /// Takes back a message that [passed](Self::passes) and was not accepted.
    pub(super) fn take_back(&mut self, size: usize) {
        self.messages -= 1;
        self.bytes -= size as u64;
    }

    /// Returns whether the next message to be counted is sampled. Must be called once, before the message is counted.
    pub(super) fn samples(&mut self) -> bool {
        self.sampler.selects(self.messages + 1)
    }

    /// Counts a message for which work may be due.
    pub(super) fn count(&mut self, size: usize) {
        self.messages += 1;
        self.bytes += size as u64;
        if let Some(sizes) = &self.sizes {
            sizes.record(size as f64);
        }
        if self.messages.is_multiple_of(REPORT_EVERY) {
            self.report();
        }
        self.schedule();
    }

    /// Makes work due at the next message.
    pub(super) fn inspect_next(&mut self) {
        self.due = 0;
    }

    fn schedule(&mut self) {
        let report = (self.messages / REPORT_EVERY + 1) * REPORT_EVERY;
        self.due = if self.sizes.is_some() { 0 } else { report.min(self.sampler.next()) };
    }

    /// Reports to the recorder everything that it does not know yet.
    #[inline]
    pub(super) fn report(&mut self) {
        let messages = self.messages - self.reported_messages;
        // Most reports come from an idle poll with nothing new to tell.
        if messages > 0 {
            self.messages_counter.increment(messages);
            self.bytes_counter.increment(self.bytes - self.reported_bytes);
            (self.reported_messages, self.reported_bytes) = (self.messages, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn traffic(every: u32) -> Traffic {
        Traffic::new(Counter::noop(), Counter::noop(), None, Sampler::new(NonZeroU32::new(every), 0))
    }

    /// Returns the numbers of the messages at which work was due, and of those that were sampled.
    fn run(traffic: &mut Traffic, messages: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut due, mut sampled) = (Vec::new(), Vec::new());
        for number in 1..=messages {
            if !traffic.passes(1) {
                due.push(number);
                if traffic.samples() {
                    sampled.push(number);
                }
                traffic.count(1);
            }
        }
        (due, sampled)
    }

    #[test]
    fn most_messages_are_only_counted_and_none_is_missed() {
        let mut traffic = traffic(300);
        let (due, sampled) = run(&mut traffic, 1000);
        assert_eq!(sampled, [1, 301, 601, 901]);
        assert_eq!(due, [1, 256, 301, 512, 601, 768, 901]);
        assert_eq!((traffic.messages, traffic.bytes, traffic.reported_messages), (1000, 1000, 768));
    }

    #[test]
    fn what_was_not_taken_is_not_counted() {
        let mut traffic = traffic(0);
        assert!(traffic.passes(7) && traffic.passes(5));
        traffic.take_back(5);
        assert_eq!((traffic.messages, traffic.bytes), (1, 7));
    }
}
