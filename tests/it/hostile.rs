//! A campaign against the service: whatever is sent, its memory stays bounded, a
//! bystander is served, and nothing is told to who may not know it. Each attack
//! asserts what the service did. `make hostile` sends far more, looks at the
//! bystander's latency, and prints the table of SECURITY.md.

mod attacks;
mod caller;
mod http2;
mod scene;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use self::scene::{Account, Scene, Strength, withstand};
use crate::{
    auth::stage::{guarded, user},
    server::{Builder, Clients},
    tls::{Authority, server_params, with_tls},
};

/// Attackers may add events; sockets are attacked in greater number than is usual.
fn builder() -> Builder {
    let rights = "generate = ['*']\nconsume = ['*']\ntypes = ['*']";
    let users = user("bystander", rights) + &user("attacker", "generate = ['*']");
    guarded(&users)
        .token("bystander")
        .arg("--grpc-max-connections=12000")
        .arg("--http-metrics-open=true")
}

async fn campaign(name: &str, strength: Strength, attack: impl AsyncFnOnce(&Scene) -> Account) {
    let server = builder().start().await;
    let clients = server.clients().await;
    withstand(name, server, clients, strength, attack).await;
}

/// The same against a listener that speaks TLS, as the bystander does.
async fn campaign_over_tls(
    name: &str,
    strength: Strength,
    attack: impl AsyncFnOnce(&Scene) -> Account,
) {
    let ca = Authority::new();
    let builder = builder();
    let files = ca.issue(&server_params()).write(builder.dir(), "server");
    let server = with_tls(builder, "grpc", &files).start().await;
    let uri = format!("https://{}", server.grpc_address());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
    let endpoint = Endpoint::from_shared(uri).expect("an address");
    let channel = endpoint.tls_config(tls).expect("a CA").connect().await;
    let clients = Clients::with_token(channel.expect("connected"), "bystander");
    withstand(name, server, clients, strength, attack).await;
}

macro_rules! attacks {
    ($($attack:ident by $campaign:ident as $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $attack() {
                $campaign($name, Strength::Skirmish, attacks::$attack).await;
            }
        )*

        /// Every attack with all that it has.
        #[cfg(feature = "soak")]
        pub async fn siege() {
            $($campaign($name, Strength::Siege, attacks::$attack).await;)*
        }
    };
}

attacks! {
    rapid_reset by campaign as "rapid reset",
    continuation_flood by campaign as "CONTINUATION flood",
    huge_headers by campaign as "huge headers",
    frame_floods by campaign as "floods of control frames",
    slowloris by campaign as "slowloris",
    half_open_tls by campaign_over_tls as "half-open TLS",
    compressed_bombs by campaign as "compressed bombs",
    hoarded_messages by campaign as "messages without end",
    idle_sockets by campaign as "idle sockets",
    invalid_text by campaign as "invalid UTF-8",
}
