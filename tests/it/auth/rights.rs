//! What users may do, over gRPC.

use futoin_eventstream::proto::{
    AddEventRequest, AddEventsRequest, ImportEventsRequest, ListConsumersRequest, NewEvent,
    PollEventsRequest, ReadyToReceiveRequest, SeekConsumerRequest, UnregisterConsumerRequest,
};
use tonic::{Code, Status};

use super::stage::{guarded, several};
use crate::{
    calls::{ack, add_many, after, ids, metadata, poll, poll_of, refused, skip, want},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, Server},
};

/// Refused for want of this right.
fn forbidden<T: std::fmt::Debug>(outcome: Result<T, Status>, right: &str) {
    let status = refused(outcome, Code::PermissionDenied, "NOT_ALLOWED");
    assert_eq!(
        metadata(&status, "right").as_deref(),
        Some(right),
        "{status:?}"
    );
}

async fn stage() -> (Server, Clients, Clients) {
    let server = guarded(&several()).start().await;
    let (shop, all) = (
        server.clients_of("shop").await,
        server.clients_of("all").await,
    );
    (server, shop, all)
}

fn event(kind: &str) -> NewEvent {
    NewEvent {
        r#type: kind.to_owned(),
        data_json: "1".to_owned(),
    }
}

#[tokio::test]
async fn types_are_generated_by_who_may() {
    let (server, mut shop, _) = stage().await;
    assert_eq!(add(&mut shop, "ORDER_NEW", "1").await, 1);
    let other = AddEventRequest {
        r#type: "BILL".into(),
        data_json: "1".into(),
        request_id: String::new(),
    };
    forbidden(shop.generate.add_event(other).await, "generate");
    // One that is not allowed takes the batch with it.
    let batch = AddEventsRequest {
        events: vec![event("ORDER_NEW"), event("BILL")],
        request_id: String::new(),
    };
    forbidden(shop.generate.add_events(batch).await, "generate");
    let import = ["ORDER_NEW", "BILL"].map(|kind| ImportEventsRequest {
        events: vec![event(kind)],
        request_id: String::new(),
    });
    let import = futures_util::stream::iter(import);
    let status = shop.generate.import_events(import).await;
    let status = refused(status, Code::PermissionDenied, "NOT_ALLOWED");
    assert_eq!(metadata(&status, "event_count").as_deref(), Some("1"));
    let stored = server.sqlite("SELECT group_concat(type) FROM evt_queue");
    assert_eq!(stored, "ORDER_NEW,ORDER_NEW");
}

#[tokio::test]
async fn components_are_consumed_by_who_may() {
    let (_server, mut shop, _) = stage().await;
    register(&mut shop, "SHOP_WEB").await;
    let register = futoin_eventstream::proto::RegisterConsumerRequest {
        component: "WEB".into(),
        start: None,
    };
    forbidden(shop.poll.register_consumer(register).await, "consume");
    forbidden(shop.poll.poll_events(poll_of("WEB")).await, "consume");
    forbidden(shop.push.ready_to_receive(ready("WEB")).await, "consume");
    forbidden(ack(&mut shop, "WEB", 1, None).await, "consume");
    assert!(shop.poll.poll_events(poll_of("LIVE")).await.is_ok());
}

#[tokio::test]
async fn type_that_may_not_be_received_cannot_be_asked_for() {
    let (_server, mut shop, _) = stage().await;
    register(&mut shop, "SHOP_WEB").await;
    let asked = PollEventsRequest {
        want: want(&["ORDER_NEW", "BILL"]),
        ..poll_of("SHOP_WEB")
    };
    forbidden(shop.poll.poll_events(asked).await, "types");
    let asked = ReadyToReceiveRequest {
        want: want(&["BILL"]),
        ..ready("SHOP_WEB")
    };
    forbidden(shop.push.ready_to_receive(asked).await, "types");
}

