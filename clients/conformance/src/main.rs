//! Plays the service to the receivers of the clients, misbehaving as a case of
//! `cases.yaml` says, and judges them. `README.md` tells the conversation.

mod case;
mod failure;
mod judge;
mod network;
mod proto;
mod receiver;
mod runner;
mod script;
mod service;
mod session;

use std::io::Write;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::mpsc;
use tonic::transport::Server;

use crate::{
    network::Port,
    proto::{poll_service_server::PollServiceServer, push_service_server::PushServiceServer},
    script::Script,
    service::Scripted,
};

#[tokio::main]
async fn main() {
    let verdict = run().await;
    if let Err(error) = &verdict {
        let why: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let _ = writeln!(std::io::stderr(), "{}\n{error}", why.join(": "));
    }
    // Neither the listener nor a line that is still read keeps the process.
    std::process::exit(i32::from(verdict.is_err()))
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => list(),
        ["--case", name] => play(name).await,
        _ => bail!("usage: scripted --list | --case NAME"),
    }
}

fn list() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for case in case::all()? {
        writeln!(out, "{}", case.name)?;
    }
    Ok(())
}

async fn play(name: &str) -> Result<()> {
    let case = case::all()?
        .into_iter()
        .find(|case| case.name == name)
        .ok_or_else(|| anyhow!("there is no case {name}"))?;
    let (port, incoming) = Port::open().context("cannot listen on loopback")?;
    let (observations, observed) = mpsc::channel(1024);
    let scripted = Scripted(observations.clone());
    let server = Server::builder()
        .add_service(PollServiceServer::new(scripted.clone()))
        .add_service(PushServiceServer::new(scripted))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    tokio::spawn(runner::listen(observations.clone()));
    runner::say(&case.announcement(&port.address.to_string()))?;
    Script::new(case, port, observations, observed).play().await
}
