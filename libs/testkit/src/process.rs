//! A child process with its log, killed when it is dropped; and where the project's binaries are.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How much of a log is shown when a test fails.
const LINES_SHOWN: usize = 40;
const POLL: Duration = Duration::from_millis(20);

/// A running program. What it writes goes to a file, whose end is printed if the test panics.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output is appended to `log`. It sees none of the `GUMSHOE_…` variables of the test itself.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: impl IntoIterator<Item = (String, String)>,
        log: &Path,
    ) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", log.display()));
        let mut command = clean(program);
        command.args(arguments).envs(environment).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{}`: {error}", program.display()));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it with SIGKILL: it can do nothing about it.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal: `STOP`, `TERM`.
    ///
    /// # Panics
    /// When it is not there.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{} is not there to be told {name}\n{}", self.name, self.log());
    }

    /// Asks it to end, with SIGTERM, and waits.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal("TERM");
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(Instant::now() < end, "{} is still there {patience:?} after SIGTERM", self.name);
            thread::sleep(POLL);
        }
    }

    /// The most memory it ever had in use, in bytes.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a running process under /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM in /proc/PID/status");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
    }

    /// Everything it has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the log of {}", self.name);
            for line in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)) {
                eprintln!("{line}");
            }
        }
    }
}

/// A command that sees none of the `GUMSHOE_…` and AWS variables of the test itself.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("GUMSHOE_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The path of one of the project's binaries: `gumshoe`, `gumshoe-graph`.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("GUMSHOE_TEST_BINARIES").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            // Tests lie in `target/PROFILE/deps`, binaries in `target/PROFILE`.
            let folder = test.parent().unwrap();
            if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(path.is_file(), "`{}` has not been built: run `cargo build --workspace --all-targets` first", path.display());
    path
}

/// A port that nobody listens on, out of the range that the system gives to clients.
///
/// # Panics
/// When none is found.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
        let port = 16_384 + (u16::from_be_bytes([high, low]) & 0x3fff);
        if port < 32_768 && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 16384 and 32767");
}
