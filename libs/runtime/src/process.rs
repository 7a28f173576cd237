//! The `main` of every service: `serve`, `migrate`, `check-config`; and of parts that the same program runs.

use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    config::{self, ConfigError, Configuration},
    shutdown::Shutdown,
    status::Chain,
    telemetry::{self, TelemetryError},
};

/// Exit code when the work failed.
const FAILED: u8 = 1;
/// Exit code when the arguments or the configuration are wrong.
const MISUSED: u8 = 2;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a service does not run. The text is for the operator's terminal.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("cannot listen on `{address}`")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
    #[error("{what} failed")]
    Work {
        what: &'static str,
        #[source]
        source: BoxError,
    },
}

impl Fault {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => MISUSED,
            Self::Telemetry(_) | Self::Listen { .. } | Self::Runtime(_) | Self::Work { .. } => FAILED,
        }
    }
}

fn runtime() -> Result<Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Fault::Runtime)
}

/// Runs a service by the arguments of the process.
///
/// `run` gets a bound listener and a switch that SIGTERM and SIGINT throw; it opens its stores and serves. `migrate`
/// brings the service's schema up to date. Exit code: 0 done, 1 failed, 2 wrong arguments or configuration.
pub fn main<C, E, F>(run: impl AsyncFnOnce(C, TcpListener, Shutdown) -> Result<(), E>, migrate: impl AsyncFnOnce(C) -> Result<(), F>) -> ExitCode
where
    C: Configuration,
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    main_with(config::arguments(), run, migrate)
}

/// As [`main`], with the arguments given.
pub fn main_with<C, E, F>(
    arguments: impl IntoIterator<Item = OsString>,
    run: impl AsyncFnOnce(C, TcpListener, Shutdown) -> Result<(), E>,
    migrate: impl AsyncFnOnce(C) -> Result<(), F>,
) -> ExitCode
where
    C: Configuration,
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    exit(start(arguments, run, migrate))
}

/// Runs a part of `service` if the first argument of the process names it by its [`Configuration::SERVICE`]; `None` if it
/// does not. The other arguments are those of a service, but that a part serves if no command says otherwise and has nothing
/// to migrate.
pub fn part<C, E>(service: &str, run: impl AsyncFnOnce(C, TcpListener, Shutdown) -> Result<(), E>) -> Option<ExitCode>
where
    C: Configuration,
    E: Into<BoxError>,
{
    let mut arguments = config::arguments().peekable();
    arguments.next_if(|first| first == C::SERVICE)?;
    let program = format!("gumshoe-{service} {}", C::SERVICE);
    let usage = format!("usage: {program} [serve | check-config] [--config FILE] [--set KEY=VALUE]…\n");
    let invocation = match Invocation::parse(arguments, Some(Command::Serve)) {
        Ok(Invocation { command: Command::Migrate, .. }) => Err(Fault::Usage(format!("`{program}` has nothing to migrate\n{usage}"))),
        Ok(invocation) => Ok(invocation),
        Err(reason) => Err(Fault::Usage(format!("{reason}\n{usage}"))),
    };
    let nothing = async |_: C| Ok::<(), std::convert::Infallible>(());
    Some(exit(invocation.and_then(|invocation| carry_out(invocation, &usage, run, nothing))))
}

fn exit(outcome: Result<(), Fault>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // A closed terminal is no reason to fail in another way.
            let _ = writeln!(io::stderr(), "error: {}", Chain(&fault));
            ExitCode::from(fault.exit_code())
        }
    }
}

fn start<C, E, F>(
    arguments: impl IntoIterator<Item = OsString>,
    run: impl AsyncFnOnce(C, TcpListener, Shutdown) -> Result<(), E>,
    migrate: impl AsyncFnOnce(C) -> Result<(), F>,
) -> Result<(), Fault>
where
    C: Configuration,
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    let usage = usage(C::SERVICE);
    let invocation = Invocation::parse(arguments, None).map_err(|reason| Fault::Usage(format!("{reason}\n{usage}")))?;
    carry_out(invocation, &usage, run, migrate)
}

