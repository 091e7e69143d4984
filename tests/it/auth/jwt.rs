//! Tokens that an issuer signed.

use std::{path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futoin_eventstream::event::Moment;
use ring::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    },
};
use serde_json::{Value, json};
use tonic::Code;

use super::stage::{FILE, replace, user};
use crate::{
    calls::{end_of, poll_of, refused},
    round_trip::{ready, register, subscribe},
    server::{Builder, Server, eventually},
};

const ISSUER: &str = "https://issuer.example";

const RIGHTS: &str = "consume = ['*']\ntypes = ['*']";

/// A key, as an issuer has it.
enum Key {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    fn ec() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("made");
        Self::Ec(EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).expect("a key"))
    }

    fn ed() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("made");
        Self::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key"))
    }

    fn rsa(dir: &Path) -> Self {
        let file = dir.join("rsa.der");
        let made = Command::new("bash")
            .arg("-c")
            .arg(
                "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -quiet | \
                  openssl pkcs8 -topk8 -nocrypt -outform DER -out \"$0\"",
            )
            .arg(&file)
            .output()
            .expect("bash is there");
        assert!(made.status.success(), "openssl is installed: {made:?}");
        let der = std::fs::read(&file).expect("read");
        Self::Rsa(rsa::KeyPair::from_pkcs8(&der).expect("a key"))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("signed");
                signature
            }
            Self::Ec(key) => key
                .sign(&random, message)
                .expect("signed")
                .as_ref()
                .to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// Its public half, as a key set has it.
    fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(key) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": base64(&public.n), "e": base64(&public.e) })
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Self::Ed(key) => {
                let x = base64(key.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": self.algorithm(), "kid": kid });
        self.token_of(&header, claims)
    }

    fn token_of(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = base64(self.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims.to_string())
    )
}

/// Seconds since 1970.
fn now() -> i64 {
    Moment::now().unix_millis() / 1000
}

/// Claims of somebody for an hour.
fn claims(sub: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["eventstream", "other"],
        "sub": sub,
        "nbf": now() - 10,
        "exp": now() + 3600,
    })
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("a map").remove(name);
    claims
}

/// A service whose users come from the issuer of these keys; `more` is added
/// to the issuer's table.
fn trusting(keys: &[Value], more: &str, users: &str) -> Builder {
    let builder = Server::builder();
    write_keys(builder.dir(), keys);
    let issuer = format!(
        "[issuers.main]\nissuer = '{ISSUER}'\naudiences = ['eventstream']\nkeys = 'jwks.json'\n"
    );
    let file = builder.dir().join(FILE);
    replace(&file, &format!("{users}{issuer}{more}"));
    builder.arg(format!("--auth-file={}", file.display()))
}

fn write_keys(dir: &Path, keys: &[Value]) {
    let set = json!({ "keys": keys }).to_string();
    replace(&dir.join("jwks.json"), &set);
}

const MAPPED: &str = "leeway = '5s'\n[issuers.main.users]\n'app-1' = 'shop'\n";

/// Who the service takes the bearer of a token for.
async fn taken_for(server: &Server, token: &str) -> String {
    let mut clients = server.clients_of(token).await;
    let request = futoin_eventstream::proto::RegisterConsumerRequest {
        component: "WHO".into(),
        start: None,
    };
    let registered = clients.poll.register_consumer(request).await;
    let registered = registered.expect("registered").into_inner();
    registered.consumer.expect("a consumer").user
}

async fn refusal(server: &Server, token: &str) -> String {
    let mut clients = server.clients_of(token).await;
    let polled = clients.poll.poll_events(poll_of("LIVE")).await;
    let status = refused(polled, Code::Unauthenticated, "UNAUTHENTICATED");
    status.message().to_owned()
}

#[tokio::test]
async fn each_algorithm_is_taken_by_its_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = [Key::rsa(dir.path()), Key::ec(), Key::ed()];
    // Others may stand in the set: they are not for us.
    let mut jwks = vec![
        json!({ "kty": "oct", "k": base64(b"shared secret"), "kid": "shared" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "for encryption", "use": "enc" }),
        json!({ "kty": "AKP", "kid": "from the future", "alg": "ML-DSA-44", "pub": "AA" }),
    ];
    jwks.extend(keys.iter().map(|key| key.jwk(key.algorithm())));
    let server = trusting(&jwks, MAPPED, &user("shop", RIGHTS)).start().await;
    for key in &keys {
        let token = key.token(key.algorithm(), &claims("app-1"));
        for _ in 0..2 {
            assert_eq!(taken_for(&server, &token).await, "shop");
        }
        // A static token does beside them.
        assert_eq!(taken_for(&server, "shop").await, "shop");
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, b"shared secret");
    let header = json!({ "alg": "HS256", "kid": "shared" });
    let text = unsigned(&header, &claims("app-1"));
    let token = format!("{text}.{}", base64(hmac::sign(&secret, text.as_bytes())));
    assert!(
        refusal(&server, &token)
            .await
            .contains("RS256, ES256 or EdDSA")
    );
}

