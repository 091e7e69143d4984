//! What FTN18 promises, through both fronts: one body of test code each.

pub mod front;
mod mixed;

use self::{
    front::{Front, Futoin, Grpc, Refusal},
    mixed::Mixed,
};

/// Stamps a scenario once per front.
macro_rules! through_both {
    ($($scenario:ident),* $(,)?) => {
        mod over_grpc {
            $(#[tokio::test] async fn $scenario() {
                super::$scenario(super::Grpc::start().await).await;
            })*
        }
        mod over_futoin {
            $(#[tokio::test] async fn $scenario() {
                super::$scenario(super::Futoin::start().await).await;
            })*
        }
        /// Each call through another front than the one before.
        mod in_turns {
            $(#[tokio::test] async fn $scenario() {
                super::$scenario(super::Mixed::start().await).await;
            })*
        }
    };
}

through_both!(
    events_are_polled_in_order_with_their_text,
    poll_moves_the_position_and_never_back,
    want_filters_and_what_it_leaves_out_is_passed,
    live_polls_from_the_oldest_and_keeps_nothing,
    registration_is_idempotent_and_needed,
    pushed_groups_are_taken_and_stay_taken,
    what_was_not_taken_comes_again,
    filtered_push_passes_what_it_leaves_out,
    live_push_begins_now,
    bad_fields_are_refused,
);

async fn events_are_polled_in_order_with_their_text(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    let texts = [
        r#"{"b":1, "a":1.0}"#,
        "null",
        "12345678901234567890",
        r#""\ud800""#,
    ];
    for (expected, text) in (1..).zip(texts) {
        assert_eq!(front.add("ORDER_NEW", text).await, Ok(expected));
    }
    let events = front.poll("SHOP", None, None).await.expect("polled");
    let expected: Vec<_> = (1..)
        .zip(texts)
        .map(|(id, text)| (id, "ORDER_NEW".to_owned(), text.to_owned()))
        .collect();
    assert_eq!(events, expected);
}

fn ids(events: &[front::Seen]) -> Vec<i64> {
    events.iter().map(|event| event.0).collect()
}

async fn poll_moves_the_position_and_never_back(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    for _ in 0..5 {
        front.add("A", "1").await.expect("added");
    }
    for (last_id, expected) in [
        (None, vec![1, 2, 3, 4, 5]),
        (Some(2), vec![3, 4, 5]),
        (None, vec![3, 4, 5]),
        (Some(1), vec![3, 4, 5]),
        (Some(5), vec![]),
    ] {
        let events = front.poll("SHOP", last_id, None).await.expect("polled");
        assert_eq!(ids(&events), expected, "{last_id:?}");
    }
}

async fn want_filters_and_what_it_leaves_out_is_passed(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    for kind in ["A", "B", "A", "B"] {
        front.add(kind, "1").await.expect("added");
    }
    let wanted = front
        .poll("SHOP", None, Some(&["B"]))
        .await
        .expect("polled");
    assert_eq!(ids(&wanted), [2, 4]);
    // Nothing of this type: the position moves to the end.
    let none = front
        .poll("SHOP", None, Some(&["C"]))
        .await
        .expect("polled");
    assert!(none.is_empty());
    assert!(
        front
            .poll("SHOP", None, None)
            .await
            .expect("polled")
            .is_empty()
    );
    assert!(
        front
            .poll("LIVE", None, Some(&[]))
            .await
            .expect("polled")
            .is_empty()
    );
}

async fn live_polls_from_the_oldest_and_keeps_nothing(mut front: impl Front) {
    for _ in 0..3 {
        front.add("A", "1").await.expect("added");
    }
    for (last_id, expected) in [
        (None, vec![1, 2, 3]),
        (Some(2), vec![3]),
        (None, vec![1, 2, 3]),
    ] {
        let events = front.poll("LIVE", last_id, None).await.expect("polled");
        assert_eq!(ids(&events), expected);
    }
}

async fn registration_is_idempotent_and_needed(mut front: impl Front) {
    assert_eq!(
        front.poll("SHOP", None, None).await,
        Err(Refusal::NotRegistered)
    );
    assert_eq!(
        front.receive("SHOP", None).await,
        Err(Refusal::NotRegistered)
    );
    front.register("SHOP").await.expect("registered");
    front.add("A", "1").await.expect("added");
    front.poll("SHOP", Some(1), None).await.expect("polled");
    front.register("SHOP").await.expect("registered again");
    assert!(
        front
            .poll("SHOP", None, None)
            .await
            .expect("polled")
            .is_empty()
    );
    assert_eq!(front.register("LIVE").await, Err(Refusal::LiveNotAllowed));
}

async fn pushed_groups_are_taken_and_stay_taken(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    front.add("A", "1").await.expect("added");
    front.receive("SHOP", None).await.expect("ready");
    assert_eq!(front.pushed().await, [1]);
    front.take().await;
    front.add("A", "2").await.expect("added");
    assert_eq!(front.pushed().await, [2]);
    front.take().await;
    front.until_taken("SHOP", 2).await;
    front.disconnect().await;
    front.add("A", "3").await.expect("added");
    front.receive("SHOP", None).await.expect("ready");
    assert_eq!(front.pushed().await, [3]);
}

async fn what_was_not_taken_comes_again(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    front.receive("SHOP", None).await.expect("ready");
    front.add("A", "1").await.expect("added");
    assert_eq!(front.pushed().await, [1]);
    front.disconnect().await;
    front.receive("SHOP", None).await.expect("ready");
    assert_eq!(front.pushed().await, [1]);
}

async fn filtered_push_passes_what_it_leaves_out(mut front: impl Front) {
    front.register("SHOP").await.expect("registered");
    front.receive("SHOP", Some(&["B"])).await.expect("ready");
    front.add("A", "1").await.expect("added");
    front.add("B", "1").await.expect("added");
    assert_eq!(front.pushed().await, [2]);
    front.take().await;
    front.until_taken("SHOP", 2).await;
}

async fn live_push_begins_now(mut front: impl Front) {
    front.add("A", "1").await.expect("added");
    front.receive("LIVE", None).await.expect("ready");
    front.add("A", "1").await.expect("added");
    assert_eq!(front.pushed().await, [2]);
}

async fn bad_fields_are_refused(mut front: impl Front) {
    for kind in ["", "a", "A1", "SEVENTEEN_LETTERS"] {
        assert_eq!(front.add(kind, "1").await, Err(Refusal::Invalid), "{kind}");
    }
    for component in ["", "A-B", "SEVENTEEN_LETTERS"] {
        assert_eq!(
            front.register(component).await,
            Err(Refusal::Invalid),
            "{component}"
        );
        assert_eq!(
            front.poll(component, None, None).await,
            Err(Refusal::Invalid)
        );
    }
    assert_eq!(
        front.poll("LIVE", None, Some(&["b"])).await,
        Err(Refusal::Invalid)
    );
}
