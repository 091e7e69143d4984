//! Users by the certificates of their connections.

use rcgen::{DnType, SanType, string::Ia5String};
use tonic::Code;

use super::stage::{guarded, user};
use crate::{
    calls::{poll_of, refused},
    server::{Builder, Clients, Server},
    tls::{
        authority::{Authority, Pair, client_params, server_params, write},
        channel,
    },
};

const RIGHTS: &str = "consume = ['*']\ntypes = ['*']";

/// A service that may be shown certificates of `ca`.
fn showing(ca: &Authority, users: &str) -> Builder {
    let builder = guarded(users);
    let files = ca.issue(&server_params()).write(builder.dir(), "server");
    let clients = write(builder.dir(), "clients.crt", &ca.pem());
    builder
        .arg(format!("--grpc-tls-cert={}", files.cert.display()))
        .arg(format!("--grpc-tls-key={}", files.key.display()))
        .arg(format!("--grpc-tls-client-ca={}", clients.display()))
        .arg("--grpc-tls-client-auth=optional")
}

/// Who the service takes it for; why not, if for nobody.
async fn taken_for(
    server: &Server,
    ca: &Authority,
    identity: Option<&Pair>,
    token: Option<&str>,
) -> Result<String, String> {
    let channel = channel(server, ca, identity).await.expect("connected");
    let mut clients = match token {
        Some(token) => Clients::with_token(channel, token),
        None => Clients::over(channel),
    };
    let request = futoin_eventstream::proto::RegisterConsumerRequest {
        component: "WHO".into(),
        start: None,
    };
    match clients.poll.register_consumer(request).await {
        Ok(registered) => Ok(registered.into_inner().consumer.expect("one").user),
        Err(status) => {
            let status = refused(
                Err::<(), _>(status),
                Code::Unauthenticated,
                "UNAUTHENTICATED",
            );
            Err(status.message().to_owned())
        }
    }
}

fn by(name: &str, certificates: &str) -> String {
    format!("[users.{name}]\ncertificates = [{certificates}]\n{RIGHTS}\n")
}

#[tokio::test]
async fn user_is_known_by_a_name_in_the_certificate() {
    let ca = Authority::new();
    let users = by("common", "'cn:by-name'")
        + &by("whole", "'subject:CN=whole,O=Example'")
        + &by(
            "spiffe",
            "'uri:spiffe://example.org/shop', 'email:shop@example.org'",
        )
        + &user("token", RIGHTS);
    let server = showing(&ca, &users).start().await;
    let ia5 = |text: &str| Ia5String::try_from(text).expect("ASCII");

    let common = ca.issue(&client_params("by-name"));
    let mut whole = client_params("whole");
    whole.distinguished_name = rcgen::DistinguishedName::new();
    whole
        .distinguished_name
        .push(DnType::OrganizationName, "Example");
    whole.distinguished_name.push(DnType::CommonName, "whole");
    let whole = ca.issue(&whole);
    let mut spiffe = client_params("nobody's");
    spiffe.subject_alt_names = vec![SanType::URI(ia5("spiffe://example.org/shop"))];
    let mut ambiguous = spiffe.clone();
    let spiffe = ca.issue(&spiffe);
    ambiguous
        .distinguished_name
        .push(DnType::CommonName, "by-name");
    let ambiguous = ca.issue(&ambiguous);
    let stranger = ca.issue(&client_params("stranger"));

    for (identity, taken) in [(&common, "common"), (&whole, "whole"), (&spiffe, "spiffe")] {
        let found = taken_for(&server, &ca, Some(identity), None).await;
        assert_eq!(found.as_deref(), Ok(taken));
    }
    for (identity, word) in [
        (Some(&stranger), "no user has a name"),
        (Some(&ambiguous), "more than one user"),
        (None, "no credentials"),
    ] {
        let told = taken_for(&server, &ca, identity, None)
            .await
            .expect_err("refused");
        assert!(told.contains(word), "{told}");
    }
    // Who sends a token is judged by that, certificate or not.
    let found = taken_for(&server, &ca, Some(&common), Some("token")).await;
    assert_eq!(found.as_deref(), Ok("token"));
    let wrong = taken_for(&server, &ca, Some(&common), Some("wrong")).await;
    assert!(wrong.is_err());
}

/// Credentials and encryption together are what an open address needs.
#[tokio::test]
async fn open_address_needs_tls_and_users() {
    let ca = Authority::new();
    let server = showing(&ca, &user("shop", RIGHTS))
        .grpc("0.0.0.0:0")
        .start()
        .await;
    assert!(server.terminate().await.success());
    let builder = Server::builder();
    let files = ca.issue(&server_params()).write(builder.dir(), "server");
    let (code, log) = builder
        .arg(format!("--grpc-tls-cert={}", files.cert.display()))
        .arg(format!("--grpc-tls-key={}", files.key.display()))
        .grpc("0.0.0.0:0")
        .refused()
        .await;
    assert_eq!(code, Some(2));
    assert!(
        log.contains("grpc.listen") && log.contains("auth.file"),
        "{log}"
    );
}

#[tokio::test]
async fn refusal_tells_where_it_came_from() {
    let server = guarded(&user("shop", RIGHTS)).start().await;
    let mut nobody = Clients::over(server.channel().await);
    assert!(nobody.poll.poll_events(poll_of("LIVE")).await.is_err());
    let log = server.log().join("\n");
    assert!(log.contains(r#""peer":"127.0.0.1:"#), "{log}");
}
