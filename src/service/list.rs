//! A queue whose entries keep their place in memory, so that any entry can leave at once. Pure.

/// The index that stands for no entry.
const NONE: usize = usize::MAX;

/// A doubly linked list over a slab. Entries are identified by a key, and the memory of a removed entry is reused.
pub(super) struct List<T> {
    nodes: Vec<Node<T>>,
    /// The first node of the chain of free nodes.
    free: usize,
    first: usize,
    last: usize,
}

struct Node<T> {
    value: Option<T>,
    linked: bool,
    prev: usize,
    next: usize,
}

fn key(index: usize) -> Option<usize> {
    (index != NONE).then_some(index)
}

impl<T> List<T> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), free: NONE, first: NONE, last: NONE }
    }

    pub(super) fn push_back(&mut self, value: T) -> usize {
        // Indices instead of pointers: no unsafe code, and the memory of a removed entry is reused without a search.
        let node = Node { value: Some(value), linked: true, prev: self.last, next: NONE };
        let index = self.free;
        let index = match self.nodes.get_mut(index) {
            Some(free) => {
                self.free = free.next;
                *free = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        match self.nodes.get_mut(self.last) {
            Some(last) => last.next = index,
            None => self.first = index,
        }
        self.last = index;
        index
    }

    /// Puts an [unlinked](Self::unlink) entry at the front.
    pub(super) fn link_front(&mut self, key: usize) {
        let first = self.first;
        let Some(node) = self.nodes.get_mut(key).filter(|node| node.value.is_some() && !node.linked) else { return };
        (node.linked, node.prev, node.next) = (true, NONE, first);
        match self.nodes.get_mut(first) {
            Some(first) => first.prev = key,
            None => self.last = key,
        }
        self.first = key;
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.nodes.get(key)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.nodes.get_mut(key)?.value.as_mut()
    }

    pub(super) fn first(&self) -> Option<usize> {
        key(self.first)
    }

    pub(super) fn last(&self) -> Option<usize> {
        key(self.last)
    }

    pub(super) fn next(&self, of: usize) -> Option<usize> {
        key(self.nodes.get(of)?.next)
    }

    pub(super) fn prev(&self, of: usize) -> Option<usize> {
        key(self.nodes.get(of)?.prev)
    }

    /// Takes an entry out of the queue; it keeps its key and its value.
    pub(super) fn unlink(&mut self, key: usize) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        if !std::mem::take(&mut node.linked) {
            return;
        }
        let (prev, next) = (node.prev, node.next);
        match self.nodes.get_mut(prev) {
            Some(prev) => prev.next = next,
            None => self.first = next,
        }
        match self.nodes.get_mut(next) {
            Some(next) => next.prev = prev,
            None => self.last = prev,
        }
    }

    /// Takes an entry out of the queue and frees its key.
    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        self.unlink(key);
        let node = self.nodes.get_mut(key)?;
        let value = node.value.take()?;
        node.next = self.free;
        self.free = key;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(list: &List<u32>) -> Vec<u32> {
        let forth: Vec<_> = std::iter::successors(list.first(), |key| list.next(*key)).collect();
        let mut back: Vec<_> = std::iter::successors(list.last(), |key| list.prev(*key)).collect();
        back.reverse();
        assert_eq!(forth, back);
        forth.iter().map(|key| *list.get(*key).unwrap()).collect()
    }

    #[test]
    fn entries_leave_from_any_place_and_their_memory_is_used_again() {
        let mut list = List::new();
        let keys: Vec<_> = (0..4).map(|value| list.push_back(value)).collect();
        assert_eq!(list.remove(keys[1]), Some(1));
        assert_eq!(list.remove(keys[1]), None);
        assert_eq!(order(&list), [0, 2, 3]);
        list.remove(keys[3]);
        list.remove(keys[0]);
        assert_eq!(order(&list), [2]);
        list.push_back(4);
        list.push_back(5);
        list.push_back(6);
        assert_eq!(order(&list), [2, 4, 5, 6]);
        assert_eq!(list.nodes.len(), 4);
    }

    #[test]
    fn an_unlinked_entry_keeps_its_key_until_it_is_removed() {
        let mut list = List::new();
        let key = list.push_back(1);
        list.unlink(key);
        list.unlink(key);
        assert_eq!(order(&list), [0u32; 0]);
        let other = list.push_back(2);
        assert_ne!(key, other);
        list.link_front(key);
        list.link_front(key);
        assert_eq!(order(&list), [1, 2]);
        list.unlink(key);
        assert_eq!(list.remove(key), Some(1));
        list.link_front(key);
        assert_eq!(order(&list), [2]);
        list.remove(other);
        let last = list.push_back(3);
        list.unlink(last);
        list.link_front(last);
        assert_eq!(order(&list), [3]);
    }
}
