//! The calls of a client, from their request to their answer. Pure.

use std::task::Waker;

use super::list::List;
use crate::Error;

/// Every call of a client, in the order of the requests. The memory of a call is reused when the call is over; its tag
/// is not.
///
/// ```text
/// insert -> Unsent --next_unsent--> Sent --answer--> Answered --remove--> (gone)
///             |                      |
///           forget                forget, in order: Abandoned --answer--> (gone)
///             v                      v
///           (gone)                 (gone)
/// ```
pub(super) struct Calls<Req, Res> {
    calls: List<Call<Req, Res>>,
    /// The oldest call that is not sent. All calls after it are not sent either.
    unsent: Option<usize>,
    /// The number of calls that wait for an answer.
    waiting: usize,
    /// A tag is an increasing number followed by this many bits with the key of its call.
    key_bits: u32,
    issued: u64,
}

pub(super) struct Call<Req, Res> {
    tag: u64,
    progress: Progress<Req, Res>,
    waker: Option<Waker>,
}

enum Progress<Req, Res> {
    Unsent(Req),
    Sent,
    /// The caller is gone, but the answer must still be told apart from the next one.
    Abandoned,
    Answered(Result<Res, Error>),
}

/// The fate of an answer.
pub(super) enum Delivered<Res> {
    /// The answer was stored in the call, whose waker is returned.
    To(usize, Option<Waker>),
    /// The call was dropped, and is now removed.
    Abandoned(Result<Res, Error>),
    /// No call has this answer, or the call is gone.
    Unknown(Result<Res, Error>),
}

impl<Req, Res> Calls<Req, Res> {
    /// Creates room for at most `limit` calls at a time.
    pub(super) fn new(limit: usize) -> Self {
        // The key in the low bits finds the call without a map. The number above them makes a tag unique, so that a
        // late answer does not reach the call that uses the memory now.
        let key_bits = usize::BITS - limit.saturating_sub(1).leading_zeros();
        Self { calls: List::new(), unsent: None, waiting: 0, key_bits: key_bits.min(32), issued: 0 }
    }

