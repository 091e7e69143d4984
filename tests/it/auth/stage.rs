//! A service with a file of users.

use std::{fs, path::Path};

use futoin_eventstream::auth::hash_line;

use crate::server::{Builder, Server};

/// Its name in the service's directory.
pub const FILE: &str = "users.toml";

/// A user whose one token is its name.
pub fn user(name: &str, rights: &str) -> String {
    format!(
        "[users.{name}]\ntokens = [\"{}\"]\n{rights}\n",
        hash_line(name)
    )
}

/// Some users, each with a token that is its name.
pub fn several() -> String {
    [
        user(
            "shop",
            "generate = ['ORDER_*']\nconsume = ['SHOP_*', 'LIVE']\ntypes = ['ORDER_*']",
        ),
        user("billing", "consume = ['*']\ntypes = ['ORDER_PAID', 'BILL']"),
        user("all", "generate = ['*']\nconsume = ['*']\ntypes = ['*']"),
        user("ops", "administer = true"),
        user("eye", "observe = true"),
        user("nobody", ""),
    ]
    .concat()
}

/// A service with these users.
pub fn guarded(users: &str) -> Builder {
    let builder = Server::builder();
    let file = builder.dir().join(FILE);
    replace(&file, users);
    builder.arg(format!("--auth-file={}", file.display()))
}

/// Writes a file as careful programs do: whole, or not at all.
pub fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(&new, file).expect("renamed");
}
