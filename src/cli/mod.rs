//! The subcommands that are gRPC clients of a running server.
//!
//! They know the contract in `proto/` and nothing of the server's insides, so
//! each is also an example of a client; `archive` opens a warehouse besides. Results go to stdout, everything said
//! to a person goes to stderr, and the exit code tells a script what happened
//! (`failure::EXIT_CODES`). Nothing here spawns tasks.

mod add;
mod archive;
mod connect;
mod consumers;
mod credentials;
mod failure;
mod frontier;
mod healthcheck;
mod import;
mod interrupt;
mod output;
mod poll;
mod retry;
mod session;
mod status;
mod tail;
mod token;
mod values;
mod views;

#[cfg(test)]
mod scenarios;

use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches, Subcommand};

use self::{
    failure::{Exit, Failure},
    output::{Format, Output},
};

// The client subcommands.
#[expect(
    missing_docs,
    reason = "clap would put it in the place of the program's own description"
)]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an event, or import many from stdin
    Add(add::Args),
    /// Read events of a consumer, page by page
    Poll(poll::Args),
    /// Print events as they come
    Tail(tail::Args),
    /// List, register, unregister and move consumers
    Consumers(consumers::Args),
    /// Show the state of the stream, and what holds it up
    Status(status::Args),
    /// Copy events into a warehouse, or check one
    Archive(archive::Args),
    /// Override what keeps events waiting
    Frontier(frontier::Args),
    /// Ask whether the server is serving (grpc.health.v1)
    Healthcheck(healthcheck::Args),
    /// Make a bearer token, and its hash for the file of users
    Token(token::Args),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  \
        eventstream completions bash > /etc/bash_completion.d/eventstream\n  \
        eventstream completions fish > ~/.config/fish/completions/eventstream.fish")]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

/// Adds the client subcommands to the program.
#[must_use]
pub fn augment(program: clap::Command) -> clap::Command {
    Command::augment_subcommands(program)
}

/// Runs the subcommand that `matches` of an augmented program name.
///
/// Errors were printed to stderr when this returns. Dropping the future
/// abandons the call under way.
pub async fn run(program: clap::Command, matches: &ArgMatches) -> ExitCode {
    match Command::from_arg_matches(matches) {
        Ok(command) => command.run(program).await,
        Err(error) => {
            Output::standard(Format::TEXT).note(error);
            Exit::Usage.into()
        }
    }
}

impl Command {
    /// Runs it; `program` is the whole command line, for `completions`.
    pub async fn run(self, program: clap::Command) -> ExitCode {
        let mut output = Output::standard(self.format());
        let result = match &self {
            Self::Add(args) => add::run(args, &mut output).await,
            Self::Poll(args) => poll::run(args, &mut output).await,
            Self::Tail(args) => tail::run(args, &mut output).await,
            Self::Consumers(args) => consumers::run(args, &mut output).await,
            Self::Status(args) => status::run(args, &mut output).await,
            Self::Archive(args) => archive::run(args, &mut output).await,
            Self::Frontier(args) => frontier::run(args, &mut output).await,
            Self::Healthcheck(args) => return healthcheck::run(args, &mut output).await,
            Self::Token(args) => token::run(args, &mut output),
            Self::Completions { shell } => completions(*shell, program, &mut output),
        };
        let result = result.and_then(|()| output.flush().map_err(Failure::Output));
        match result {
            Ok(()) => Exit::Done.into(),
            Err(failure) => {
                failure.report(self.component(), &mut output);
                failure.exit().into()
            }
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Add(args) => args.format,
            Self::Poll(args) => args.format,
            Self::Tail(args) => args.format,
            Self::Consumers(args) => args.format(),
            Self::Status(args) => args.format,
            Self::Archive(args) => args.format(),
            Self::Frontier(args) => args.format(),
            Self::Healthcheck(args) => args.format,
            Self::Token(args) => args.format,
            Self::Completions { .. } => Format::TEXT,
        }
    }

    /// The component that hints in error texts speak of.
    fn component(&self) -> Option<&str> {
        match self {
            Self::Poll(args) => Some(&args.component),
            Self::Tail(args) => args.component.as_deref(),
            Self::Consumers(args) => args.component(),
            Self::Archive(args) => Some(&args.component),
            Self::Add(_)
            | Self::Status(_)
            | Self::Frontier(_)
            | Self::Healthcheck(_)
            | Self::Token(_)
            | Self::Completions { .. } => None,
        }
    }
}

fn completions(
    shell: clap_complete::Shell,
    mut program: clap::Command,
    output: &mut Output,
) -> Result<(), Failure> {
    let name = program.get_name().to_owned();
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    output.raw(&script).map_err(Failure::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound() {
        augment(clap::Command::new("eventstream")).debug_assert();
    }

    #[test]
    fn the_program_keeps_its_own_description() {
        let program = augment(clap::Command::new("eventstream").about("its own"));
        assert_eq!(
            program.get_about().map(ToString::to_string).as_deref(),
            Some("its own")
        );
    }

    #[test]
    fn every_client_names_its_exit_codes_and_examples() {
        let mut program = augment(clap::Command::new("eventstream"));
        program.build();
        for name in [
            "add",
            "poll",
            "tail",
            "consumers",
            "status",
            "archive",
            "frontier",
            "healthcheck",
        ] {
            let command = program.find_subcommand_mut(name).expect("it is ours");
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{name} has no examples");
            assert!(help.contains("Exit codes:"), "{name} has no exit codes");
            assert!(help.contains("EVENTSTREAM_ADDR"), "{name}: {help}");
        }
    }
}
