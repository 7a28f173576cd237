"""Starts `gumshoe serve` in a folder of its own, and calls the command line against it."""

import json
import os
import pathlib
import subprocess
import tempfile
import threading
import tomllib


def binary(profile="debug"):
    """The `gumshoe` program: GUMSHOE, or the one that cargo built."""
    if os.environ.get("GUMSHOE"):
        return os.environ["GUMSHOE"]
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.expanduser("~/.cache/gumshoe/target")
    path = pathlib.Path(target) / profile / "gumshoe"
    if not path.exists():
        raise SystemExit(f"{path} is missing: build it first")
    return str(path)


class Failed(Exception):
    """A command that did not exit with 0."""


class Server:
    """A server with its own folder; ends and is removed with the `with` block. A given folder stays, and may be started in again."""

    def __init__(self, program, *options, folder=None, settings=None):
        self.program = program
        self.options = options
        self.folder = folder
        self.settings = settings or {}

    def __enter__(self):
        self._temporary = None if self.folder else tempfile.TemporaryDirectory(prefix="gumshoe-")
        self.folder = self.folder or self._temporary.name
        self.log = open(os.path.join(self.folder, "server.log"), "w")
        command = [self.program, "--output", "json", "serve", "--data", os.path.join(self.folder, "data"), "--listen", "127.0.0.1:0", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, text=True, env=dict(os.environ, **self.settings))
        self.environment = dict(os.environ, XDG_CONFIG_HOME=os.path.join(self.folder, "config"))
        for name in ("GUMSHOE_TOKEN", "GUMSHOE_GRAPH", "GUMSHOE_OUTPUT"):
            self.environment.pop(name, None)
        known = pathlib.Path(self.folder, "first-start.json")
        first = json.loads(known.read_text()) if known.exists() else None
        timer = threading.Timer(180, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                event = json.loads(line)
                if event["event"] == "credentials":
                    # They are shown this once.
                    first = event
                    known.write_text(line)
                if event["event"] == "serving":
                    self.access_key_id = self.environment["GUMSHOE_ACCESS_KEY_ID"] = first["access_key_id"]
                    self.secret_access_key = self.environment["GUMSHOE_SECRET_ACCESS_KEY"] = first["secret_access_key"]
                    self.graph = first["graph_arn"]
                    self.endpoint = self.environment["GUMSHOE_ENDPOINT"] = event["endpoint"]
                    # One token for all commands.
                    self.run("login", "--lifetime", "12h")
                    for name in ("GUMSHOE_ACCESS_KEY_ID", "GUMSHOE_SECRET_ACCESS_KEY"):
                        self.environment.pop(name)
                    return self
        finally:
            timer.cancel()
        self.__exit__()
        raise SystemExit("the server did not start:\n" + open(self.log.name).read())

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()
        if self._temporary:
            self._temporary.cleanup()

    def command(self, *arguments):
        """The command line's result: exit code, standard output, standard error."""
        done = subprocess.run([self.program, *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def run(self, *arguments):
        """The command's standard output; raises Failed if it fails."""
        code, out, err = self.command(*arguments)
        if code != 0:
            raise Failed(f"gumshoe {' '.join(arguments)}: exit code {code}\n{err}")
        return out

    def json(self, *arguments):
        """The command's answer as JSON."""
        return json.loads(self.run("--output", "json", *arguments))

    def processor_seconds(self):
        """What the server has spent of its processors, in seconds."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def token(self):
        """The bearer token of the commands."""
        with open(os.path.join(self.environment["XDG_CONFIG_HOME"], "gumshoe", "credentials.toml"), "rb") as file:
            return tomllib.load(file)["token"]

    def peak_memory(self):
        """The server's peak resident memory in bytes, as the kernel counts it."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
