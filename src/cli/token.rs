//! `eventstream token`: a credential for a user, and what the file of users
//! keeps of it.
//!
//! No server is asked, and nothing is written but the output: who runs it puts
//! the token where the client finds it, and the hash where the service does.

use std::io::{IsTerminal as _, Read as _, stdin};

use serde_json::json;

use super::{
    failure::Failure,
    output::{Format, Output},
};
use crate::auth::{Token, hash_line};

const HELP: &str = "Examples:\n  \
    eventstream token\n  \
    eventstream token --of-stdin < /run/secrets/token\n\n\
    The token goes to the client, its hash into the file of users:\n  \
    [users.shop]\n  \
    tokens = [\"sha256:...\"]";

/// Longer is no token.
const MAX_BYTES: u64 = 8192;

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Make no token; print the hash of the one on standard input
    #[arg(long)]
    of_stdin: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    if args.of_stdin {
        let hash = hash_line(&given()?);
        let written = if output.is_json() {
            output.object(&json!({ "hash": hash }))
        } else {
            output.line(&hash)
        };
        return written.map_err(Failure::Output);
    }
    let token = Token::generate();
    let hash = hash_line(token.secret());
    let written = if output.is_json() {
        output.object(&json!({ "token": token.secret(), "hash": hash }))
    } else {
        let lines = [
            format!("token  {}", token.secret()),
            format!("hash   {hash}"),
        ];
        lines.iter().try_for_each(|line| output.line(line))
    };
    written.map_err(Failure::Output)
}

fn given() -> Result<String, Failure> {
    if stdin().is_terminal() {
        let text = "give the token on standard input, from a file: it would be seen here";
        return Err(Failure::Usage(text.to_owned()));
    }
    let mut text = String::new();
    let read = stdin().take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(Failure::Input)?;
    let token = text.trim();
    if token.is_empty() || text.len() as u64 > MAX_BYTES || token.contains(char::is_whitespace) {
        return Err(Failure::Usage(
            "there is no token on standard input".to_owned(),
        ));
    }
    Ok(token.to_owned())
}
