//! Rules of this repository that the compiler does not know: dependency arrows, file lengths, names. Each failure says
//! what to do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Lines of a file that are a warning, and that are too many. Tests may be longer.
const SOFT_LIMIT: usize = 500;
const HARD_LIMIT: usize = 800;
/// Lines of a service's `main.rs`.
const MAIN_LIMIT: usize = 40;
/// The five services; standalone runs them all.
const SERVICES: [&str; 5] = ["gateway", "graph", "ingest", "investigation", "membership"];
/// For each library the project's own that it may depend on. A new arrow is a decision: write it into `docs/decisions`.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("api", &["model"]),
    ("runtime", &["api", "model"]),
    ("iam", &["model"]),
    ("records", &["model"]),
    ("behavior", &["model"]),
    ("enrich", &["model"]),
    ("detections", &["model"]),
    ("profiles", &["model"]),
    // The lake takes events in the columns that `records` defines.
    ("lake", &["model", "records"]),
    ("testkit", &["api", "model", "runtime"]),
];
/// Arrows of tests and examples alone: rules are tried on records as ingest reads them.
const DEV_ARROWS: &[(&str, &str)] = &[("detections", "records")];
/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "manager"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A source file, by its path under the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.starts_with("tests/") || self.path.starts_with("libs/testkit/")
    }

    /// Lines that are code, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(number, line)| (number + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The first line that names a crate, `sqlx::`, alone or with what its name begins.
    fn names(&self, krate: &str) -> Option<usize> {
        self.code().find(|(_, line)| names_crate(line, krate)).map(|(number, _)| number)
    }
}

/// Whether a line has `KRATE::` or `KRATE_something::` as a path's first segment.
fn names_crate(line: &str, krate: &str) -> bool {
    line.match_indices(krate).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let rest = line[start + krate.len()..].trim_start_matches(|next: char| next.is_ascii_alphanumeric() || next == '_');
        let whole = before.is_none_or(|before| !(before.is_alphanumeric() || before == '_'));
        let extended = line[start + krate.len()..].chars().next().is_some_and(|next| next.is_ascii_alphanumeric());
        whole && !extended && rest.starts_with("::") && !line[..start].ends_with("::")
    })
}

fn walk(folder: &Path, wanted: &impl Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules" | ".git" | "dist" | "__pycache__" | ".venv") {
                walk(&path, wanted, found);
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
}

fn files(extensions: &[&str]) -> Vec<Source> {
    let wanted = |path: &Path| path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension));
    let mut found = Vec::new();
    walk(&root(), &wanted, &mut found);
    found.sort();
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    found.iter().map(|path| Source { path: relative(path), text: String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned() }).collect()
}

fn rust() -> Vec<Source> {
    let sources = files(&["rs"]);
    assert!(sources.len() > 100, "only {} source files were found under {}", sources.len(), root().display());
    sources
}

/// Fails with all findings at once, and what to do about them.
fn none(findings: Vec<String>, what_to_do: &str) {
    assert!(findings.is_empty(), "\n{what_to_do}\n  {}\n", findings.join("\n  "));
}

/// A package of the workspace.
struct Package {
    name: String,
    /// `libs`, `services` or `tests`.
    group: String,
    folder: String,
    /// Name and kind (`normal`, `dev`, `build`) of what it depends on.
    dependencies: Vec<(String, String)>,
}

impl Package {
    fn normal(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|(_, kind)| kind != "dev").map(|(name, _)| name.as_str())
    }
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let package = |value: &Value| {
        let manifest = PathBuf::from(text(&value["manifest_path"]));
        let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_owned();
        let dependencies = value["dependencies"].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["kind"]))).collect();
        Package {
            name: text(&value["name"]),
            group: folder.iter().next().unwrap().to_string_lossy().into_owned(),
            folder: folder.file_name().unwrap().to_string_lossy().into_owned(),
            dependencies,
        }
    };
    let packages: BTreeMap<_, _> = metadata["packages"].as_array().unwrap().iter().map(package).map(|package| (package.name.clone(), package)).collect();
    assert!(packages.len() > 10, "only {} packages", packages.len());
    packages
}

#[test]
fn libraries_depend_only_on_what_their_place_allows() {
    let packages = packages();
    let mut findings = Vec::new();
    for package in packages.values().filter(|package| package.group == "libs") {
        let Some((_, allowed)) = LIBRARIES.iter().find(|(name, _)| *name == package.folder) else {
            findings.push(format!("libs/{} is not in the table LIBRARIES of this test", package.folder));
            continue;
        };
        for (name, kind) in &package.dependencies {
            let Some(other) = packages.get(name) else { continue };
            let fits = match other.group.as_str() {
                "libs" => {
                    let arrow = (package.folder.as_str(), other.folder.as_str());
                    allowed.contains(&other.folder.as_str()) || (kind == "dev" && (other.folder == "testkit" || DEV_ARROWS.contains(&arrow)))
                }
                _ => false,
            };
            if !fits {
                findings.push(format!("libs/{} depends on {}/{}", package.folder, other.group, other.folder));
            }
        }
    }
    none(findings, "Arrows point from services to libraries, and among libraries as in CONTRIBUTING: take the dependency out of Cargo.toml, or move the code.");
}

