//! TLS of both listeners, with certificates made here: who is let in, what is
//! agreed on, and that new files are taken without dropping anybody.

pub mod authority;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use futoin_eventstream_client::EventStream;
use rcgen::{CertificateParams, date_time_ymd};
use tokio::{process::Command, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    round_trip::{add, next_group, ready, subscribe},
    server::{Builder, Clients, PATIENCE, Server, eventually, program},
};
pub use authority::{Authority, Files, server_params};
use authority::{Pair, client_params, write};

/// A service whose gRPC listener speaks TLS.
fn tls_builder(authority: &Authority) -> (Builder, Files) {
    let builder = Server::builder();
    let files = authority
        .issue(&server_params())
        .write(builder.dir(), "server");
    let builder = with_tls(builder, "grpc", &files);
    (builder, files)
}

pub fn with_tls(builder: Builder, front: &str, files: &Files) -> Builder {
    builder
        .arg(format!("--{front}-tls-cert={}", files.cert.display()))
        .arg(format!("--{front}-tls-key={}", files.key.display()))
}

/// The same, asking clients for certificates of this CA.
fn with_client_ca(builder: Builder, authority: &Authority, auth: &str) -> Builder {
    let path = write(builder.dir(), "clients.crt", &authority.pem());
    builder
        .arg(format!("--grpc-tls-client-ca={}", path.display()))
        .arg(format!("--grpc-tls-client-auth={auth}"))
}

/// A call over a connection of its own; what went wrong if it did.
async fn call(server: &Server, ca: &Authority, identity: Option<&Pair>) -> Result<(), String> {
    let channel = channel(server, ca, identity)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let mut admin = Clients::over(channel).admin;
    let request = futoin_eventstream::proto::GetStatusRequest::default();
    // With TLS 1.3 a client learns of its refusal only after the handshake.
    let answer = timeout(PATIENCE, admin.get_status(request)).await;
    let answer = answer.expect("an answer comes");
    answer.map(drop).map_err(|status| format!("{status:?}"))
}

/// A connection that believes `ca`.
pub async fn channel(
    server: &Server,
    ca: &Authority,
    identity: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
    if let Some(Pair { cert, key }) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let uri = format!("https://{}", server.grpc_address());
    let endpoint = Endpoint::from_shared(uri).expect("an address");
    endpoint.tls_config(tls)?.connect().await
}

