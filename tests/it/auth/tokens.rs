//! Who calls: static tokens, and what is open without one.

use futoin_eventstream::proto::GetStatusRequest;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::stage::{guarded, several, user};
use crate::{
    calls::{poll_of, refused, status},
    futoin::client,
    round_trip::{add, ready, register},
    server::{Clients, Server, http_get},
};

/// The first answer of each service.
async fn knock(clients: &mut Clients) -> Vec<Result<(), Status>> {
    let add = futoin_eventstream::proto::AddEventRequest {
        r#type: "ORDER_NEW".into(),
        data_json: "1".into(),
        request_id: String::new(),
    };
    vec![
        clients.generate.add_event(add).await.map(drop),
        clients.poll.poll_events(poll_of("LIVE")).await.map(drop),
        clients.push.ready_to_receive(ready("LIVE")).await.map(drop),
        clients
            .admin
            .get_status(GetStatusRequest {})
            .await
            .map(drop),
    ]
}

#[tokio::test]
async fn nobody_unknown_gets_in() {
    let server = guarded(&several()).start().await;
    for token in ["", "shopp", "Shop", "a.b.c", "evt_"] {
        let mut clients = match token {
            "" => Clients::over(server.channel().await),
            token => server.clients_of(token).await,
        };
        for outcome in knock(&mut clients).await {
            let status = refused(outcome, Code::Unauthenticated, "UNAUTHENTICATED");
            let how = status.metadata().get("www-authenticate");
            assert_eq!(how.expect("told how").as_bytes(), b"Bearer");
        }
    }
    // Nothing was stored, nothing else was done.
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "0");
    let mut clients = server.clients_of("all").await;
    let answers = knock(&mut clients).await;
    assert!(answers[..3].iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn probes_are_open_and_the_rest_is_not() {
    let server = guarded(&several()).start().await;
    let mut health = HealthClient::new(server.channel().await);
    let asked = health.check(HealthCheckRequest::default()).await;
    assert!(asked.is_ok(), "{asked:?}");
    let by = async |path: &str, token: Option<&str>| {
        let value = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = value
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        client::request(server.http_address(), "GET", path, &headers, b"").await
    };
    for path in ["/livez", "/readyz"] {
        assert_eq!(by(path, None).await.status, 200);
    }
    let nobody = by("/metrics", None).await;
    assert_eq!(nobody.status, 401);
    assert!(
        nobody
            .head
            .to_lowercase()
            .contains("www-authenticate: bearer")
    );
    assert_eq!(by("/metrics", Some("wrong")).await.status, 401);
    assert_eq!(by("/metrics", Some("shop")).await.status, 403);
    for token in ["eye", "ops"] {
        let seen = by("/metrics", Some(token)).await;
        assert_eq!(seen.status, 200);
        assert!(
            seen.text()
                .contains("eventstream_refusals_total{reason=\"unauthenticated\"} 2")
        );
    }

    let open = guarded(&several()).arg("--http-metrics-open").start().await;
    let seen = http_get(open.http_address(), "/metrics")
        .await
        .expect("seen");
    assert_eq!(seen.0, 200);
}

#[tokio::test]
async fn reflection_is_for_users() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let server = guarded(&several()).start().await;
    let ask = async |token: Option<&str>| {
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = tonic::Request::new(futures_util::stream::iter([question]));
        if let Some(token) = token {
            let header = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", header);
        }
        let mut client = ServerReflectionClient::new(server.channel().await);
        client.server_reflection_info(request).await.map(drop)
    };
    refused(ask(None).await, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(ask(Some("nobody")).await.is_ok());
}

#[tokio::test]
async fn user_has_several_tokens_also_in_files() {
    use futoin_eventstream::auth::hash_line;
    let users = format!(
        "[users.shop]\ntokens = ['{}', '{}']\ntoken_files = ['one/token']\ngenerate = ['*']\n\
         consume = ['*']\ntypes = ['*']\nobserve = true",
        hash_line("old"),
        hash_line("new"),
    );
    let builder = Server::builder();
    let dir = builder.dir().join("auth");
    std::fs::create_dir_all(dir.join("one")).expect("made");
    std::fs::write(dir.join("one/token"), "mounted\n").expect("written");
    std::fs::write(dir.join("users"), users).expect("written");
    let server = builder
        .arg(format!("--auth-file={}", dir.join("users").display()))
        .start()
        .await;
    for (component, token) in [("A", "old"), ("B", "new"), ("C", "mounted")] {
        let mut clients = server.clients_of(token).await;
        register(&mut clients, component).await;
        add(&mut clients, "X", "1").await;
        assert!(status(&mut clients).await.head_id > 0);
    }
    let idents = server.sqlite("SELECT group_concat(ident) FROM evt_consumers ORDER BY ident");
    assert_eq!(idents, "shop:A,shop:B,shop:C");
}

#[tokio::test]
async fn header_must_be_one_bearer_token() {
    let server = guarded(&user("shop", "observe = true")).start().await;
    let by = async |headers: &[(&str, &str)]| {
        let address = server.http_address();
        client::request(address, "GET", "/metrics", headers, b"")
            .await
            .status
    };
    let (good, basic) = ("Bearer shop", "Basic c2hvcDpzaG9w");
    assert_eq!(by(&[("authorization", good)]).await, 200);
    assert_eq!(by(&[("authorization", "bearer shop")]).await, 200);
    assert_eq!(by(&[("authorization", basic)]).await, 401);
    assert_eq!(by(&[("authorization", "shop")]).await, 401);
    assert_eq!(
        by(&[("authorization", good), ("authorization", good)]).await,
        401
    );
    let long = format!("Bearer {}", "x".repeat(9000));
    assert_eq!(by(&[("authorization", &long)]).await, 401);
}