#[tokio::test]
async fn what_is_not_signed_for_us_is_refused() {
    let (key, other) = (Key::ec(), Key::ed());
    let jwks = [key.jwk("one"), other.jwk("two")];
    let server = trusting(&jwks, MAPPED, &user("shop", RIGHTS)).start().await;
    let good = claims("app-1");
    assert_eq!(taken_for(&server, &key.token("one", &good)).await, "shop");

    let none = unsigned(&json!({ "alg": "none" }), &good);
    let by_public_key = {
        let Key::Ec(pair) = &key else { unreachable!() };
        let secret = hmac::Key::new(hmac::HMAC_SHA256, pair.public_key().as_ref());
        let text = unsigned(&json!({ "alg": "HS256", "kid": "one" }), &good);
        format!("{text}.{}", base64(hmac::sign(&secret, text.as_bytes())))
    };
    let forged = {
        let token = key.token("one", &good);
        let (text, signature) = token.rsplit_once('.').expect("three parts");
        let header = text.split('.').next().expect("a header");
        format!("{header}.{}.{signature}", base64(claims("ops").to_string()))
    };
    let embedded = {
        let header = json!({ "alg": "ES256", "jwk": Key::ec().jwk("x"), "kid": "mine" });
        key.token_of(&header, &good)
    };
    let critical = json!({ "alg": "ES256", "kid": "one", "crit": ["x"], "x": 1 });
    let anonymous = json!({ "alg": "ES256" });
    for (token, word) in [
        (format!("{none}."), "header is none"),
        (format!("{none}.AAAA"), "header is none"),
        (by_public_key, "not signed by"),
        (forged, "signature is wrong"),
        (Key::ec().token("one", &good), "signature is wrong"),
        (key.token("three", &good), "key is not known"),
        (key.token("two", &good), "not for its algorithm"),
        (embedded, "key is not known"),
        (key.token_of(&anonymous, &good), "does not name its key"),
        (key.token_of(&critical, &good), "extensions"),
        ("a.b.c".to_owned(), "header is none"),
        ("..".to_owned(), "header is none"),
        ("a.b.c.d".to_owned(), "not known"),
    ] {
        let told = refusal(&server, &token).await;
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[tokio::test]
async fn claims_must_be_for_us_and_for_now() {
    let key = Key::ec();
    let server = trusting(&[key.jwk("k")], MAPPED, &user("shop", RIGHTS))
        .start()
        .await;
    let good = || claims("app-1");
    let text = json!("2030-01-01");
    for (claims, word) in [
        (with(good(), "exp", now() - 60), "expired"),
        (with(good(), "nbf", now() + 600), "not valid yet"),
        (without(good(), "exp"), "no claim exp"),
        (with(good(), "exp", text.clone()), "exp"),
        (with(good(), "nbf", text), "nbf"),
        (
            with(good(), "iss", "https://other.example"),
            "issuer is not known",
        ),
        (with(good(), "iss", json!([ISSUER])), "names no issuer"),
        (without(good(), "iss"), "names no issuer"),
        (with(good(), "aud", "other"), "another audience"),
        (without(good(), "aud"), "no claim aud"),
        (
            with(good(), "sub", "app-2"),
            "no user is mapped to the token's sub in issuers.main.users",
        ),
        (with(good(), "sub", 7), "sub is no text"),
        (without(good(), "sub"), "no claim sub"),
    ] {
        let told = refusal(&server, &key.token("k", &claims)).await;
        assert!(told.contains(word), "{word}: {told}");
    }
    // Clocks may differ a little; an issuer with one key need not name it.
    for claims in [
        with(good(), "exp", now() - 2),
        with(good(), "nbf", now() + 3),
        with(good(), "aud", "eventstream"),
        without(good(), "nbf"),
    ] {
        let header = json!({ "alg": "ES256" });
        assert_eq!(
            taken_for(&server, &key.token_of(&header, &claims)).await,
            "shop"
        );
    }
}

/// As Kubernetes projects them into a pod.
#[tokio::test]
async fn service_accounts_are_mapped_to_users() {
    const ACCOUNT: &str = "system:serviceaccount:a-namespace-with-a-long-name:web";
    let key = Key::ec();
    let by_sub = format!("[issuers.main.users]\n'{ACCOUNT}' = 'shop'\n");
    let account = || {
        let name = json!({ "namespace": "shop", "serviceaccount": { "name": "web" } });
        with(claims(ACCOUNT), "kubernetes.io", name)
    };
    let server = trusting(&[key.jwk("k")], &by_sub, &user("shop", RIGHTS))
        .start()
        .await;
    assert_eq!(
        taken_for(&server, &key.token("k", &account())).await,
        "shop"
    );

    let nested =
        "claim = 'kubernetes.io.serviceaccount.name'\n[issuers.main.users]\nweb = 'shop'\n";
    let server = trusting(&[key.jwk("k")], nested, &user("shop", RIGHTS))
        .start()
        .await;
    assert_eq!(
        taken_for(&server, &key.token("k", &account())).await,
        "shop"
    );

    // Without a mapping names must be those of users.
    let server = trusting(&[key.jwk("k")], "direct = true\n", &user("shop", RIGHTS))
        .start()
        .await;
    assert_eq!(
        taken_for(&server, &key.token("k", &claims("shop"))).await,
        "shop"
    );
    let told = refusal(&server, &key.token("k", &account())).await;
    assert!(
        told.contains("longer than 47 characters or has a colon"),
        "{told}"
    );
    let told = refusal(&server, &key.token("k", &claims("stranger"))).await;
    assert!(told.contains("stranger is not among the users"), "{told}");
}

#[tokio::test]
async fn stream_ends_when_its_token_does() {
    let key = Key::ec();
    let more = "leeway = '0s'\n[issuers.main.users]\n'app-1' = 'shop'\n";
    let server = trusting(&[key.jwk("k")], more, &user("shop", RIGHTS))
        .start()
        .await;
    let token = key.token("k", &with(claims("app-1"), "exp", now() + 5));
    let mut clients = server.clients_of(&token).await;
    register(&mut clients, "WEB").await;
    let (_, mut stream) = subscribe(&mut clients, ready("WEB")).await;
    let status = end_of(&mut stream).await;
    let status = refused(Err::<(), _>(status), Code::Unavailable, "CREDENTIALS_ENDED");
    assert!(status.message().contains("expired"), "{status:?}");
    // Who comes back with the same one is not let in, with a new one it is.
    assert!(refusal(&server, &token).await.contains("expired"));
    let mut clients = server.clients_of(&key.token("k", &claims("app-1"))).await;
    drop(subscribe(&mut clients, ready("WEB")).await);
}

#[tokio::test]
async fn keys_are_exchanged_while_it_runs() {
    let (old, new) = (Key::ec(), Key::ed());
    let server = trusting(&[old.jwk("old")], MAPPED, &user("shop", RIGHTS))
        .start()
        .await;
    let (by_old, by_new) = (
        old.token("old", &claims("app-1")),
        new.token("new", &claims("app-1")),
    );
    let mut clients = server.clients_of(&by_old).await;
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;
    assert!(refusal(&server, &by_new).await.contains("key is not known"));
    write_keys(server.dir(), &[new.jwk("new")]);
    let status = end_of(&mut stream).await;
    refused(Err::<(), _>(status), Code::Unavailable, "CREDENTIALS_ENDED");
    eventually(async || {
        let mut clients = server.clients_of(&by_new).await;
        clients.poll.poll_events(poll_of("LIVE")).await
    })
    .await;
    assert!(refusal(&server, &by_old).await.contains("key is not known"));
}

#[tokio::test]
async fn key_set_must_have_a_key() {
    for (keys, word) in [
        (vec![], "has no key for RS256"),
        (
            vec![json!({ "kty": "oct", "k": "hunter2" })],
            "has no key for RS256",
        ),
        (
            vec![Key::ec().jwk("k"), Key::ec().jwk("k")],
            "two keys with the kid",
        ),
    ] {
        let (code, log) = trusting(&keys, MAPPED, &user("shop", RIGHTS))
            .refused()
            .await;
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains("issuers.main.keys") && log.contains(word),
            "{log}"
        );
        assert!(!log.contains("hunter2"), "{log}");
    }
}