#[test]
fn no_service_depends_on_another() {
    let packages = packages();
    let services: Vec<&Package> = packages.values().filter(|package| package.group == "services").collect();
    let found: BTreeSet<&str> = services.iter().map(|package| package.folder.as_str()).collect();
    assert!(SERVICES.iter().all(|name| found.contains(name)) && found.contains("standalone"), "{found:?}");
    let mut findings = Vec::new();
    for package in &services {
        for name in package.normal() {
            let Some(other) = packages.get(name) else { continue };
            if other.group == "services" && package.folder != "standalone" {
                findings.push(format!("services/{} depends on services/{}", package.folder, other.folder));
            }
            if other.folder == "testkit" {
                findings.push(format!("services/{} depends on testkit outside its tests", package.folder));
            }
        }
    }
    none(findings, "Services talk gRPC and nothing else: call the other through libs/api, or move what both need into a library.");
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    let mut findings = Vec::new();
    for package in packages().values() {
        let at = format!("{}/{}", package.group, package.folder);
        for name in package.normal() {
            let lake = name.starts_with("datafusion") || name.starts_with("deltalake") || name.starts_with("ballista");
            if lake && at != "libs/lake" {
                findings.push(format!("{at} depends on {name}: only libs/lake may; use what it exports"));
            }
            if name == "sqlx"
                && !matches!(
                    at.as_str(),
                    "services/membership" | "services/investigation" | "services/ingest" | "services/graph" | "libs/runtime" | "libs/testkit"
                )
            {
                findings.push(format!("{at} depends on sqlx: only services with a `store` may, and what stores stand on"));
            }
            if matches!(package.folder.as_str(), "model" | "iam" | "behavior" | "detections")
                && matches!(name, "tokio" | "tonic" | "prost" | "reqwest" | "sqlx")
            {
                findings.push(format!("{at} depends on {name}, but is pure"));
            }
        }
    }
    none(findings, "Some crates are kept in one place, so that they can be changed there:");
}

#[test]
fn sql_is_only_in_stores() {
    let findings = rust()
        .into_iter()
        .filter(|source| !source.is_test() && !source.path.contains("/store"))
        .filter_map(|source| source.names("sqlx").map(|line| format!("{}:{line}", source.path)));
    none(findings.collect(), "sqlx is only in `store.rs` and `store/`: move the query behind the store's trait.");
}

#[test]
fn the_wire_is_only_at_the_edges() {
    let allowed = |path: &str| {
        ["libs/api/", "libs/runtime/", "services/gateway/", "services/standalone/"].iter().any(|start| path.starts_with(start))
            || ["/rpc.rs", "/lib.rs", "/commit.rs", "/error.rs"].iter().any(|end| path.ends_with(end))
            || path.contains("/rpc/")
    };
    let mut findings = Vec::new();
    for source in rust().iter().filter(|source| !source.is_test() && !allowed(&source.path)) {
        for krate in ["tonic", "prost"] {
            // Times and durations of the protocol are plain values.
            let line = source.code().find(|(_, line)| names_crate(line, krate) && !line.contains("prost_types::"));
            findings.extend(line.map(|(line, _)| format!("{}:{line} names {krate}", source.path)));
        }
    }
    let message = "tonic and prost are only in libs/api, libs/runtime, the gateway, standalone, and `lib.rs`, `error.rs`, `commit.rs`, `rpc.rs` and `rpc/` of a \
                   service: let the domain speak the model's types, and convert in `rpc`.";
    none(findings, message);
}

#[test]
fn the_environment_is_only_read_by_the_configuration() {
    let allowed = |path: &str| path == "libs/runtime/src/config.rs" || path.ends_with("/build.rs") || path.contains("/examples/") || path.contains("/fuzz/");
    let reads = ["env::var", "env::vars", "env::args", "env::set_var", "option_env!"];
    let mut findings = Vec::new();
    for source in rust().iter().filter(|source| !source.is_test() && !allowed(&source.path)) {
        let line = source.code().find(|(_, line)| reads.iter().any(|read| line.contains(read)) || line.contains("std::env"));
        findings.extend(line.map(|(number, line)| format!("{}:{number} {}", source.path, line.trim())));
    }
    none(findings, "The environment is read in libs/runtime/src/config.rs alone: make it a configuration key, or use `gumshoe_runtime::config::environment`.");
}

