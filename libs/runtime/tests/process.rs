//! The `main` of a service as a process: subcommands, exit codes, signals.
//!
//! The process is this test binary again, told by a variable to run one test as the service.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Output, Stdio},
    time::Duration,
};

use gumshoe_runtime::{ConfigError, Configuration, Listen, Shutdown, Telemetry, process::main_with};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

const ARGUMENTS: &str = "RUNTIME_TEST_ARGUMENTS";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: Listen,
    #[serde(default)]
    telemetry: Telemetry,
    #[serde(default)]
    stubborn: bool,
    #[serde(default)]
    broken: bool,
}

impl Configuration for Settings {
    const SERVICE: &'static str = "test";

    fn validate(&self) -> Result<(), ConfigError> {
        if self.stubborn && self.broken { Err(ConfigError::key("broken", "not together with `stubborn`")) } else { Ok(()) }
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

async fn run(settings: Settings, listener: TcpListener, shutdown: Shutdown) -> Result<(), std::io::Error> {
    if settings.broken {
        return Err(std::io::Error::other("the store is broken"));
    }
    tracing::info!(port = listener.local_addr()?.port(), "up");
    shutdown.requested().await;
    tracing::info!("requested");
    if settings.stubborn {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[test]
fn service_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let code = main_with(arguments.split_whitespace().map(OsString::from), run, async |_: Settings| Err::<(), _>("no migrations"));
    // `ExitCode` cannot be read, only returned, and a test returns its own.
    let codes = [(ExitCode::SUCCESS, 0), (ExitCode::from(1), 1), (ExitCode::from(2), 2)];
    let number = codes.iter().find(|(candidate, _)| format!("{candidate:?}") == format!("{code:?}")).map_or(99, |(_, number)| *number);
    std::process::exit(number);
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "service_process", "--nocapture", "--test-threads=1"])
        .env(ARGUMENTS, arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn finish(arguments: &str, environment: &[(&str, &str)]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(arguments).envs(environment.iter().copied()).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

struct Started {
    child: Child,
    lines: std::sync::mpsc::Receiver<serde_json::Value>,
}

impl Started {
    fn new(arguments: &str) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness writes a line or two of its own.
                if let Some(start) = line.find('{')
                    && let Ok(line) = serde_json::from_str(&line[start..])
                    && sender.send(line).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn wait_for(&self, message: &str) {
        while self.lines.recv_timeout(Duration::from_secs(20)).unwrap()["message"] != message {}
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap().success());
    }

    fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn check_config_prints_what_is_in_force() {
    let (code, stdout, stderr) = finish(
        "check-config --set listen.address=127.0.0.1:7",
        &[("GUMSHOE_TEST__TELEMETRY__LEVEL", "warn"), ("GUMSHOE_TEST__LISTEN__ADDRESS", "127.0.0.1:6")],
    );
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("address = \"127.0.0.1:7\"") && stdout.contains("level = \"warn\""), "{stdout}");
}

#[test]
fn wrong_use_exits_with_2_and_failure_with_1() {
    let cases = [
        ("", &[][..], 2, "no command"),
        ("serve", &[], 2, "configuration key `listen`: required"),
        ("serve --set listen.address=127.0.0.1:0", &[("GUMSHOE_TEST__COLOUR", "blue")], 2, "configuration key `colour`: unknown"),
        ("serve --set listen.address=127.0.0.1:0 --set broken=true --set stubborn=true", &[], 2, "configuration key `broken`: not together with `stubborn`"),
        ("serve --set listen.address=192.0.2.1:1", &[], 1, "cannot listen on `192.0.2.1:1`"),
        ("serve --set listen.address=127.0.0.1:0 --set broken=true", &[], 1, "serve failed: the store is broken"),
        ("migrate --set listen.address=127.0.0.1:0", &[], 1, "migrate failed: no migrations"),
    ];
    for (arguments, environment, expected, message) in cases {
        let (code, _, stderr) = finish(arguments, environment);
        assert_eq!(code, expected, "{arguments}: {stderr}");
        assert!(stderr.contains(&format!("error: {message}")), "{arguments}: {stderr}");
    }
}

#[test]
fn a_signal_ends_the_service_in_order() {
    for signal in ["TERM", "INT"] {
        let service = Started::new("serve --set listen.address=127.0.0.1:0");
        service.wait_for("up");
        service.signal(signal);
        service.wait_for("requested");
        assert_eq!(service.exit_code(), 0, "{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let service = Started::new("serve --set listen.address=127.0.0.1:0 --set stubborn=true");
    service.wait_for("up");
    service.signal("TERM");
    service.wait_for("requested");
    service.signal("INT");
    assert_eq!(service.exit_code(), 130);
}