fn carry_out<C, E, F>(
    invocation: Invocation,
    usage: &str,
    run: impl AsyncFnOnce(C, TcpListener, Shutdown) -> Result<(), E>,
    migrate: impl AsyncFnOnce(C) -> Result<(), F>,
) -> Result<(), Fault>
where
    C: Configuration,
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    let load = || -> Result<C, ConfigError> {
        let configuration: C = config::load(C::SERVICE, invocation.file.as_deref(), &invocation.overrides)?;
        configuration.validate()?;
        Ok(configuration)
    };
    match invocation.command {
        Command::Help => print(usage),
        Command::Version => print(concat!(env!("CARGO_PKG_VERSION"), "\n")),
        Command::CheckConfig => print(&config::show(&load()?)?),
        Command::Migrate => {
            let configuration = load()?;
            runtime()?.block_on(async {
                let _guard = telemetry::init(configuration.telemetry(), C::SERVICE)?;
                migrate(configuration).await.map_err(|error| logged("migrate", error))
            })
        }
        Command::Serve => {
            let configuration = load()?;
            runtime()?.block_on(async {
                let _guard = telemetry::init(configuration.telemetry(), C::SERVICE)?;
                let shutdown = Shutdown::on_signals().map_err(Fault::Runtime)?;
                let address = configuration.listen().address;
                let listener = TcpListener::bind(address).await.map_err(|source| Fault::Listen { address: address.to_string(), source })?;
                run(configuration, listener, shutdown).await.map_err(|error| logged("serve", error))
            })
        }
    }
}

fn logged(what: &'static str, error: impl Into<BoxError>) -> Fault {
    let source = error.into();
    tracing::error!(error = %Chain(&*source), "{what} failed");
    Fault::Work { what, source }
}

fn print(text: &str) -> Result<(), Fault> {
    io::stdout().write_all(text.as_bytes()).map_err(|source| Fault::Work { what: "writing to standard output", source: source.into() })
}

fn usage(service: &str) -> String {
    format!(
        "usage: gumshoe-{service} COMMAND [--config FILE] [--set KEY=VALUE]…

commands:
  serve         serve until SIGTERM or SIGINT
  migrate       bring the schema up to date, then exit
  check-config  check the configuration and print it as TOML, secrets masked

The file is TOML. Environment variables win over it, flags over both:
  lake.url = \"…\"   GUMSHOE_{}__LAKE__URL=…   --set lake.url=…
",
        service.to_uppercase().replace('-', "_")
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Serve,
    Migrate,
    CheckConfig,
    Help,
    Version,
}

#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    command: Command,
    file: Option<PathBuf>,
    overrides: Vec<(String, String)>,
}

impl Invocation {
    /// Reads arguments; `default` is the command if they name none.
    fn parse(arguments: impl IntoIterator<Item = OsString>, default: Option<Command>) -> Result<Self, String> {
        let mut command = None;
        let (mut file, mut overrides) = (None, Vec::new());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.into_string().map_err(|_| "an argument is not UTF-8".to_owned())?;
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || match inline.clone() {
                Some(value) => Ok(value),
                None => arguments.next().and_then(|value| value.into_string().ok()).ok_or_else(|| format!("`{name}` needs a value")),
            };
            let found = match name {
                "--config" => {
                    file = Some(PathBuf::from(value()?));
                    continue;
                }
                "--set" => {
                    let value = value()?;
                    let (key, value) = value.split_once('=').ok_or_else(|| format!("`--set {value}` is not KEY=VALUE"))?;
                    overrides.push((key.to_owned(), value.to_owned()));
                    continue;
                }
                "serve" => Command::Serve,
                "migrate" => Command::Migrate,
                "check-config" => Command::CheckConfig,
                "help" | "--help" | "-h" => Command::Help,
                "--version" | "-V" => Command::Version,
                _ => return Err(format!("unknown argument `{argument}`")),
            };
            if command.replace(found).is_some() {
                return Err(format!("one command too many: `{argument}`"));
            }
        }
        Ok(Self { command: command.or(default).ok_or("no command")?, file, overrides })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Invocation, String> {
        Invocation::parse(arguments.iter().map(OsString::from), None)
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let expected = Invocation {
            command: Command::Serve,
            file: Some("a.toml".into()),
            overrides: vec![("lake.url".to_owned(), "file:///a?b=c".to_owned()), ("x".to_owned(), String::new())],
        };
        assert_eq!(parse(&["serve", "--config", "a.toml", "--set", "lake.url=file:///a?b=c", "--set=x="]).unwrap(), expected);
        assert_eq!(parse(&["--set=lake.url=file:///a?b=c", "--config=a.toml", "--set", "x=", "serve"]).unwrap(), expected);
        assert_eq!(parse(&["-h"]).unwrap().command, Command::Help);
        let part = Invocation::parse(["--config=a.toml"].map(OsString::from), Some(Command::Serve)).unwrap();
        assert_eq!((part.command, part.file), (Command::Serve, Some("a.toml".into())));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for (bad, reason) in [
            (&[][..], "no command"),
            (&["serve", "migrate"], "one command too many: `migrate`"),
            (&["serve", "--config"], "`--config` needs a value"),
            (&["serve", "--set", "x"], "`--set x` is not KEY=VALUE"),
            (&["serve", "--colour"], "unknown argument `--colour`"),
            (&["server=1"], "unknown argument `server=1`"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), reason);
        }
    }
}
