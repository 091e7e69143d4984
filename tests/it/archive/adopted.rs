//! A history that the original's archiver has begun.

use super::stage::{Kind, Peek, each_pair, service};
use crate::{calls::ids, server::Server};

each_pair!(history_of_the_original_is_taken_over);

async fn history_of_the_original_is_taken_over(active: Kind, kind: Kind) {
    let (active, warehouse) = (Peek::new(active).await, Peek::new(kind).await);
    // Its tables, without any of ours.
    let first = Server::builder().on(&active.url).start().await;
    first.terminate().await;
    for number in 1..=40 {
        active
            .run(&format!(
                "INSERT INTO evt_queue (type, data, ts)
                 VALUES ('OLD', '{{ \"n\": {number}.0 }}', '2026-01-01 00:00:00')"
            ))
            .await;
    }
    let time = match kind {
        Kind::Mysql => "DATETIME",
        _ => "TIMESTAMP",
    };
    warehouse
        .run(&format!(
            "CREATE TABLE evt_history (id BIGINT NOT NULL PRIMARY KEY, type VARCHAR(16) NOT NULL,
                data TEXT NOT NULL, ts {time} NOT NULL)"
        ))
        .await;
    // It encodes the data again, and was ended before it moved its position.
    for number in 1..=35 {
        warehouse
            .run(&format!(
                "INSERT INTO evt_history (id, type, data, ts)
                 VALUES ({number}, 'OLD', '{{\"n\":{number}}}', '2026-01-01 00:00:00')"
            ))
            .await;
    }
    active
        .run(
            "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
                VALUES ('-internal:ARCHIVER', 20, '2026-01-01 00:00:00', '2026-01-01 00:00:00');
             DELETE FROM evt_queue WHERE id <= 20",
        )
        .await;
    let server = service(&active, &warehouse).start().await;
    let mut clients = server.clients().await;
    super::stage::archived(&mut clients, 40).await;
    warehouse.assert_sound().await;
    let history = warehouse.history().await;
    assert_eq!(history.len(), 40);
    assert_eq!(history[34], r#"35|OLD|{"n":35}"#);
    assert_eq!(history[35], r#"36|OLD|{ "n": 36.0 }"#);
    let all = super::round_trips::read_all(&mut clients, 0, 1000).await;
    assert_eq!(ids(&all), (1..=40).collect::<Vec<_>>());
}
