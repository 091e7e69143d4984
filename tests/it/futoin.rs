//! The FutoIn front, spoken to byte by byte.

pub mod client;
mod corner_cases;
mod hostile;
mod limits;
mod push;
mod scenarios;
mod security;

use crate::server::{Builder, Server};

/// The key of `hmacuser`, as its client is configured with.
pub const MAC_KEY: &str = "TXlMb25nU2VjcmV0S2V5MDEyMzQ1Njc4OQ==";

/// The key of `svc1`.
pub const SERVICE_KEY: &str = "Nz7M+ZGSFW1FGR4aB9iGq4Hgi3tkLLRM";

/// A service with users, over channels that it believes to be secure, that
/// refuses without delay.
pub fn builder() -> Builder {
    open_builder().arg("--futoin-secure-channel")
}

/// The same, whose channels are not secure.
pub fn open_builder() -> Builder {
    let users = format!(
        "user id=1 secret=pass; other secret=word; local secret=pass
         hmacuser mac={MAC_KEY}; svc1 mac={SERVICE_KEY}; \
         uBkXSEpNSmqvcX2ENolbZw mmac=LYJ8an4GcxKSB4mHz7qz1wrYyrdc2tIMFYsXOFc3ELM="
    );
    Server::builder()
        .env("EVENTSTREAM_FUTOIN_USERS", &users)
        .arg("--futoin-negative-reply-delay=0s")
}
