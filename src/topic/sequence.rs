use std::collections::VecDeque;

/// The number of items for which an idle sequence keeps memory.
const KEPT: usize = 16;

/// Items in the order of their numbers, which only grow. Any item can be removed. Pure.
///
/// A removed item leaves a hole, because the others keep their places and are found by a binary search. Holes are
/// removed once they outnumber the items, so a push and a removal cost amortized constant time plus the search, and a
/// sequence that is changed forever takes no more memory than twice its largest length.
#[derive(Debug)]
pub(super) struct Sequence<T> {
    /// The first slot is never a hole.
    slots: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Sequence<T> {
    pub(super) const fn new() -> Self {
        Self { slots: VecDeque::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds an item. Its number is larger than that of every item before.
    pub(super) fn push(&mut self, number: u64, item: T) {
        debug_assert!(self.slots.back().is_none_or(|(last, _)| *last < number));
        self.slots.push_back((number, Some(item)));
        self.len += 1;
    }

    /// Returns the item with the smallest number.
    pub(super) fn front(&mut self) -> Option<(u64, &mut T)> {
        let (number, item) = self.slots.front_mut()?;
        Some((*number, item.as_mut()?))
    }

    /// Removes the item with the smallest number.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let (number, item) = self.slots.pop_front()?;
        self.len -= 1;
        self.tidy();
        Some((number, item?))
    }

    /// Removes the item with this number.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.slots.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let item = self.slots.get_mut(place)?.1.take()?;
        self.len -= 1;
        self.tidy();
        if self.slots.len() > 2 * self.len + KEPT {
            self.slots.retain(|(_, item)| item.is_some());
        }
        Some(item)
    }

    /// Removes the items for which `is_gone` is true, and passes them to `take`.
    pub(super) fn extract(&mut self, mut is_gone: impl FnMut(&T) -> bool, mut take: impl FnMut(T)) {
        for (_, slot) in &mut self.slots {
            if slot.as_ref().is_some_and(&mut is_gone) {
                self.len -= 1;
                slot.take().into_iter().for_each(&mut take);
            }
        }
        self.slots.retain(|(_, item)| item.is_some());
        self.tidy();
    }

    /// Returns the items whose number is larger than `number`, in order.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let first = self.slots.partition_point(|(other, _)| *other <= number);
        self.slots.range(first..).filter_map(|(number, item)| Some((*number, item.as_ref()?)))
    }

    /// Removes the holes at the front, and memory that an empty sequence does not need.
    fn tidy(&mut self) {
        while matches!(self.slots.front(), Some((_, None))) {
            self.slots.pop_front();
        }
        if self.slots.is_empty() && self.slots.capacity() > 4 * KEPT {
            self.slots.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sequence_is_a_sorted_map_that_takes_little_memory(
            steps in prop::collection::vec((0u8..4, any::<u16>()), 0..600),
        ) {
            let mut sequence = Sequence::new();
            let mut model = BTreeMap::new();
            let mut most = 0;
            for (next, (step, value)) in (0u64..).zip(steps) {
                match step {
                    0 | 1 => {
                        sequence.push(next, value);
                        model.insert(next, value);
                    }
                    2 => prop_assert_eq!(sequence.pop(), model.pop_first()),
                    _ => {
                        let number = u64::from(value) % (next + 1);
                        prop_assert_eq!(sequence.remove(number), model.remove(&number));
                    }
                }
                most = most.max(model.len());
                prop_assert_eq!(sequence.len(), model.len());
                prop_assert!(sequence.slots.len() <= 2 * most + KEPT + 1);
                let front = sequence.front().map(|(number, item)| (number, *item));
                prop_assert_eq!(front, model.first_key_value().map(|(number, item)| (*number, *item)));
                let half = next / 2;
                prop_assert!(sequence.after(half).eq(model.range(half + 1..).map(|(number, item)| (*number, item))));
            }
            let mut odd = Vec::new();
            sequence.extract(|item| item % 2 == 1, |item| odd.push(item));
            prop_assert!(odd.iter().eq(model.values().filter(|item| **item % 2 == 1)));
            model.retain(|_, item| *item % 2 == 0);
            prop_assert!(std::iter::from_fn(|| sequence.pop()).eq(model));
        }
    }
}
