//! How far a session is: the position below which everything is handled.

use std::collections::VecDeque;

/// Names a unit of a session.
pub(crate) type Number = usize;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The number of the first one that is open.
    first: Number,
    /// From the first one that is not handled: position, and whether it is.
    open: VecDeque<(i64, bool)>,
    position: Option<i64>,
}

impl Progress {
    /// The next unit; its position is reached when it and all before it are handled.
    pub(crate) fn add(&mut self, position: i64) -> Number {
        self.open.push_back((position, false));
        self.first + self.open.len() - 1
    }

    pub(crate) fn finish(&mut self, number: Number) {
        if let Some(unit) = self.open.get_mut(number - self.first) {
            unit.1 = true;
        }
        while let Some((position, true)) = self.open.front() {
            self.position = Some(*position);
            self.open.pop_front();
            self.first += 1;
        }
    }

    /// Nothing was handled where there is none.
    pub(crate) fn position(&self) -> Option<i64> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_passed_that_has_a_gap_below_it() {
        let mut progress = Progress::default();
        let numbers: Vec<_> = [10, 20, 30, 40]
            .map(|position| progress.add(position))
            .into();
        assert_eq!(progress.position(), None);
        progress.finish(numbers[1]);
        progress.finish(numbers[2]);
        assert_eq!(progress.position(), None);
        progress.finish(numbers[0]);
        assert_eq!(progress.position(), Some(30));
        let more = progress.add(50);
        progress.finish(more);
        assert_eq!(progress.position(), Some(30));
        progress.finish(numbers[3]);
        assert_eq!(progress.position(), Some(50));
    }
}