#[tokio::test]
async fn position_passes_what_may_not_be_received() {
    let (server, mut shop, mut all) = stage().await;
    let mut billing = server.clients_of("billing").await;
    register(&mut shop, "SHOP_WEB").await;
    register(&mut billing, "BILL").await;
    for kind in ["ORDER_NEW", "BILL", "ORDER_PAID", "SECRET"] {
        add(&mut all, kind, "1").await;
    }
    // By pattern and by name.
    let polled = poll(&mut shop, poll_of("SHOP_WEB")).await;
    assert_eq!((ids(&polled.events), polled.last_id), (vec![1, 3], 4));
    let polled = poll(&mut billing, poll_of("BILL")).await;
    assert_eq!((ids(&polled.events), polled.last_id), (vec![2, 3], 4));
    add_many(&mut all, "SECRET", 10).await;
    let next = PollEventsRequest {
        last_id: Some(4),
        ..poll_of("SHOP_WEB")
    };
    let polled = poll(&mut shop, next).await;
    assert_eq!((polled.events.len(), polled.last_id), (0, 14));
    let positions =
        server.sqlite("SELECT last_evt_id FROM evt_consumers WHERE ident = 'shop:SHOP_WEB'");
    assert_eq!(positions, "14");
}

/// Small pages of a caller who may not read most of what is in them.
#[tokio::test]
async fn small_pages_come_through_many_hidden_events() {
    let (_server, mut shop, mut all) = stage().await;
    register(&mut shop, "SHOP_WEB").await;
    let hidden = add_many(&mut all, "SECRET", 900).await;
    let seen = add(&mut all, "ORDER_NEW", "1").await;
    assert_eq!(hidden.len(), 900);
    let one = PollEventsRequest {
        max_events: 1,
        ..poll_of("SHOP_WEB")
    };
    assert_eq!(ids(&poll(&mut shop, one).await.events), [seen]);
    let one = ReadyToReceiveRequest {
        max_group_events: 1,
        ..ready("SHOP_WEB")
    };
    let (_, mut stream) = subscribe(&mut shop, one).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [seen]);
}

#[tokio::test]
async fn consumers_belong_to_their_user_and_administrators() {
    let (server, mut shop, mut all) = stage().await;
    let (mut ops, mut eye) = (
        server.clients_of("ops").await,
        server.clients_of("eye").await,
    );
    register(&mut shop, "SHOP_WEB").await;
    register(&mut all, "SHOP_WEB").await;
    let seek = |user: &str| SeekConsumerRequest {
        component: "SHOP_WEB".into(),
        user: user.into(),
        start: after(0),
    };
    let drop_it = |user: &str| UnregisterConsumerRequest {
        component: "SHOP_WEB".into(),
        user: user.into(),
    };
    assert!(shop.admin.seek_consumer(seek("")).await.is_ok());
    assert!(shop.admin.seek_consumer(seek("shop")).await.is_ok());
    forbidden(shop.admin.seek_consumer(seek("all")).await, "administer");
    forbidden(eye.admin.seek_consumer(seek("all")).await, "administer");
    assert!(ops.admin.seek_consumer(seek("all")).await.is_ok());
    forbidden(
        shop.admin.unregister_consumer(drop_it("all")).await,
        "administer",
    );
    assert!(ops.admin.unregister_consumer(drop_it("all")).await.is_ok());

    let mut lists = Vec::new();
    for clients in [&mut shop, &mut all, &mut eye, &mut ops] {
        let listed = clients
            .admin
            .list_consumers(ListConsumersRequest::default())
            .await;
        lists.push(listed.expect("a list").into_inner().consumers.len());
    }
    assert_eq!(lists, [1, 0, 1, 1]);
    assert!(shop.admin.unregister_consumer(drop_it("")).await.is_ok());
}

#[tokio::test]
async fn state_is_seen_and_changed_by_who_may() {
    use futoin_eventstream::proto::GetStatusRequest;
    let (server, mut shop, mut all) = stage().await;
    let (mut ops, mut eye) = (
        server.clients_of("ops").await,
        server.clients_of("eye").await,
    );
    add(&mut all, "A", "1").await;
    forbidden(shop.admin.get_status(GetStatusRequest {}).await, "observe");
    for clients in [&mut eye, &mut ops] {
        let status = clients.admin.get_status(GetStatusRequest {}).await;
        assert_eq!(status.expect("seen").into_inner().head_id, 1);
    }
    for clients in [&mut shop, &mut eye, &mut all] {
        forbidden(skip(clients, 1).await, "administer");
    }
    // There is nothing to skip on SQLite; it was asked.
    let skipped = skip(&mut ops, 1).await.map_err(|status| status.code());
    assert_ne!(skipped.map(drop), Err(Code::PermissionDenied));
    // Who governs does not read by that.
    forbidden(ops.poll.poll_events(poll_of("LIVE")).await, "consume");
}
