//! Skips of the frontier, and the naming of what holds it.

use tonic::Code;

use super::{
    Cluster,
    cluster::{insert, pid, run},
    stage::Stage,
};
use crate::{
    calls::{
        ack, end_of, ids, invalid, metric, poll, poll_of, problem, skip, status, until_watched,
    },
    round_trip::{next_group, ready, register, subscribe},
    server::eventually,
};

const SOON: &str = "--stream-sentinel-interval=100ms";

#[tokio::test]
async fn skip_delivers_what_is_visible_in_order_and_gives_up_the_rest() {
    let mut stage = Stage::open().await;
    let (mut hung, mut other) = (stage.transaction().await, stage.database.session().await);
    let first = insert(&mut hung).await;
    let second = insert(&mut other).await;
    insert(&mut hung).await;
    let fourth = insert(&mut other).await;
    let fifth = insert(&mut hung).await;
    stage.expect_frontier(first - 1).await;
    let skipped = skip(&mut stage.clients, fifth).await.expect("skipped");
    assert_eq!(skipped.frontier_before_id, first - 1);
    assert_eq!(skipped.frontier_after_id, fifth);
    let [blocker] = &skipped.blockers[..] else {
        panic!("one transaction: {skipped:?}");
    };
    assert_eq!(blocker.session, pid(&mut hung).await.to_string());
    stage.expect(&[second, fourth]).await;
    ack(&mut stage.clients, "SHOP", fifth, None)
        .await
        .expect("a position may stand at the frontier");
    // What comes later waits for nobody, unless the transaction may own that.
    let sixth = insert(&mut other).await;
    stage.expect(&[sixth]).await;
    let seventh = insert(&mut hung).await;
    insert(&mut other).await;
    stage.expect_frontier(seventh - 1).await;
    for (name, value) in [
        ("eventstream_frontier_skips_total", 1.0),
        ("eventstream_skipped_ids_total", 3.0),
    ] {
        let found = metric(&stage.server, name).await;
        assert!((found - value).abs() < 0.1, "{name} {found}");
    }
    let log = stage.server.log().join("\n");
    assert!(log.contains("events with these ids are lost"), "{log}");
    assert!(
        log.contains(&format!("\"given_up\":\"{first}, {}, {fifth}\"", first + 2)),
        "{log}"
    );
    run(&mut hung, "COMMIT").await;
    stage.expect(&[seventh, seventh + 1]).await;
}

