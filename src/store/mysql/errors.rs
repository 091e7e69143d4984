//! What the server's errors mean.
//!
//! By number: SQLSTATE is a rough class here, and many errors have none of
//! their own. The two servers give the same number to the same thing except
//! where a comment says so.

use sqlx::mysql::MySqlDatabaseError;

use crate::store::{Effect, Error};

/// The server's number of an error; `None` if it did not come from there.
pub(in crate::store) fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// What an error of the server says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The server gave the statement up; the connection goes on.
    Refused,
    /// It was interrupted: in a commit nobody knows on which side of it.
    Interrupted,
    /// The server writes no more: it is, or became, a replica.
    ReadOnly,
    /// The connection ends.
    Ended,
}

fn meaning(number: u16) -> Meaning {
    match number {
        // Interrupted, or over the limit of time in MariaDB and in MySQL.
        1317 | 1969 | 3024 => Meaning::Interrupted,
        1290 | 1792 | 1836 => Meaning::ReadOnly,
        // Shutdown, aborted, packet too large, broken packets, killed in
        // MariaDB and in MySQL, idle for too long.
        1053 | 1077..=1080 | 1152..=1161 | 1184 | 1927 | 3169 | 4031 => Meaning::Ended,
        _ => Meaning::Refused,
    }
}

/// Whether InnoDB has rolled the transaction back to let another one go on.
pub(in crate::store) fn is_deadlock(error: &sqlx::Error) -> bool {
    number(error) == Some(1213)
}

/// Whether a unique key has the value already.
pub(in crate::store) fn is_duplicate(error: &sqlx::Error) -> bool {
    number(error) == Some(1062)
}

/// Whether the database refuses the values themselves.
pub(in crate::store) fn is_data_error(error: &sqlx::Error) -> bool {
    // The queue's own key: its counter is behind the table.
    let own_key = is_duplicate(error) && error.to_string().contains("PRIMARY'");
    number(error).is_some_and(refuses_data) && !own_key
}

fn refuses_data(number: u16) -> bool {
    matches!(
        number,
        // NULL, unique, no default, foreign keys.
        1048 | 1062 | 1169 | 1216 | 1364 | 1452 | 1586 | 1761 | 1762
        // Out of range, cut, wrong value, not in the character set, too long.
        | 1264 | 1265 | 1292 | 1300 | 1366 | 1367 | 1406 | 1411 | 1690 | 3854 | 3988
        // No partition, not JSON, too large for the column or the page.
        | 1526 | 1748 | 3140 | 3141 | 3156 | 1118 | 1301
        // A check of MySQL, of MariaDB; of a view.
        | 3819 | 4025 | 1369
        // What a trigger raises.
        | 1642..=1644
    )
}

/// A failure before anything was committed.
pub(in crate::store) fn unavailable(error: &sqlx::Error) -> Error {
    classify(error, number(error), Effect::None)
}

/// A failure of COMMIT, or of a statement that is its own transaction. An error
/// that the server answers with is certain, unless it ends the connection or
/// interrupted the commit.
pub(in crate::store) fn commit_failed(error: &sqlx::Error) -> Error {
    let number = number(error);
    classify(error, number, effect_of_commit(error, number))
}

fn effect_of_commit(error: &sqlx::Error, number: Option<u16>) -> Effect {
    match number.map(meaning) {
        Some(Meaning::Refused | Meaning::ReadOnly) => Effect::None,
        // No connection was had, so nothing was sent.
        None if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => {
            Effect::None
        }
        _ => Effect::Unknown,
    }
}

fn classify(error: &sqlx::Error, number: Option<u16>, effect: Effect) -> Error {
    let cause = error.to_string();
    let lost = match number.map(meaning) {
        Some(meaning) => matches!(meaning, Meaning::ReadOnly | Meaning::Ended),
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::PoolClosed
        ),
    };
    if lost {
        Error::Lost { effect, cause }
    } else {
        Error::Unavailable { effect, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class and effect.
    fn told(error: &Error) -> (&'static str, Option<Effect>) {
        let effect = match error {
            Error::Unavailable { effect, .. } | Error::Lost { effect, .. } => Some(*effect),
            Error::Contract(_) | Error::Discarded(_) => None,
        };
        (error.class(), effect)
    }

    /// As if the server had answered with this number.
    fn answered(number: u16) -> (&'static str, Effect) {
        let error = sqlx::Error::RowNotFound;
        let effect = effect_of_commit(&error, Some(number));
        let (class, told) = told(&classify(&error, Some(number), effect));
        assert_eq!(told, Some(effect));
        (class, effect)
    }

    #[test]
    fn effect_of_a_commit_is_unknown_only_when_it_was_cut_short() {
        // Deadlock, lock wait, too many connections, full, Galera not ready.
        for number in [1213, 1205, 1040, 1203, 1021, 1114, 1047] {
            assert_eq!(answered(number), ("unavailable", Effect::None), "{number}");
        }
        for number in [1317, 1969, 3024] {
            assert_eq!(
                answered(number),
                ("unavailable", Effect::Unknown),
                "{number}"
            );
        }
        // A replica now: certainly refused, and everything is proven anew.
        for number in [1290, 1792, 1836] {
            assert_eq!(answered(number), ("lost", Effect::None), "{number}");
        }
        for number in [1053, 1153, 1158, 1927, 3169, 4031] {
            assert_eq!(answered(number), ("lost", Effect::Unknown), "{number}");
        }
    }

    #[test]
    fn broken_connection_leaves_the_effect_unknown() {
        let cut = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(told(&unavailable(&cut)), ("lost", Some(Effect::None)));
        assert_eq!(told(&commit_failed(&cut)), ("lost", Some(Effect::Unknown)));
        let waited = told(&commit_failed(&sqlx::Error::PoolTimedOut));
        assert_eq!(waited, ("unavailable", Some(Effect::None)));
    }

    #[test]
    fn data_errors_are_those_of_the_values() {
        for number in [1366, 1406, 1062, 1265, 1644, 3819, 4025, 3140] {
            assert!(refuses_data(number), "{number}");
        }
        // Those roll the whole transaction back, or say nothing of the values.
        for number in [1205, 1213, 1146, 1142, 1114, 1290, 1317] {
            assert!(!refuses_data(number), "{number}");
        }
    }
}
