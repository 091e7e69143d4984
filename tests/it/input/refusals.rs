//! Fields outside the rules.

use futoin_eventstream::proto::{
    AckRequest, AddEventRequest, AddEventsRequest, ListConsumersRequest, NewEvent,
    PollEventsRequest, ReadyToReceiveRequest, RegisterConsumerRequest, SeekConsumerRequest,
    SkipFrontierRequest, StartAt, UnregisterConsumerRequest, start_at::At,
};
use prost_types::{Duration, Timestamp};
use tonic::Code;

use crate::{
    calls::{after, at, events, invalid, poll_of, refused, status, want},
    round_trip::{ready, register},
    server::{Clients, Server},
};

const TYPE_RULE: &str = "^[A-Z_]{1,16}$";
const COMPONENT_RULE: &str = "^[A-Za-z0-9_]{1,16}$";
const TOO_HIGH: i64 = 1_000_000_000_000_000_000;
const NEGATIVE: Option<Duration> = Some(Duration {
    seconds: -1,
    nanos: 0,
});

/// Makes a good request a bad one.
type Spoil = fn(&mut ReadyToReceiveRequest);

/// Not one of these may be stored.
async fn nothing_is_stored(server: &Server, clients: &mut Clients) {
    assert_eq!(status(clients).await.head_id, 0);
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "0");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_requests"), "0");
}

#[tokio::test]
async fn event_types_outside_the_rule() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for bad in [
        "",
        "ABCDEFGHIJKLMNOPQ",
        "order_new",
        "A1",
        "A B",
        "Ä",
        "A\n",
    ] {
        let request = AddEventRequest {
            r#type: bad.to_owned(),
            data_json: "1".to_owned(),
            ..Default::default()
        };
        invalid(clients.generate.add_event(request).await, "type", TYPE_RULE);
        let mut batch = events("GOOD", 2);
        batch[1].r#type = bad.to_owned();
        let request = AddEventsRequest {
            events: batch,
            ..Default::default()
        };
        let refusal = clients.generate.add_events(request).await;
        invalid(refusal, "events[1].type", TYPE_RULE);
    }
    nothing_is_stored(&server, &mut clients).await;
}

#[tokio::test]
async fn data_that_is_no_json() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let open = "[".repeat(4000);
    for bad in [
        "",
        "{",
        "nul",
        "1 2",
        "[1,]",
        "'a'",
        "\u{feff}1",
        "\"\n\"",
        &open,
    ] {
        let request = AddEventRequest {
            r#type: "A".to_owned(),
            data_json: bad.to_owned(),
            ..Default::default()
        };
        let refusal = clients.generate.add_event(request).await;
        invalid(refusal, "data_json", "must be JSON");
        let broken = NewEvent {
            r#type: "A".to_owned(),
            data_json: bad.to_owned(),
        };
        let request = AddEventsRequest {
            events: vec![broken],
            ..Default::default()
        };
        let refusal = clients.generate.add_events(request).await;
        invalid(refusal, "events[0].data_json", "must be JSON");
    }
    nothing_is_stored(&server, &mut clients).await;
}

#[tokio::test]
async fn batches_and_request_ids_outside_the_rules() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for count in [0, 1001] {
        let request = AddEventsRequest {
            events: events("A", count),
            ..Default::default()
        };
        let refusal = clients.generate.add_events(request).await;
        invalid(refusal, "events", "1 to 1000");
    }
    for bad in ["x", "0123", "123e4567-e89b-12d3-a456-42661417400g"] {
        let request = AddEventRequest {
            r#type: "A".to_owned(),
            data_json: "1".to_owned(),
            request_id: bad.to_owned(),
        };
        let refusal = clients.generate.add_event(request).await;
        invalid(refusal, "request_id", "UUID");
        let request = AddEventsRequest {
            events: events("A", 2),
            request_id: bad.to_owned(),
        };
        let refusal = clients.generate.add_events(request).await;
        invalid(refusal, "request_id", "UUID");
    }
    nothing_is_stored(&server, &mut clients).await;
}

#[tokio::test]
async fn components_outside_the_rule_in_every_call() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for bad in ["", "seventeen_letters", "A-B", "A:B", "Ä"] {
        let component = bad.to_owned();
        let request = RegisterConsumerRequest {
            component: component.clone(),
            start: None,
        };
        let refusal = clients.poll.register_consumer(request).await;
        invalid(refusal, "component", COMPONENT_RULE);
        let refusal = clients.poll.poll_events(poll_of(bad)).await;
        invalid(refusal, "component", COMPONENT_RULE);
        let refusal = clients.push.ready_to_receive(ready(bad)).await;
        invalid(refusal.map(|_| ()), "component", COMPONENT_RULE);
        let request = AckRequest {
            component: component.clone(),
            ..Default::default()
        };
        let refusal = clients.push.ack(request).await;
        invalid(refusal, "component", COMPONENT_RULE);
        let request = SeekConsumerRequest {
            component: component.clone(),
            user: String::new(),
            start: after(0),
        };
        let refusal = clients.admin.seek_consumer(request).await;
        invalid(refusal, "component", COMPONENT_RULE);
        let request = UnregisterConsumerRequest {
            component,
            user: String::new(),
        };
        let refusal = clients.admin.unregister_consumer(request).await;
        invalid(refusal, "component", COMPONENT_RULE);
    }
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_consumers"), "0");
}

