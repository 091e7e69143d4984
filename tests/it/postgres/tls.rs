//! TLS to the server, with certificates made for the test.

use std::process::Command;

use tempfile::TempDir;

use super::{Cluster, Database, cases::late_commit, stage::Stage};
use crate::server::program;

/// Makes two authorities, a certificate of the server for `localhost` by the
/// first one, and one of a client for the role `tls_client`.
const CERTIFICATES: &str = r#"
    set -eu
    cd "$1"
    for ca in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -keyout $ca.key -out $ca.crt -subj "/CN=$ca"
    done
    for name in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -keyout $name.key -out $name.csr -subj "/CN=tls_$name"
        echo "subjectAltName=DNS:localhost" >$name.ext
        openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
            -extfile $name.ext -out $name.crt
    done
    chmod 600 server.key
    [ -z "$2" ] || chown "$2" . server.key server.crt ca.crt
"#;

/// A server that takes TCP with TLS only.
struct Secured {
    _cluster: Cluster,
    certificates: TempDir,
    database: Database,
    port: u16,
}

impl Secured {
    async fn start() -> Self {
        let certificates = tempfile::tempdir().expect("a temporary directory can be made");
        let owner = match super::cluster::unprivileged()[0].as_str() {
            "env" => "",
            _ => super::cluster::OWNER,
        };
        let made = Command::new("bash")
            .args(["-c", CERTIFICATES, "certificates"])
            .arg(certificates.path())
            .arg(owner)
            .output()
            .expect("bash is there");
        assert!(made.status.success(), "openssl is installed: {made:?}");
        let cluster = Cluster::start();
        let database = cluster.database().await;
        database.run("CREATE ROLE tls_client LOGIN SUPERUSER").await;
        let file = |name: &str| certificates.path().join(name).display().to_string();
        // Free a moment ago, by the system's choice.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        cluster.configure(&format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\nssl_cert_file = '{}'\n\
             ssl_key_file = '{}'\nssl_ca_file = '{}'",
            file("server.crt"),
            file("server.key"),
            file("ca.crt")
        ));
        cluster.authenticate(
            "hostssl all tls_client 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 trust\n\
             host all all 127.0.0.1/32 reject",
        );
        cluster.restart("fast");
        let database = Database {
            url: format!("{}&port={port}", database.url),
            name: database.name,
        };
        Self {
            _cluster: cluster,
            certificates,
            database,
            port,
        }
    }

    fn file(&self, name: &str) -> String {
        self.certificates.path().join(name).display().to_string()
    }

    /// By TCP, with these parameters.
    fn by_tcp(&self, user: &str, host: &str, parameters: &str) -> Database {
        let (port, name) = (self.port, &self.database.name);
        Database {
            url: format!("postgres://{user}@{host}:{port}/{name}?{parameters}"),
            name: name.clone(),
        }
    }

    async fn works(&self, user: &str, host: &str, parameters: &str) {
        let server = self.by_tcp(user, host, parameters).server();
        drop(server.start().await);
    }

    async fn refuses(&self, user: &str, host: &str, parameters: &str, word: &str) {
        let server = self.by_tcp(user, host, parameters).server();
        let (code, log) = server.refused().await;
        assert_eq!(code, Some(1), "{parameters}: {log}");
        assert!(log.contains(word), "{parameters}: {log}");
    }
}

#[tokio::test]
async fn every_mode_of_tls_does_what_it_says() {
    let secured = Secured::start().await;
    let (ca, other) = (secured.file("ca.crt"), secured.file("other.crt"));
    for parameters in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        format!("sslmode=verify-full&sslrootcert={ca}"),
    ] {
        secured.works("postgres", "localhost", &parameters).await;
    }
    // The certificate names localhost, not the address.
    let checked = format!("sslmode=verify-ca&sslrootcert={ca}");
    secured.works("postgres", "127.0.0.1", &checked).await;
    let full = format!("sslmode=verify-full&sslrootcert={ca}");
    secured
        .refuses("postgres", "127.0.0.1", &full, "name the host of db.url")
        .await;
    for mode in ["verify-ca", "verify-full"] {
        let wrong = format!("sslmode={mode}&sslrootcert={other}");
        secured
            .refuses("postgres", "localhost", &wrong, "authority in sslrootcert")
            .await;
        let none = format!("sslmode={mode}");
        secured
            .refuses("postgres", "localhost", &none, "authority in sslrootcert")
            .await;
    }
    secured
        .refuses("postgres", "localhost", "sslmode=disable", "no encryption")
        .await;
    let missing = "sslmode=verify-ca&sslrootcert=/nowhere/ca.crt";
    secured
        .refuses("postgres", "localhost", missing, "sslrootcert")
        .await;
}

#[tokio::test]
async fn certificate_of_the_client_is_the_password() {
    let secured = Secured::start().await;
    let full = format!("sslmode=verify-full&sslrootcert={}", secured.file("ca.crt"));
    secured
        .refuses("tls_client", "localhost", &full, "certificate")
        .await;
    let with_own = format!(
        "{full}&sslcert={}&sslkey={}",
        secured.file("client.crt"),
        secured.file("client.key")
    );
    let server = secured
        .by_tcp("tls_client", "localhost", &with_own)
        .server();
    let mut stage = Stage::with(secured.database.clone(), server).await;
    late_commit(&mut stage).await;
}

#[tokio::test]
async fn server_without_tls_is_refused_where_it_is_required() {
    let database = Cluster::shared().database().await;
    let (code, log) = Database {
        url: format!("{}&sslmode=require", database.url),
        ..database
    }
    .server()
    .refused()
    .await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("does not support TLS"), "{log}");
}

#[tokio::test]
async fn parameter_that_is_not_known_is_a_fault_of_the_configuration() {
    let url = "postgres://u:hunter2@h/d?sslmod=verify-full";
    let output = program(&["check-config", "--db", url]).await;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        text.contains("sslmod,") && text.contains("sslrootcert"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}
