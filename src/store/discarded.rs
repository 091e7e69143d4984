//! What is gone from the low end of the queue (ARCHITECTURE, rule 6).
//!
//! Our own discarder records what it deletes; the original's, or a person with
//! psql, records nothing, and ids have gaps of their own, so a missing id alone
//! means nothing. And `min(id)` walks over everything dead while an old
//! snapshot is open. So each read carries three facts from its snapshot: the
//! lowest row above what is known to be gone, the slowest position, and whether
//! a row that was seen before is still there. A discarder deletes from the low
//! end and not beyond the slowest position; when the remembered row above that
//! position is gone, somebody did, and everything below the lowest row is doubted.
//! That row is saved with the positions, so that deletes are noticed which happen
//! while no service runs.

use crate::event::EventId;

/// What this process knows of the low end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LowEnd {
    /// Every id up to this one may be gone.
    pub discarded: i64,
    /// A row that was there: the lowest above the slowest position.
    pub witness: i64,
}

/// The low end as one snapshot shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Recorded in `evt_stream`.
    pub recorded: i64,
    /// Lowest row above [`LowEnd::discarded`].
    pub oldest: Option<i64>,
    /// Lowest position. Consumers that the original registered at 0 and nobody
    /// has used here do not count: they start at what is there.
    pub slowest: Option<i64>,
    /// Lowest row above that position.
    pub next_witness: Option<i64>,
    /// Whether the row of [`LowEnd::witness`] is still there.
    pub witnessed: bool,
}

impl LowEnd {
    /// Draws the conclusion; `through` is settled, so that no id in an open
    /// transaction is taken for a discarded one.
    pub(super) fn conclude(&mut self, asked: Self, seen: Seen, through: i64) -> EventId {
        let below_oldest = seen
            .oldest
            .map_or(through, |oldest| oldest - 1)
            .min(through);
        let beyond_positions = asked.witness > 0
            && !seen.witnessed
            && seen.slowest.is_none_or(|at| asked.witness > at);
        let discarded = match seen.slowest {
            Some(slowest) if !beyond_positions => below_oldest.min(slowest),
            _ => below_oldest,
        };
        self.discarded = self.discarded.max(seen.recorded).max(discarded);
        if let Some(witness) = seen.next_witness {
            self.witness = witness;
        }
        EventId::stored(self.discarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(oldest: i64, slowest: Option<i64>, witnessed: bool) -> Seen {
        Seen {
            recorded: 0,
            oldest: Some(oldest),
            slowest,
            next_witness: Some(oldest.max(slowest.unwrap_or(0) + 1)),
            witnessed,
        }
    }

    fn conclude(low: &mut LowEnd, seen: Seen, through: i64) -> i64 {
        let asked = *low;
        low.conclude(asked, seen, through).get()
    }

    #[test]
    fn gap_above_all_positions_is_not_taken_for_a_discard() {
        // All consumers have 5, all rows up to 5 are deleted, 6 and 7 rolled back.
        let mut low = LowEnd::default();
        assert_eq!(conclude(&mut low, seen(1, Some(4), true), 5), 0);
        assert_eq!(conclude(&mut low, seen(8, Some(5), false), 8), 5);
    }

    #[test]
    fn row_deleted_before_a_consumer_had_it_is_noticed() {
        let mut low = LowEnd::default();
        conclude(&mut low, seen(1, Some(2), true), 9);
        assert_eq!(low.witness, 3);
        assert_eq!(conclude(&mut low, seen(6, Some(2), false), 9), 5);
        // And stays noticed.
        assert_eq!(conclude(&mut low, seen(6, Some(2), true), 9), 5);
    }

    #[test]
    fn id_of_an_open_transaction_is_not_discarded() {
        let mut low = LowEnd::default();
        assert_eq!(conclude(&mut low, seen(7, None, true), 5), 5);
    }
}
