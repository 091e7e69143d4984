//! The `eventstream` program: the service, and clients of it.

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use futoin_eventstream::{app, cli, config, config::Config, doctor, soak, telemetry};

/// With musl's own allocator, one lock for all threads, an event costs half as
/// much processor time again.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Flag of `migrate`.
const WIDEN: &str = "widen";

/// Option of `migrate`.
const PRINT_GRANTS: &str = "print-grants";

/// Exit code of a configuration that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let program = program();
    let matches = program.clone().get_matches();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), 1),
    };
    runtime.block_on(async {
        match matches.subcommand() {
            Some(("serve", matches)) => serve(matches).await,
            Some(("migrate", matches)) => migrate(matches).await,
            Some(("check-config", matches)) => check_config(matches),
            Some(("doctor", matches)) => match load(matches) {
                Ok(config) => doctor::run(matches, &config).await,
                Err(code) => code,
            },
            Some(("soak", matches)) => soak::run(matches).await,
            _ => cli::run(program, &matches).await,
        }
    })
}

fn program() -> Command {
    let serve = config::serve_command();
    let migrate = serve
        .clone()
        .name("migrate")
        .about("Make or adopt the tables, and end")
        .arg(
            Arg::new(PRINT_GRANTS)
                .long(PRINT_GRANTS)
                .action(ArgAction::SetTrue)
                .help("Print the least that roles must be granted, and change nothing"),
        )
        .arg(Arg::new(WIDEN).long(WIDEN).action(ArgAction::SetTrue).help(
            "MySQL, MariaDB: also make adopted columns take all of Unicode, data of any \
                     size and names by letter case; rewrites the tables, writers wait",
        ))
        .after_help("Prints the steps that were applied. Takes the options of serve.");
    let check = serve
        .clone()
        .name("check-config")
        .about("Report every fault of the configuration, and end")
        .after_help("Takes the options of serve. Exits with 2 if there is a fault.");
    let program = Command::new("eventstream")
        .about("A transactional event stream over gRPC (FutoIn EventStream, FTN18)")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(migrate)
        .subcommand(check)
        .subcommand(doctor::command())
        .subcommand(soak::command());
    cli::augment(program)
}

async fn serve(matches: &ArgMatches) -> ExitCode {
    let config = match load(matches) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = telemetry::init(config.log.format, &config.log.filter) {
        return complain(&format!("{error:#}"), 1);
    }
    if let Some(options) = &config.traces
        && let Err(error) = telemetry::start_traces(options)
    {
        return complain(&format!("{error:#}"), 1);
    }
    match app::serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn migrate(matches: &ArgMatches) -> ExitCode {
    let config = match load(matches) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if matches.get_flag(PRINT_GRANTS) {
        return match app::grants(&config).await {
            Ok(text) => say(&text),
            Err(error) => complain(&format!("{error:#}"), 1),
        };
    }
    let applied = async {
        let mut done: Vec<String> = Vec::new();
        if matches.get_flag(WIDEN) {
            // First: a column may be one that cannot be served.
            done.extend(app::widen(&config).await?);
        }
        done.extend(
            app::pending_steps(&config)
                .await?
                .into_iter()
                .map(Into::into),
        );
        app::open(&config).await?.close().await;
        anyhow::Ok(done)
    };
    match applied.await {
        Ok(done) if done.is_empty() => say("nothing to do"),
        Ok(done) => say(&format!("applied: {}", done.join(", "))),
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

fn check_config(matches: &ArgMatches) -> ExitCode {
    match load(matches) {
        Ok(_) => say("the configuration is fine"),
        Err(code) => code,
    }
}

fn load(matches: &ArgMatches) -> Result<Config, ExitCode> {
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    config::load(matches, config::environment(), read_file)
        .map_err(|faults| complain(&faults.to_string(), USAGE))
}

fn say(text: &str) -> ExitCode {
    // A closed pipe is the reader's choice.
    let _ = writeln!(stdout(), "{text}");
    ExitCode::SUCCESS
}

fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(stderr(), "{text}");
    ExitCode::from(code)
}
