//! What waits for a handler: units of one key in order, keys side by side.

use std::collections::{HashMap, VecDeque};

use super::progress::Number;

/// A unit on its way to the handler.
#[derive(Debug)]
pub(crate) struct Item<U> {
    pub(crate) unit: U,
    pub(crate) key: u64,
    pub(crate) number: Number,
}

#[derive(Debug)]
pub(crate) struct Queue<U> {
    /// May be begun now.
    ready: VecDeque<Item<U>>,
    /// The keys that are ready or in a handler, and what waits behind them.
    behind: HashMap<u64, VecDeque<Item<U>>>,
    len: usize,
}

impl<U> Queue<U> {
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            behind: HashMap::new(),
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, item: Item<U>) {
        self.len += 1;
        if let Some(behind) = self.behind.get_mut(&item.key) {
            behind.push_back(item);
            return;
        }
        self.behind.insert(item.key, VecDeque::new());
        self.ready.push_back(item);
    }

    /// The next that may be begun.
    pub(crate) fn pop(&mut self) -> Option<Item<U>> {
        let item = self.ready.pop_front()?;
        self.len -= 1;
        Some(item)
    }

    /// The handler of this key is free.
    pub(crate) fn release(&mut self, key: u64) {
        match self.behind.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(item) => self.ready.push_back(item),
            None => drop(self.behind.remove(&key)),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.behind.clear();
        self.len = 0;
    }

    /// What waits, without what is in a handler.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_at_a_time() {
        let mut queue = Queue::new();
        for (number, key) in [(0, 1), (1, 2), (2, 1), (3, 3), (4, 2)] {
            queue.push(Item {
                unit: (),
                key,
                number,
            });
        }
        let pop = |queue: &mut Queue<()>| queue.pop().map(|item| item.number);
        assert_eq!([0, 1, 3].map(Some), [(); 3].map(|()| pop(&mut queue)));
        assert_eq!((pop(&mut queue), queue.len()), (None, 2));
        queue.release(2);
        assert_eq!(pop(&mut queue), Some(4));
        queue.release(3);
        assert_eq!(pop(&mut queue), None);
        queue.release(1);
        assert_eq!((pop(&mut queue), queue.len()), (Some(2), 0));
    }
}
