//! The `gumshoe` command line, run as a user runs it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    client::Client,
    process::{binary, clean},
};

/// Runs `gumshoe` commands for one caller, with a home folder of its own.
#[derive(Debug)]
pub struct Cli {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }

    /// Standard output as JSON lines.
    ///
    /// # Panics
    /// When one of them is none.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}\n{line}"))).collect()
    }
}

impl Cli {
    /// Commands with a client's token and graph.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        let variables = [("GUMSHOE_ENDPOINT", &client.endpoint), ("GUMSHOE_TOKEN", &client.token), ("GUMSHOE_GRAPH", &client.graph_arn)];
        Self::with(variables.map(|(name, value)| (name, value.as_str())))
    }

    /// Commands with these environment variables and no credentials of their own.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn with<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { home: tempfile::tempdir().unwrap(), variables }
    }

    /// Its home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs a command to its end, whatever that is.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = tokio::process::Command::from(clean(&binary("gumshoe")));
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("HOME", self.home()).env("XDG_CONFIG_HOME", PathBuf::from(self.home()).join("config"));
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs a command that must succeed, and reads what it prints as JSON.
    ///
    /// # Panics
    /// When it fails, or does not print JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["--output", "json"].into_iter().chain(arguments.iter().copied()).collect();
        let ran = self.run(&all).await;
        assert_eq!(ran.code, Some(0), "gumshoe {}\nstdout: {}\nstderr: {}", arguments.join(" "), ran.stdout, ran.stderr);
        ran.json()
    }
}
