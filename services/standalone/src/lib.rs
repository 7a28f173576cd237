//! The `gumshoe` program: the whole server in one process, and the client of any server.
//!
//! | module | holds |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`serve`] | the five services in one process |
//! | [`commands`] | the client's commands |
//! | [`entity`] | from what a person types to an entity |
//! | [`rpc`] | the connection to a server, its messages and failures |
//! | [`credentials`] | what `login` keeps |
//! | [`generate`] | sample logs of any size |
//! | [`evaluate`] | what is detected in labelled logs |
//! | [`output`], [`progress`], [`quantity`] | what people see and type |

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

mod arguments;
mod commands;
mod credentials;
mod entity;
mod evaluate;
mod generate;
mod output;
mod progress;
mod quantity;
mod rpc;
mod serve;

use arguments::{Arguments, Command};
use rpc::Failure;

/// Does what the command line says; exit codes are in `gumshoe --help`.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Closed) {
                output::note(&format!("error: {failure}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "gumshoe", &mut script);
            return output::write(&String::from_utf8_lossy(&script));
        }
        Command::CheckConfig(serve) => return serve::check(serve),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::serve("the runtime", &error))?;
    runtime.block_on(async {
        match &arguments.command {
            Command::Serve(serve) => serve::serve(serve, arguments.output).await,
            _ => commands::run(arguments).await,
        }
    })
}