#[tokio::test]
async fn live_is_neither_registered_nor_acknowledged() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let request = RegisterConsumerRequest {
        component: "LIVE".to_owned(),
        start: None,
    };
    let refusal = clients.poll.register_consumer(request).await;
    refused(refusal, Code::InvalidArgument, "LIVE_NOT_ALLOWED");
    let request = AckRequest {
        component: "LIVE".to_owned(),
        ..Default::default()
    };
    let refusal = clients.push.ack(request).await;
    invalid(refusal, "component", "LIVE has nothing to acknowledge");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_consumers"), "0");
}

#[tokio::test]
async fn ids_outside_the_range_in_every_call() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    for bad in [-1, TOO_HIGH, i64::MIN, i64::MAX] {
        let rule = "must be 0 to 999999999999999999";
        for component in ["SHOP", "LIVE"] {
            let request = PollEventsRequest {
                last_id: Some(bad),
                ..poll_of(component)
            };
            let refusal = clients.poll.poll_events(request).await;
            invalid(refusal, "last_id", rule);
            let request = ReadyToReceiveRequest {
                start: after(bad),
                ..ready(component)
            };
            let refusal = clients.push.ready_to_receive(request).await;
            invalid(refusal.map(|_| ()), "start.after_id", rule);
        }
        let request = AckRequest {
            component: "SHOP".to_owned(),
            last_id: bad,
            epoch: None,
        };
        let refusal = clients.push.ack(request).await;
        invalid(refusal, "last_id", "must be 1 to 999999999999999999");
        let request = SeekConsumerRequest {
            component: "SHOP".to_owned(),
            user: String::new(),
            start: after(bad),
        };
        let refusal = clients.admin.seek_consumer(request).await;
        invalid(refusal, "start.after_id", rule);
        let request = RegisterConsumerRequest {
            component: "OTHER".to_owned(),
            start: after(bad),
        };
        let refusal = clients.poll.register_consumer(request).await;
        invalid(refusal, "start.after_id", rule);
    }
    let position = "SELECT group_concat(ident || last_evt_id) FROM evt_consumers";
    assert_eq!(server.sqlite(position), "local:SHOP0");
}

#[tokio::test]
async fn filters_outside_the_rules() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let many = vec!["A"; 257];
    let cases: [(&[&str], &str, &str); 3] = [
        (&["A", ""], "want.types[1]", TYPE_RULE),
        (&["a"], "want.types[0]", TYPE_RULE),
        (&many, "want.types", "at most 256"),
    ];
    for (types, field, rule) in cases {
        let request = PollEventsRequest {
            want: want(types),
            ..poll_of("SHOP")
        };
        let refusal = clients.poll.poll_events(request).await;
        invalid(refusal, field, rule);
        let request = ReadyToReceiveRequest {
            want: want(types),
            ..ready("SHOP")
        };
        let refusal = clients.push.ready_to_receive(request).await;
        invalid(refusal.map(|_| ()), field, rule);
    }
}

#[tokio::test]
async fn starts_that_are_no_place() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let time = |seconds, nanos| at(At::Time(Timestamp { seconds, nanos }));
    let cases = [
        (Some(StartAt { at: None }), "start", "one of"),
        (at(At::Now(false)), "start.now", "must be true"),
        (time(0, -1), "start.time", "0 to 999999999 nanos"),
        (time(0, 1_000_000_000), "start.time", "0 to 999999999 nanos"),
        (time(253_402_300_800, 0), "start.time", "years 1 to 9999"),
    ];
    for (start, field, rule) in cases {
        let request = RegisterConsumerRequest {
            component: "OTHER".to_owned(),
            start,
        };
        let refusal = clients.poll.register_consumer(request).await;
        invalid(refusal, field, rule);
        let request = ReadyToReceiveRequest {
            start,
            ..ready("SHOP")
        };
        let refusal = clients.push.ready_to_receive(request).await;
        invalid(refusal.map(|_| ()), field, rule);
        let request = SeekConsumerRequest {
            component: "SHOP".to_owned(),
            user: String::new(),
            start,
        };
        let refusal = clients.admin.seek_consumer(request).await;
        invalid(refusal, field, rule);
    }
    let request = SeekConsumerRequest {
        component: "SHOP".to_owned(),
        ..Default::default()
    };
    let refusal = clients.admin.seek_consumer(request).await;
    invalid(refusal, "start", "must be set");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_consumers"), "1");
}

