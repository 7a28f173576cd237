//! The configuration of the five services in one process: what the folder and the process decide, over the environment.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use gumshoe_model::account::REGIONS;
use gumshoe_runtime::{
    ConfigError, Configuration, Inside, Upstream,
    config::{self, LogFormat},
};

use super::directory::{Directory, Installation};
use crate::{
    arguments::{Serve, Setting},
    rpc::Failure,
};

/// No service but the gateway listens: their configurations name an address because they must.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The scheme of services in this process.
const INSIDE: &str = "inside";

/// Where the services behind the gateway are in this process.
#[derive(Debug, Clone, Default)]
pub struct Backends {
    /// Takes logs in.
    pub ingest: Inside,
    /// Owns the behaviour graph.
    pub graph: Inside,
    /// Owns accounts and policies.
    pub membership: Inside,
    /// Owns investigations.
    pub investigation: Inside,
}

impl Backends {
    /// All of them.
    pub fn all(&self) -> [&Inside; 4] {
        [&self.membership, &self.graph, &self.investigation, &self.ingest]
    }

    /// Leads a service's call to where the URL says, unless a setting says another one.
    fn lead(&self, upstream: &mut Upstream) {
        if upstream.url.scheme() == INSIDE {
            upstream.inside = match upstream.url.host_str() {
                Some("ingest") => Some(self.ingest.clone()),
                Some("graph") => Some(self.graph.clone()),
                Some("membership") => Some(self.membership.clone()),
                Some("investigation") => Some(self.investigation.clone()),
                _ => None,
            };
        }
    }
}

/// The configuration of all services.
#[derive(Debug)]
pub struct Configurations {
    /// Of the gateway.
    pub gateway: gumshoe_gateway::Config,
    /// Of ingest.
    pub ingest: gumshoe_ingest::Config,
    /// Of graph.
    pub graph: gumshoe_graph::Config,
    /// Of membership.
    pub membership: gumshoe_membership::Config,
    /// Of investigation.
    pub investigation: gumshoe_investigation::Config,
}

impl Configurations {
    /// Reads environment and settings of every service, over them what this process decides itself.
    ///
    /// # Errors
    /// [`Failure`] when a key is unknown or has a value that it cannot have.
    pub fn load(directory: &Directory, gateway: SocketAddr, installation: &Installation, arguments: &Serve) -> Result<Self, Failure> {
        let url = |service: &str| format!("{INSIDE}://{service}");
        let database = |service: &str| directory.database_url(service);
        let text = |path: &Path| path.display().to_string();
        let folders = arguments.source_directories.iter().map(|path| std::path::absolute(path).map(|path| text(&path)));
        let folders = folders.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::Usage(format!("--source-directory: {error}")))?;