#[test]
fn files_are_short_and_begin_with_what_they_are() {
    let (mut long, mut silent) = (Vec::new(), Vec::new());
    for source in rust() {
        let lines = source.text.lines().count();
        if !source.is_test() && lines > HARD_LIMIT {
            long.push(format!("{}: {lines} lines", source.path));
        } else if !source.is_test() && lines > SOFT_LIMIT {
            eprintln!("warning: {}: {lines} lines, better {SOFT_LIMIT}", source.path);
        }
        if !source.text.starts_with("//! ") {
            silent.push(source.path);
        }
    }
    none(long, &format!("A file has at most {HARD_LIMIT} lines: split it by what it holds, `foo.rs` and `foo/`."));
    none(silent, "Every module begins with one `//!` sentence that says what it is: write it.");
}

#[test]
fn names_say_something() {
    let mut findings = Vec::new();
    for source in rust() {
        let path = Path::new(&source.path);
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if stem == "mod" {
            findings.push(format!("{}: `foo.rs` and `foo/`, not `foo/mod.rs`", source.path));
        }
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned()).chain([stem]);
        findings.extend(parts.filter(|part| EMPTY_NAMES.contains(&part.as_str())).map(|part| format!("{}: `{part}`", source.path)));
    }
    none(findings, "Name a module by what it holds:");
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let word = |line: &str, mark: &str| {
        line.match_indices(mark).any(|(start, _)| {
            let next_to = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
            !next_to(line[..start].chars().next_back()) && !next_to(line[start + mark.len()..].chars().next())
        })
    };
    let mut findings = Vec::new();
    for source in files(&["rs", "proto", "sql", "sh", "py", "toml", "yaml", "yml", "md", "ts", "tsx"]) {
        for (number, line) in source.text.lines().enumerate() {
            findings.extend(marks.iter().filter(|mark| word(line, mark)).map(|mark| format!("{}:{}: {mark}", source.path, number + 1)));
        }
    }
    none(findings, "Do it now, or open an issue and name it there:");
}

#[test]
fn services_have_the_same_anatomy() {
    let mut findings = Vec::new();
    for service in SERVICES {
        let source = |name: &str| fs::read_to_string(root().join(format!("services/{service}/src/{name}"))).ok();
        for name in ["main.rs", "lib.rs", "config.rs", "error.rs"] {
            if source(name).is_none() {
                findings.push(format!("services/{service}/src/{name} is missing"));
            }
        }
        let lines = source("main.rs").map_or(0, |text| text.lines().count());
        if lines > MAIN_LIMIT {
            findings.push(format!("services/{service}/src/main.rs has {lines} lines, at most {MAIN_LIMIT}: move the rest into lib.rs"));
        }
        let tests = root().join(format!("services/{service}/tests"));
        if !tests.is_dir() || fs::read_dir(&tests).unwrap().next().is_none() {
            findings.push(format!("services/{service}/tests is empty: test every RPC of the running service"));
        }
    }
    none(findings, "Every service has the same files, so that who knows one knows all:");
}

#[test]
fn migrations_are_numbered_without_a_gap() {
    let mut findings = Vec::new();
    for service in SERVICES {
        let Ok(entries) = fs::read_dir(root().join(format!("services/{service}/migrations"))) else { continue };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for (index, name) in names.iter().enumerate() {
            let words = name.strip_suffix(".sql").and_then(|stem| stem.strip_prefix(&format!("{:04}_", index + 1)));
            if !words.is_some_and(|words| words.contains('_') && words.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')) {
                findings.push(format!("services/{service}/migrations/{name}: expected {:04}_verb_noun.sql", index + 1));
            }
        }
    }
    none(findings, "Migrations are `NNNN_verb_noun.sql`, one change each, numbered from 0001 without a gap; one that was released is never changed:");
}

#[test]
fn every_proto_file_is_generated() {
    let build = fs::read_to_string(root().join("libs/api/build.rs")).unwrap();
    let findings = files(&["proto"]).into_iter().filter_map(|source| {
        let name = source.path.strip_prefix("proto/")?.to_owned();
        (!build.contains(&format!("\"{name}\""))).then_some(name)
    });
    none(findings.collect(), "libs/api/build.rs names every proto file in FILES: add");
}

#[test]
fn crate_names_are_found_as_paths_only() {
    for line in ["use sqlx::Row;", "    sqlx::query(x)", "let x = <sqlx::Any>::y();", "use tonic_health::pb;"] {
        assert!(names_crate(line, "sqlx") || names_crate(line, "tonic"), "{line}");
    }
    for line in ["let sqlx = 1;", "use my_sqlx::Row;", "use sqlxtra::Row;", "use crate::store::sqlx::Row;", "// sqlx"] {
        assert!(!names_crate(line, "sqlx"), "{line}");
    }
}