#[tokio::test]
async fn subscriptions_outside_the_rules_leave_an_open_one_alone() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = crate::round_trip::subscribe(&mut clients, ready("SHOP")).await;
    let cases: [(Spoil, &str); 9] = [
        (|it| it.conflict_policy = 77, "conflict_policy"),
        (|it| it.client_label = "x".repeat(129), "client_label"),
        (|it| it.client_label = "a\nb".to_owned(), "client_label"),
        (|it| it.max_in_flight_events = -1, "max_in_flight_events"),
        (|it| it.max_in_flight_bytes = -1, "max_in_flight_bytes"),
        (|it| it.max_group_events = -1, "max_group_events"),
        (|it| it.max_group_bytes = -1, "max_group_bytes"),
        (|it| it.max_linger = NEGATIVE, "max_linger"),
        (|it| it.heartbeat_interval = NEGATIVE, "heartbeat_interval"),
    ];
    for (spoil, field) in cases {
        let mut request = ready("SHOP");
        spoil(&mut request);
        let refusal = clients.push.ready_to_receive(request).await;
        invalid(refusal.map(|_| ()), field, "must");
    }
    let id = crate::round_trip::add(&mut clients, "A", "1").await;
    assert_eq!(crate::round_trip::next_group(&mut stream).await.last_id, id);
}

#[tokio::test]
async fn polls_and_lists_with_negative_bounds() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = PollEventsRequest {
        max_events: -1,
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    invalid(refusal, "max_events", "must not be negative");
    let request = PollEventsRequest {
        max_bytes: -1,
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    invalid(refusal, "max_bytes", "must not be negative");
    let request = PollEventsRequest {
        max_wait: NEGATIVE,
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    invalid(refusal, "max_wait", "not negative");
    let request = ListConsumersRequest {
        page_size: -1,
        page_token: String::new(),
    };
    let refusal = clients.admin.list_consumers(request).await;
    invalid(refusal, "page_size", "must not be negative");
    for page_token in ["SHOP", "local:shop-", "local:\0", &"x".repeat(1 << 20)] {
        let request = ListConsumersRequest {
            page_size: 0,
            page_token: page_token.to_owned(),
        };
        let refusal = clients.admin.list_consumers(request).await;
        invalid(refusal, "page_token", "next_page_token");
    }
}

#[tokio::test]
async fn unknown_consumer_everywhere() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let (code, reason) = (Code::NotFound, "NOT_REGISTERED");
    refused(
        clients.poll.poll_events(poll_of("NOBODY")).await,
        code,
        reason,
    );
    let opened = clients.push.ready_to_receive(ready("NOBODY")).await;
    refused(opened.map(|_| ()), code, reason);
    let last_id = crate::round_trip::add(&mut clients, "A", "1").await;
    for epoch in [None, Some(1)] {
        let request = AckRequest {
            component: "NOBODY".to_owned(),
            last_id,
            epoch,
        };
        refused(clients.push.ack(request).await, code, reason);
    }
    let sought = crate::calls::seek(&mut clients, "NOBODY", 0).await;
    refused(sought, code, reason);
    let request = UnregisterConsumerRequest {
        component: "NOBODY".to_owned(),
        user: String::new(),
    };
    let gone = clients.admin.unregister_consumer(request).await;
    refused(gone, code, reason);
}

#[tokio::test]
async fn users_outside_the_rule() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for bad in ["a:b".to_owned(), "u".repeat(48)] {
        let request = UnregisterConsumerRequest {
            component: "SHOP".to_owned(),
            user: bad.clone(),
        };
        let refusal = clients.admin.unregister_consumer(request).await;
        invalid(refusal, "user", "1 to 47 characters");
        let request = SeekConsumerRequest {
            component: "SHOP".to_owned(),
            user: bad,
            start: after(0),
        };
        let refusal = clients.admin.seek_consumer(request).await;
        invalid(refusal, "user", "1 to 47 characters");
    }
}

#[tokio::test]
async fn skips_outside_the_rules() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let good = SkipFrontierRequest {
        to: 1,
        accept_loss: true,
        reason: "why not".to_owned(),
    };
    for to in [0, -1, i64::MIN, TOO_HIGH, i64::MAX] {
        let request = SkipFrontierRequest { to, ..good.clone() };
        invalid(
            clients.admin.skip_frontier(request).await,
            "to",
            "must be 1 to",
        );
    }
    let request = SkipFrontierRequest {
        accept_loss: false,
        ..good.clone()
    };
    invalid(
        clients.admin.skip_frontier(request).await,
        "accept_loss",
        "must be true",
    );
    for bad in ["x".repeat(501), "a\nb".to_owned()] {
        let request = SkipFrontierRequest {
            reason: bad,
            ..good.clone()
        };
        let refusal = clients.admin.skip_frontier(request).await;
        invalid(refusal, "reason", "at most 500 characters");
    }
    let refusal = clients.admin.skip_frontier(good).await;
    invalid(refusal, "to", "nothing holds the frontier back");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_skips"), "0");
    nothing_is_stored(&server, &mut clients).await;
}