    pub(super) fn insert(&mut self, request: Req) -> usize {
        let key = self.calls.push_back(Call { tag: 0, progress: Progress::Unsent(request), waker: None });
        self.issued += 1;
        if let Some(call) = self.calls.get_mut(key) {
            call.tag = self.issued << self.key_bits | key as u64;
        }
        self.unsent.get_or_insert(key);
        self.waiting += 1;
        key
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the newest waiting call that has a waker.
    pub(super) fn newest_parked(&self) -> Option<usize> {
        // Dropped calls have none, and neither have calls that were woken and have not come.
        let mut keys = std::iter::successors(self.calls.last(), |key| self.calls.prev(*key));
        keys.find(|key| self.calls.get(*key).is_some_and(|call| call.waker.is_some()))
    }

    /// Returns the place of a call's waker while the call waits.
    pub(super) fn waker(&mut self, key: usize) -> Option<&mut Option<Waker>> {
        let call = self.calls.get_mut(key)?;
        matches!(call.progress, Progress::Unsent(_) | Progress::Sent).then_some(&mut call.waker)
    }

    /// Returns the oldest call whose request was sent.
    pub(super) fn oldest_sent(&self) -> Option<usize> {
        self.calls.first().filter(|key| Some(*key) != self.unsent)
    }

    /// Returns whether the request of this call was not sent.
    pub(super) fn is_unsent(&self, key: usize) -> bool {
        matches!(self.calls.get(key), Some(Call { progress: Progress::Unsent(_), .. }))
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// Takes the oldest request that is not sent, which now counts as sent.
    pub(super) fn next_unsent(&mut self) -> Option<(usize, u64, Req)> {
        let key = self.unsent?;
        self.unsent = self.calls.next(key);
        let call = self.calls.get_mut(key)?;
        match std::mem::replace(&mut call.progress, Progress::Sent) {
            Progress::Unsent(request) => Some((key, call.tag, request)),
            _ => None,
        }
    }

    /// Puts back the request that [`next_unsent`](Self::next_unsent) gave last, because the transport did not take it.
    /// If its call was dropped meanwhile, returns the request, and whether that frees the call's place.
    pub(super) fn put_back(&mut self, key: usize, tag: u64, request: Req) -> Result<(), (Req, bool)> {
        match self.calls.get_mut(key) {
            Some(call) if call.tag == tag && matches!(call.progress, Progress::Sent) => {
                call.progress = Progress::Unsent(request);
                self.unsent = Some(key);
                Ok(())
            }
            Some(call) if call.tag == tag && matches!(call.progress, Progress::Abandoned) => {
                self.calls.remove(key);
                Err((request, true))
            }
            _ => Err((request, false)),
        }
    }

    /// Gives an answer to the oldest call that is sent.
    pub(super) fn answer_oldest(&mut self, answer: Result<Res, Error>) -> Delivered<Res> {
        match self.calls.first() {
            Some(key) => self.answer(key, answer),
            None => Delivered::Unknown(answer),
        }
    }

    /// Gives an answer to the call with this tag.
    pub(super) fn answer_tag(&mut self, tag: u64, answer: Result<Res, Error>) -> Delivered<Res> {
        let key = (tag & ((1 << self.key_bits) - 1)) as usize;
        match self.calls.get(key) {
            Some(call) if call.tag == tag => self.answer(key, answer),
            _ => Delivered::Unknown(answer),
        }
    }

    pub(super) fn answer(&mut self, key: usize, answer: Result<Res, Error>) -> Delivered<Res> {
        match self.calls.get_mut(key) {
            Some(call) if matches!(call.progress, Progress::Sent) => {
                call.progress = Progress::Answered(answer);
                let waker = call.waker.take();
                // Out of the order, but not removed: the caller takes the answer by its key.
                self.calls.unlink(key);
                self.waiting -= 1;
                Delivered::To(key, waker)
            }
            Some(Call { progress: Progress::Abandoned, .. }) => {
                self.calls.remove(key);
                Delivered::Abandoned(answer)
            }
            _ => Delivered::Unknown(answer),
        }
    }

    pub(super) fn is_answered(&self, key: usize) -> bool {
        matches!(self.calls.get(key), Some(Call { progress: Progress::Answered(_), .. }))
    }

    /// Takes the answer of a call that has one, which ends the call.
    pub(super) fn take_answer(&mut self, key: usize) -> Option<Result<Res, Error>> {
        if !self.is_answered(key) {
            return None;
        }
        match self.calls.remove(key)?.progress {
            Progress::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// Forgets a dropped call. With `keep`, a call whose request was sent keeps its place until its answer comes.
    /// Returns the rest of the call, to be dropped outside the lock, and whether its place is free.
    pub(super) fn forget(&mut self, key: usize, keep: bool) -> (Option<Call<Req, Res>>, bool) {
        let Some(call) = self.calls.get_mut(key) else { return (None, false) };
        match call.progress {
            Progress::Sent if keep => {
                let waker = call.waker.take();
                call.progress = Progress::Abandoned;
                self.waiting -= 1;
                return (Some(Call { tag: call.tag, progress: Progress::Abandoned, waker }), false);
            }
            Progress::Sent => self.waiting -= 1,
            // Withdrawn: the peer never sees the request, so no answer will come either.
            Progress::Unsent(_) => {
                self.waiting -= 1;
                if self.unsent == Some(key) {
                    self.unsent = self.calls.next(key);
                }
            }
            Progress::Answered(_) | Progress::Abandoned => {}
        }
        (self.calls.remove(key), true)
    }

    /// Returns the wakers of the waiting calls one after another, because no more answers will come.
    pub(super) fn next_waker(&mut self) -> Option<Waker> {
        while let Some(key) = self.calls.first() {
            self.calls.unlink(key);
            if let Some(waker) = self.calls.get_mut(key).and_then(|call| call.waker.take()) {
                return Some(waker);
            }
        }
        self.unsent = None;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(calls: &mut Calls<&'static str, u32>) -> (usize, u64) {
        let (key, tag, _) = calls.next_unsent().unwrap();
        (key, tag)
    }

    #[test]
    fn the_tag_of_a_call_that_is_over_finds_nobody_though_its_memory_is_used_again() {
        let mut calls = Calls::new(4);
        let first = calls.insert("a");
        let (_, tag) = send(&mut calls);
        assert!(calls.forget(first, false).1);
        let second = calls.insert("b");
        let (_, next) = send(&mut calls);
        assert_eq!(first, second);
        assert!(next > tag);
        assert!(matches!(calls.answer_tag(tag, Ok(1)), Delivered::Unknown(_)));
        assert!(matches!(calls.answer_tag(next, Ok(1)), Delivered::To(key, _) if key == second));
        assert!(matches!(calls.answer_tag(next, Ok(1)), Delivered::Unknown(_)));
        assert_eq!(calls.take_answer(second).unwrap().unwrap(), 1);
    }

    #[test]
    fn in_order_a_dropped_call_takes_its_answer_with_it() {
        let mut calls = Calls::new(4);
        let (first, second) = (calls.insert("a"), calls.insert("b"));
        send(&mut calls);
        send(&mut calls);
        assert!(!calls.forget(first, true).1);
        assert_eq!(calls.waiting(), 1);
        assert!(matches!(calls.answer_oldest(Ok(1)), Delivered::Abandoned(_)));
        assert!(matches!(calls.answer_oldest(Ok(2)), Delivered::To(key, _) if key == second));
        assert_eq!(calls.waiting(), 0);
    }

    #[test]
    fn a_request_that_is_withdrawn_is_not_sent_and_gets_no_answer() {
        let mut calls = Calls::new(4);
        let (first, second, third) = (calls.insert("a"), calls.insert("b"), calls.insert("c"));
        assert!(matches!(calls.answer_oldest(Ok(1)), Delivered::Unknown(_)));
        assert!(calls.forget(first, true).1);
        assert_eq!(send(&mut calls).0, second);
        assert!(calls.forget(third, true).1);
        assert!(calls.next_unsent().is_none());
        assert!(!calls.has_unsent());
        assert_eq!(calls.waiting(), 1);
    }

    #[test]
    fn the_newest_call_is_the_newest_one_that_still_waits_and_has_a_waker() {
        let mut calls = Calls::new(4);
        let (first, second) = (calls.insert("a"), calls.insert("b"));
        send(&mut calls);
        send(&mut calls);
        assert_eq!(calls.newest_parked(), None);
        for key in [first, second] {
            *calls.waker(key).unwrap() = Some(Waker::noop().clone());
        }
        assert_eq!(calls.newest_parked(), Some(second));
        calls.forget(second, true);
        assert_eq!(calls.newest_parked(), Some(first));
    }

    #[test]
    fn tags_of_a_limit_that_is_no_power_of_two_are_all_different() {
        let mut calls: Calls<(), ()> = Calls::new(5);
        let mut tags = std::collections::HashSet::new();
        for _ in 0..100 {
            let keys: Vec<_> = (0..5).map(|_| calls.insert(())).collect();
            while let Some((_, tag, ())) = calls.next_unsent() {
                assert!(tags.insert(tag));
            }
            for key in keys {
                calls.forget(key, false);
            }
        }
        assert_eq!(tags.len(), 500);
    }
}