#[tokio::test]
async fn rust_client_and_commands_speak_tls() {
    let ca = Authority::new();
    let (builder, _) = tls_builder(&ca);
    let ca_file = write(builder.dir(), "ca.crt", &ca.pem());
    let server = builder.start().await;
    let address = format!("https://{}", server.grpc_address());

    let client = EventStream::builder(&address).ca(ca.pem());
    let client = client.connect().expect("an address");
    let id = client.add_event("KIND", &1).await.expect("added");
    assert_eq!(id, 1);

    let ca_file = ca_file.to_str().expect("text");
    let status = |more: &[&str]| {
        let args = [&["status", "--addr", &address][..], more].concat();
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        async move { program(&args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    assert!(status(&["--tls-ca", ca_file]).await.status.success());
    let named = status(&["--tls-ca", ca_file, "--tls-name", "localhost"]).await;
    assert!(named.status.success(), "{named:?}");
    for unbelievable in [
        &[][..],
        &["--tls-ca", ca_file, "--tls-name", "other.example"],
    ] {
        let refused = status(unbelievable).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(said.contains("certificate"), "{said}");
    }
    let args = ["healthcheck", "--addr", &address, "--tls-ca", ca_file];
    let healthy = program(&args).await;
    assert_eq!(healthy.stdout, b"SERVING\n", "{healthy:?}");
    let plain = program(&["healthcheck", "--addr", server.grpc_address()]).await;
    assert_eq!(plain.status.code(), Some(2), "{plain:?}");
    assert!(call(&server, &Authority::new(), None).await.is_err());
}

fn expired(name: &str) -> CertificateParams {
    let mut params = client_params(name);
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    params
}

#[tokio::test]
async fn who_must_show_a_certificate_and_cannot_is_refused() {
    let ca = Authority::new();
    let server = with_client_ca(tls_builder(&ca).0, &ca, "required")
        .start()
        .await;
    let good = ca.issue(&client_params("shop"));
    call(&server, &ca, Some(&good)).await.expect("let in");
    assert!(call(&server, &ca, None).await.is_err());
    let foreign = Authority::new().issue(&client_params("shop"));
    assert!(call(&server, &ca, Some(&foreign)).await.is_err());
    let past = ca.issue(&expired("shop"));
    assert!(call(&server, &ca, Some(&past)).await.is_err());
    call(&server, &ca, Some(&good)).await.expect("still let in");
}

#[tokio::test]
async fn who_may_show_a_certificate_must_have_a_right_one() {
    let ca = Authority::new();
    let server = with_client_ca(tls_builder(&ca).0, &ca, "optional")
        .start()
        .await;
    call(&server, &ca, None).await.expect("let in");
    let foreign = Authority::new().issue(&client_params("shop"));
    assert!(call(&server, &ca, Some(&foreign)).await.is_err());
}

/// What `openssl s_client` tells of a handshake.
async fn s_client(address: &str, ca: &Path, args: &[&str]) -> String {
    let run = Command::new("openssl")
        .args(["s_client", "-connect", address, "-CAfile"])
        .arg(ca)
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.expect("it ends");
    let output = output.expect("openssl is installed");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn tls_before_1_2_is_refused_and_protocols_are_agreed_on() {
    let ca = Authority::new();
    let (builder, _) = tls_builder(&ca);
    let file = write(builder.dir(), "ca.crt", &ca.pem());
    let server = builder.start().await;
    let address = server.grpc_address();
    for old in ["-tls1", "-tls1_1"] {
        // At its usual level openssl itself would not try.
        let said = s_client(address, &file, &[old, "-cipher", "DEFAULT@SECLEVEL=0"]).await;
        // Its hello lacks what TLS 1.2 asks for, before its version is looked at.
        assert!(said.contains("alert handshake failure"), "{old}: {said}");
        assert!(said.contains("Cipher is (NONE)"), "{old}: {said}");
    }
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(address, &file, &[version, "-alpn", "h2,http/1.1"]).await;
        assert!(said.contains(&format!("New, {name}")), "{said}");
        assert!(said.contains("ALPN protocol: h2"), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    let said = s_client(address, &file, &["-alpn", "http/1.1"]).await;
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    let said = s_client(address, &file, &["-alpn", "spdy/1"]).await;
    assert!(said.contains("alert no application protocol"), "{said}");
}

async fn curl(server: &Server, ca: &Path, args: &[&str]) -> Output {
    let (_, port) = server.http_address().rsplit_once(':').expect("a port");
    let run = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--cacert"])
        .arg(ca)
        .args(&args[1..])
        .arg(format!("https://localhost:{port}{}", args[0]))
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.expect("it ends");
    output.expect("curl is installed")
}

#[tokio::test]
async fn http_and_futoin_over_tls() {
    let ca = Authority::new();
    let builder = Server::builder();
    let files = ca.issue(&server_params()).write(builder.dir(), "http");
    let file = write(builder.dir(), "ca.crt", &ca.pem());
    let server = with_tls(builder, "http", &files)
        .arg("--futoin-users=shop secret=pass")
        .start()
        .await;
    for version in ["--http1.1", "--http2"] {
        let alive = curl(&server, &file, &["/livez", version]).await;
        assert_eq!(alive.stdout, b"ok\n", "{alive:?}");
    }
    // FutoIn adds events only where nobody can listen: here.
    let message =
        r#"{"f":"futoin.evt.gen:1.0:addEvent","p":{"type":"KIND","data":1},"sec":"shop:pass"}"#;
    let added = curl(&server, &file, &["/ftn", "--data", message]).await;
    assert_eq!(added.stdout, br#"{"r":"1"}"#, "{added:?}");
    // gRPC is as it was.
    assert_eq!(add(&mut server.clients().await, "KIND", "1").await, 2);
}

/// A metric of a server whose HTTP listener speaks no TLS.
async fn metric(server: &Server, name: &str) -> f64 {
    crate::calls::metric(server, name).await
}

const EXPIRES: &str = r#"eventstream_tls_certificate_expires_timestamp_seconds{listener="grpc"}"#;
const FAILING: &str = r#"eventstream_tls_reload_failing{listener="grpc"}"#;

/// Files as Kubernetes mounts them: `..data` is a link that is swapped.
fn mount(dir: &Path, version: &str, pair: &Pair) -> Files {
    let home = dir.join(version);
    fs::create_dir(&home).expect("made");
    pair.write(&home, "tls");
    let link = dir.join("..new");
    std::os::unix::fs::symlink(&home, &link).expect("linked");
    fs::rename(&link, dir.join("..data")).expect("swapped");
    Files {
        cert: dir.join("..data/tls.crt"),
        key: dir.join("..data/tls.key"),
    }
}

#[tokio::test]
async fn new_certificates_are_taken_while_streams_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let builder = Server::builder();
    let dir = builder.dir().to_owned();
    let files = mount(&dir, "1", &old.issue(&server_params()));
    let server = with_tls(builder, "grpc", &files).start().await;
    let mut clients = Clients::over(channel(&server, &old, None).await.expect("connected"));
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;

    let mut params = server_params();
    params.not_after = date_time_ymd(2040, 1, 1);
    mount(&dir, "2", &new.issue(&params));
    eventually(async || match metric(&server, EXPIRES).await {
        2_208_988_800.0 => Ok(()),
        other => Err(other),
    })
    .await;
    call(&server, &new, None)
        .await
        .expect("the new one is shown");
    assert!(call(&server, &old, None).await.is_err());

    // A key that is not of the certificate: the last pair stays.
    let mut wrong = new.issue(&params);
    wrong.key = old.issue(&params).key;
    mount(&dir, "3", &wrong);
    eventually(async || match metric(&server, FAILING).await {
        1.0 => Ok(()),
        other => Err(other),
    })
    .await;
    let log = server.log().join("\n");
    assert!(log.contains("is not the key of the certificate"), "{log}");
    call(&server, &new, None).await.expect("the last one stays");

    mount(&dir, "4", &new.issue(&params));
    eventually(async || match metric(&server, FAILING).await {
        0.0 => Ok(()),
        other => Err(other),
    })
    .await;
    // The stream has seen nothing of all this.
    let id = add(&mut clients, "KIND", "1").await;
    assert_eq!(next_group(&mut stream).await.last_id, id);
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_it_from_starting() {
    let ca = Authority::new();
    let other = ca.issue(&server_params());
    for (name, break_it, expected) in [
        ("server.key", "", "server.key: no private key"),
        (
            "server.key",
            other.key.as_str(),
            "is not the key of the certificate",
        ),
        ("server.crt", "", "server.crt: holds no certificate"),
        (
            "server.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "not a certificate",
        ),
    ] {
        let (builder, _) = tls_builder(&ca);
        write(builder.dir(), name, break_it);
        let (code, log) = builder.refused().await;
        assert_eq!(code, Some(1));
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let (builder, files) = tls_builder(&ca);
    fs::remove_file(files.key).expect("removed");
    let (_, log) = builder.refused().await;
    assert!(log.contains("No such file"), "{log}");
    let (_, log) = Server::builder().arg("--grpc-tls-cert=x").refused().await;
    assert!(log.contains("is needed beside grpc.tls_cert"), "{log}");
}

#[tokio::test]
async fn key_that_everybody_may_read_and_end_of_a_certificate_are_warned_of() {
    let ca = Authority::new();
    let builder = Server::builder();
    let files = ca.issue(&expired("server")).write(builder.dir(), "server");
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).expect("permitted");
    let server = with_tls(builder, "grpc", &files).start().await;
    let log = server.log().join("\n");
    assert!(log.contains("may read the private key"), "{log}");
    assert!(log.contains("the certificate has expired"), "{log}");
}