#[tokio::test]
async fn skip_is_obeyed_by_every_replica_and_after_a_crash() {
    let database = Cluster::shared().database().await;
    let start = || database.server().arg(SOON).start();
    let (one, two) = tokio::join!(start(), start());
    let (mut first, mut second) = (one.clients().await, two.clients().await);
    register(&mut first, "SHOP").await;
    let (_, mut stream) = subscribe(&mut second, ready("SHOP")).await;
    let mut hung = database.session().await;
    run(&mut hung, "BEGIN").await;
    let given_up = insert(&mut hung).await;
    let kept = insert(&mut database.session().await).await;
    let skipped = skip(&mut first, kept).await.expect("skipped");
    assert_eq!(skipped.frontier_after_id, kept);
    assert_eq!(ids(&next_group(&mut stream).await.events), [kept]);
    ack(&mut second, "SHOP", kept, None)
        .await
        .expect("acknowledged");

    // Whether the frontier was saved before the crash makes no difference.
    let mut session = database.session().await;
    for saved in [0, kept] {
        run(
            &mut session,
            &format!("UPDATE evt_stream SET frontier = {saved}"),
        )
        .await;
        let server = start().await;
        let mut clients = server.clients().await;
        assert_eq!(status(&mut clients).await.frontier_id, kept);
        server.signal("KILL");
    }
    let one = one.crash_and_restart().await;
    let mut first = one.clients().await;
    assert_eq!(status(&mut first).await.frontier_id, kept);
    until_watched(&one).await;
    run(&mut hung, "COMMIT").await;
    for clients in [&mut first, &mut second] {
        let problem = problem(clients).await;
        assert!(problem.contains("given up by a skip"), "{problem}");
        assert!(
            problem.contains(&format!("frontier: {given_up} ")),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn skip_is_obeyed_where_nobody_listens() {
    let database = Cluster::shared().database().await;
    let (one, two) = tokio::join!(database.server().start(), database.server().start());
    let (mut first, mut second) = (one.clients().await, two.clients().await);
    register(&mut first, "SHOP").await;
    let mut hung = database.session().await;
    run(&mut hung, "BEGIN").await;
    insert(&mut hung).await;
    let kept = insert(&mut database.session().await).await;
    let polled = poll(&mut second, poll_of("SHOP")).await;
    assert!(polled.events.is_empty(), "{polled:?}");
    skip(&mut first, kept).await.expect("skipped");
    for clients in [&mut first, &mut second] {
        let polled = eventually(async || {
            let polled = poll(clients, poll_of("SHOP")).await;
            if polled.events.is_empty() {
                Err("waits")
            } else {
                Ok(polled)
            }
        })
        .await;
        assert_eq!(ids(&polled.events), [kept]);
    }
}

#[tokio::test]
async fn full_buffer_behind_a_gap_is_passed_by_a_skip() {
    const MANY: i64 = 25_000;
    let stage = Stage::open().await;
    let mut clients = stage.clients.clone();
    let mut hung = stage.transaction().await;
    let first = insert(&mut hung).await;
    let mut other = stage.database.session().await;
    run(
        &mut other,
        &format!(
            "INSERT INTO evt_queue (type, data, ts)
             SELECT 'T', '1', now() FROM generate_series(1, {MANY})"
        ),
    )
    .await;
    let last = insert(&mut hung).await;
    let skipped = skip(&mut clients, last).await.expect("skipped");
    assert_eq!(skipped.frontier_before_id, first - 1);
    assert_eq!(skipped.frontier_after_id, last);
    let given_up = metric(&stage.server, "eventstream_skipped_ids_total").await;
    assert!((given_up - 2.0).abs() < 0.1, "{given_up}");
}

#[tokio::test]
async fn skip_beyond_what_waits_is_refused() {
    let mut stage = Stage::open().await;
    let mut hung = stage.transaction().await;
    let first = insert(&mut hung).await;
    let second = insert(&mut stage.database.session().await).await;
    // Not given out, though it is visible: its own ids would be given up.
    let chosen = second + 10;
    super::cluster::insert_at(&mut stage.database.session().await, chosen).await;
    let clients = &mut stage.clients;
    let highest = format!("at most the highest id {second}");
    for (to, rule) in [
        (first - 1, "must be 1 to"),
        (second + 1, &*highest),
        (chosen, &*highest),
    ] {
        invalid(skip(clients, to).await, "to", rule);
    }
    run(&mut hung, "ROLLBACK").await;
    stage.expect(&[second]).await;
    invalid(
        skip(&mut stage.clients, second).await,
        "to",
        "nothing holds the frontier back",
    );
    let mut session = stage.database.session().await;
    let skips: i64 = sqlx::query_scalar("SELECT count(*) FROM evt_skips")
        .fetch_one(&mut session)
        .await
        .expect("counted");
    assert_eq!(skips, 0);
}

#[tokio::test]
async fn skip_of_before_a_restart_of_the_ids_says_nothing_about_later_ones() {
    let mut stage = Stage::open().await;
    let mut hung = stage.transaction().await;
    insert(&mut hung).await;
    let mut session = stage.database.session().await;
    let second = insert(&mut session).await;
    skip(&mut stage.clients, second).await.expect("skipped");
    run(&mut hung, "ROLLBACK").await;
    run(&mut session, "TRUNCATE evt_queue RESTART IDENTITY").await;
    let end = end_of(&mut stage.stream).await;
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    eventually(async || {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM evt_skips")
            .fetch_one(&mut session)
            .await
            .map_err(|error| error.to_string())?;
        if count == 0 {
            Ok(())
        } else {
            Err("kept".to_owned())
        }
    })
    .await;
    let mut again = stage.transaction().await;
    let first = insert(&mut again).await;
    assert_eq!(first, 1);
    insert(&mut session).await;
    let clients = stage.clients.clone();
    let status = eventually(async || {
        let request = futoin_eventstream::proto::GetStatusRequest {};
        clients.clone().admin.get_status(request).await
    })
    .await
    .into_inner();
    assert_eq!((status.frontier_id, status.head_id), (0, 2));
}

#[tokio::test]
async fn transaction_that_holds_the_frontier_is_named_in_the_log() {
    let mut stage = Stage::open_with(&["--stream-gap-warn-after=100ms"]).await;
    stage.database.run("CREATE TABLE other (n int)").await;
    let mut unrelated = stage.transaction().await;
    run(&mut unrelated, "INSERT INTO other VALUES (1)").await;
    let mut related = stage.transaction().await;
    let held = insert(&mut related).await;
    let behind = insert(&mut stage.database.session().await).await;
    let said = async |what: &str| {
        eventually(async || {
            let log = stage.server.log();
            let line = log.iter().find(|line| line.contains(what)).cloned();
            line.ok_or("not said")
        })
        .await
    };
    let line = said("waits for an open transaction").await;
    let session = pid(&mut related).await.to_string();
    for part in [
        format!("\"id\":\"{held}\""),
        format!("\"session\":\"{session}\""),
        "\"prepared\":false".to_owned(),
        "\"waited\":".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    let unrelated = format!("\"session\":\"{}\"", pid(&mut unrelated).await);
    let log = stage.server.log().join("\n");
    assert!(!log.contains(&unrelated), "{log}");
    let status = status(&mut stage.clients).await;
    assert_eq!(status.held_id, held);
    assert!(status.held_for.is_some(), "{status:?}");
    assert!(metric(&stage.server, "eventstream_frontier_waits_seconds").await > 0.0);
    run(&mut related, "COMMIT").await;
    said("the frontier goes on").await;
    stage.expect(&[held, behind]).await;
    let status = stage.status().await;
    assert_eq!((status.held_id, status.held_for), (0, None));
}

#[tokio::test]
async fn operators_skip_from_the_command_line() {
    let mut stage = Stage::open().await;
    let mut hung = stage.transaction().await;
    let first = insert(&mut hung).await;
    let second = insert(&mut stage.database.session().await).await;
    let session = pid(&mut hung).await.to_string();
    let to = second.to_string();
    let cli = async |args: &[&str]| {
        let output = stage.server.cli(args).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let shown = cli(&["status"]).await;
    assert!(shown.contains(&format!("waits for ID {first}")), "{shown}");
    assert!(shown.contains(&session), "{shown}");
    let skip = ["frontier", "skip", "--to", &to, "--i-accept-loss"];
    let reason = ["--reason", "OPS-7", "--json"];
    let printed = cli(&[&skip[..], &reason[..]].concat()).await;
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(printed["frontier_before_id"], (first - 1).to_string());
    assert_eq!(printed["frontier_after_id"], to);
    assert_eq!(printed["blockers"][0]["session"], session);
    stage.expect(&[second]).await;
    let mut observer = stage.database.session().await;
    let kept: (String, String) = sqlx::query_as("SELECT who, reason FROM evt_skips")
        .fetch_one(&mut observer)
        .await
        .expect("kept");
    assert_eq!(kept, ("local".to_owned(), "OPS-7".to_owned()));
}