        let threats = arguments.threat_lists.iter().map(|path| std::path::absolute(path).map(|path| text(&path)));
        let threats = threats.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::Usage(format!("--threat-list: {error}")))?;

        // Its own region first: the default of what names none.
        let mut regions = vec![installation.region.clone()];
        regions.extend(REGIONS.map(str::to_owned).into_iter().filter(|region| *region != installation.region));
        let trust = || ("trust.issuers", text(&directory.issuers()));
        let mut graph = vec![
            trust(),
            ("lake.url", directory.lake_url()?),
            ("profiles.url", "memory://".to_owned()),
            ("store.url", database("graph")?),
            // Logs of years ago are there to be looked at, too.
            ("maintenance.retention_days", "0".to_owned()),
        ];
        let paths =
            [("places.country", &arguments.places_country), ("places.asn", &arguments.places_asn), ("detections.directory", &arguments.rules_directory)];
        for (key, path) in paths {
            if let Some(path) = path {
                graph.push((key, text(path)));
            }
        }
        Ok(Self {
            graph: load(NOWHERE, arguments, graph)?,
            ingest: load(
                NOWHERE,
                arguments,
                vec![
                    trust(),
                    ("trust.signing_key", text(&directory.private_key("ingest"))),
                    ("store.url", database("ingest")?),
                    ("graph.url", url("graph")),
                    ("membership.url", url("membership")),
                    // On one's own machine, logs of accounts that nobody has registered are what one came to look at.
                    ("unregistered_accounts", "accept".to_owned()),
                    ("sources.allowed_directories", list(&folders)),
                ],
            )?,
            membership: load(NOWHERE, arguments, {
                let mut membership = vec![
                    trust(),
                    ("trust.signing_key", text(&directory.private_key("membership"))),
                    ("graph.url", url("graph")),
                    ("store.url", database("membership")?),
                    ("bearer.private_key", text(&directory.bearer_private_key())),
                    ("regions", list(&regions)),
                    // One's own machine takes all that it is given.
                    ("packages", list(&["EKS_AUDIT", "ASFF_SECURITYHUB_FINDING"].map(str::to_owned))),
                ];
                membership.extend(directory.secret_key().map(|path| ("secret_key_file", text(&path))));
                membership
            })?,
            investigation: load(
                NOWHERE,
                arguments,
                vec![
                    trust(),
                    ("trust.signing_key", text(&directory.private_key("investigation"))),
                    ("graph.url", url("graph")),
                    ("store.url", database("investigation")?),
                    ("threats.lists", lists(&threats)),
                ],
            )?,
            gateway: load(
                gateway,
                arguments,
                vec![
                    ("signing_key", text(&directory.private_key("gateway"))),
                    ("region", installation.region.clone()),
                    ("regions", list(&regions)),
                    ("upstreams.ingest.url", url("ingest")),
                    ("upstreams.graph.url", url("graph")),
                    ("upstreams.membership.url", url("membership")),
                    ("upstreams.investigation.url", url("investigation")),
                    ("issuers", issuers(&directory.bearer_public_key())),
                ],
            )?,
        })
    }

    /// Leads the services' calls of each other to where they are in this process.
    pub fn connect(&mut self, backends: &Backends) {
        let upstreams = &mut self.gateway.upstreams;
        let own = [&mut upstreams.ingest, &mut upstreams.graph, &mut upstreams.membership, &mut upstreams.investigation];
        let others = [&mut self.ingest.graph, &mut self.investigation.graph];
        let optional = [&mut self.ingest.membership, &mut self.membership.graph];
        for upstream in own.into_iter().chain(others).chain(optional.into_iter().flatten()) {
            backends.lead(upstream);
        }
    }

    /// All of them as TOML with a table a service, secrets masked.
    ///
    /// # Errors
    /// [`Failure`] when a value has no form in TOML.
    pub fn show(&self) -> Result<String, Failure> {
        let mut whole = toml::Table::new();
        for (name, text) in [
            ("gateway", config::show(&self.gateway)),
            ("ingest", config::show(&self.ingest)),
            ("graph", config::show(&self.graph)),
            ("membership", config::show(&self.membership)),
            ("investigation", config::show(&self.investigation)),
        ] {
            let table: toml::Table =
                text.map_err(|error| wrong(name, &error))?.parse().map_err(|error: toml::de::Error| Failure::Broken(error.message().to_owned()))?;
            whole.insert(name.to_owned(), table.into());
        }
        toml::to_string_pretty(&whole).map_err(|error| Failure::Broken(error.to_string()))
    }
}

/// What logs look like, for all services at once.
pub fn telemetry(filter: &str, terminal: bool) -> gumshoe_runtime::Telemetry {
    let format = if terminal { LogFormat::Text } else { LogFormat::Json };
    gumshoe_runtime::Telemetry { level: filter.to_owned(), format, ..Default::default() }
}

fn load<C: Configuration>(address: SocketAddr, arguments: &Serve, own: Vec<(&str, String)>) -> Result<C, Failure> {
    let mut overrides = vec![("listen.address".to_owned(), address.to_string()), ("telemetry.level".to_owned(), arguments.log.clone())];
    overrides.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    let given = arguments.settings.iter().filter(|setting| setting.service == C::SERVICE);
    overrides.extend(given.map(|Setting { key, value, .. }| (key.clone(), value.clone())));
    let configuration: C = config::load(C::SERVICE, None, &overrides).map_err(|error| wrong(C::SERVICE, &error))?;
    configuration.validate().map_err(|error| wrong(C::SERVICE, &error))?;
    Ok(configuration)
}

fn wrong(service: &str, error: &ConfigError) -> Failure {
    Failure::Usage(format!("{service}: {}", gumshoe_runtime::status::Chain(error)))
}

/// The issuer of the tokens that membership gives out, as a TOML array of one.
fn issuers(public_key: &Path) -> String {
    let bearer = gumshoe_membership::config::Bearer::new(public_key.to_owned());
    let keys = toml::Table::from_iter([("public_key".to_owned(), public_key.display().to_string().into())]);
    let issuer = [("issuer", bearer.issuer.into()), ("audience", bearer.audience.into()), ("keys", keys.into())];
    let issuer: toml::Table = issuer.into_iter().map(|(key, value): (&str, toml::Value)| (key.to_owned(), value)).collect();
    toml::Value::from(vec![toml::Value::from(issuer)]).to_string()
}

/// A TOML array of texts, which [`config::load`] takes as a value.
fn list(texts: &[String]) -> String {
    toml::Value::from(texts.to_vec()).to_string()
}

/// Threat lists, as a TOML array of tables.
fn lists(paths: &[String]) -> String {
    let list = |path: &String| toml::Value::from(toml::Table::from_iter([("path".to_owned(), path.clone().into())]));
    toml::Value::from(paths.iter().map(list).collect::<Vec<_>>()).to_string()
}
