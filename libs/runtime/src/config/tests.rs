//! Precedence, unknown keys, masking.

use serde::Deserialize;

use super::*;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: Listen,
    lake: Lake,
    #[serde(default)]
    telemetry: Telemetry,
    #[serde(default)]
    server: ServerOptions,
    #[serde(default, serialize_with = "masked_option", skip_serializing_if = "Option::is_none")]
    page_key: Option<SecretString>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lake {
    #[serde(serialize_with = "masked_url")]
    url: Url,
    #[serde(serialize_with = "masked")]
    secret_key: SecretString,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    fraction: Option<f64>,
}

impl Configuration for Settings {
    const SERVICE: &'static str = "graph";

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate("server")
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

const FILE: &str = r#"
[listen]
address = "127.0.0.1:1"
[lake]
url = "postgres://gumshoe:hunter2@localhost/lake"
secret_key = "hunter2"
regions = ["us-east-1"]
[server]
timeout_seconds = 7
"#;

fn read(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gumshoe.toml");
    std::fs::write(&path, file).unwrap();
    let environment: Vec<(OsString, OsString)> = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let flags: Vec<_> = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    load_from("graph", Some(&path), environment, &flags)
}

fn refused(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    read(file, environment, flags).unwrap_err().to_string()
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let settings = read(FILE, &[], &[]).unwrap();
    assert_eq!((settings.listen.address.port(), settings.server.timeout_seconds, settings.server.grace_seconds), (1, 7, 25));

    let environment = [
        ("GUMSHOE_GRAPH__LISTEN__ADDRESS", "127.0.0.1:2"),
        ("GUMSHOE_GRAPH__SERVER__TIMEOUT_SECONDS", "8"),
        ("GUMSHOE_INGEST__NO", "x"),
        ("GUMSHOE_GRAPH_PORT", "tcp://"),
    ];
    let settings = read(FILE, &environment, &[]).unwrap();
    assert_eq!((settings.listen.address.port(), settings.server.timeout_seconds), (2, 8));
    assert_eq!(settings.lake.regions, ["us-east-1"], "keys beside an overridden one stay");

    let settings = read(FILE, &environment, &[("listen.address", "127.0.0.1:3"), ("listen.address", "127.0.0.1:4")]).unwrap();
    assert_eq!((settings.listen.address.port(), settings.server.timeout_seconds), (4, 8));
}

#[test]
fn text_becomes_what_the_field_needs() {
    use secrecy::ExposeSecret as _;
    let environment = [
        ("GUMSHOE_GRAPH__LAKE__SECRET_KEY", "007"),
        ("GUMSHOE_GRAPH__LAKE__REGIONS", r#"["eu-west-1", "eu-west-2"]"#),
        ("GUMSHOE_GRAPH__LAKE__FRACTION", "0.5"),
        ("GUMSHOE_GRAPH__SERVER__REFLECTION", "false"),
        ("GUMSHOE_GRAPH__TELEMETRY__FORMAT", "text"),
        ("GUMSHOE_GRAPH__TELEMETRY__OTLP", "http://collector:4317"),
    ];
    let settings = read(FILE, &environment, &[("server", "{ tls = { certificate = \"c\", key = \"k\" } }")]).unwrap();
    assert_eq!(settings.lake.secret_key.expose_secret(), "007");
    assert_eq!(settings.lake.regions, ["eu-west-1", "eu-west-2"]);
    assert_eq!(settings.lake.fraction, Some(0.5));
    assert!(!settings.server.reflection);
    assert_eq!(settings.server.tls.unwrap().key, PathBuf::from("k"));
    assert_eq!(settings.server.timeout_seconds, 7, "tables merge");
    assert_eq!(settings.telemetry.format, LogFormat::Text);
    assert_eq!(settings.telemetry.otlp.unwrap().port(), Some(4317));
}

#[test]
fn errors_name_the_key_and_never_the_value() {
    let unknown = refused(FILE, &[("GUMSHOE_GRAPH__LAKE__COLOUR", "blue")], &[]);
    assert!(unknown.starts_with("configuration key `lake.colour`: unknown, expected one of"), "{unknown}");
    let unknown = refused(FILE, &[], &[("colour", "blue")]);
    assert!(unknown.starts_with("configuration key `colour`: unknown, expected one of"), "{unknown}");
    let unknown = refused(&FILE.replace("timeout_seconds", "timeout"), &[], &[]);
    assert!(unknown.starts_with("configuration key `server.timeout`: unknown"), "{unknown}");
    let missing = refused(&FILE.replace("secret_key = \"hunter2\"\n", ""), &[], &[]);
    assert_eq!(missing, "configuration key `lake.secret_key`: required");
    let wrong = refused(FILE, &[("GUMSHOE_GRAPH__SERVER__TIMEOUT_SECONDS", "hunter2")], &[]);
    assert!(wrong.starts_with("configuration key `server.timeout_seconds`: expected"), "{wrong}");
    let wrong = refused(&FILE.replace("[\"us-east-1\"]", "\"hunter3\""), &[], &[]);
    assert!(wrong.starts_with("configuration key `lake.regions`: expected") && !wrong.contains("hunter3"), "{wrong}");
    let wrong = refused(FILE, &[], &[("listen.address", "nowhere")]);
    assert!(wrong.starts_with("configuration key `listen.address`: "), "{wrong}");
    let wrong = refused(&FILE.replace("postgres://gumshoe:", "gumshoe/"), &[], &[]);
    assert!(wrong.starts_with("configuration key `lake.url`: ") && !wrong.contains("hunter2"), "{wrong}");
    for bad in ["", ".", "lake..url", "lake."] {
        assert!(read(FILE, &[], &[(bad, "x")]).is_err(), "{bad}");
    }
    let syntax = refused(&format!("{FILE}\n= hunter2"), &[], &[]);
    assert!(syntax.contains("is not TOML: line 11") && !syntax.contains("hunter2"), "{syntax}");
    let absent: Result<Settings, _> = load_from("graph", Some(Path::new("/nonexistent/gumshoe.toml")), [], &[]);
    assert_eq!(absent.unwrap_err().to_string(), "configuration file `/nonexistent/gumshoe.toml` cannot be read");
}

#[test]
fn shown_configuration_has_no_secrets_and_reads_back() {
    let settings = read(FILE, &[], &[("page_key", "hunter2")]).unwrap();
    let shown = show(&settings).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("secret_key = \"[redacted]\"") && shown.contains("page_key = \"[redacted]\""), "{shown}");
    assert!(shown.contains("postgres://gumshoe:[redacted]@localhost/lake"), "{shown}");
    assert!(!format!("{settings:?}").contains("secret_key: \"hunter2\""));
    let again = read(&shown.replace("postgres://gumshoe:[redacted]@", "postgres://"), &[], &[]).unwrap();
    assert_eq!(again.server, settings.server);
    let zero = read(FILE, &[], &[("server.max_concurrent_calls", "0")]).unwrap();
    assert_eq!(zero.validate().unwrap_err().to_string(), "configuration key `server.max_concurrent_calls`: must be at least 1");
}
