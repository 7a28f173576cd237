//! `serve`: all five services in one process, on files in one folder. They call each other as over a network, but without one.
//!
//! | module | holds |
//! |---|---|
//! | [`directory`] | the folder: keys, databases, lake, lock |
//! | [`configuration`] | the configuration of each service |

use std::{future::Future, io::IsTerminal as _, net::SocketAddr, time::Duration};

use gumshoe_runtime::{Shutdown, Wire};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    arguments::{Format, Remote, Serve},
    output::{Output, write},
    rpc::{Failure, health},
};

mod configuration;
mod directory;

use configuration::{Backends, Configurations};
use directory::{Directory, Installation};

/// The services, by the names that settings use.
pub const SERVICES: &[&str] = &["gateway", "ingest", "graph", "membership", "investigation"];

const DEFAULT_ACCOUNT: &str = "111122223333";
const DEFAULT_REGION: &str = "us-east-1";
/// How long opening the stores may take, as after a crash in the middle of large work.
const START: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Prints the configuration in force.
///
/// # Errors
/// [`Failure`] when it cannot be used.
pub fn check(arguments: &Serve) -> Result<(), Failure> {
    let directory = Directory::new(&arguments.data)?;
    let installation = installation(&directory, arguments)?;
    write(&Configurations::load(&directory, arguments.listen, &installation, arguments)?.show()?)
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failure`] when the folder is in use, a store cannot be opened, or a service ends by itself.
pub async fn serve(arguments: &Serve, format: Format) -> Result<(), Failure> {
    let output = Output::new(format);
    let directory = Directory::new(&arguments.data)?;
    let _lock = directory.open()?;
    directory.make_keys()?;
    let installation = installation(&directory, arguments)?;
    let telemetry = configuration::telemetry(&arguments.log, std::io::stderr().is_terminal());
    // Standard output is for what scripts read: credentials and readiness.
    let (subscriber, _telemetry) =
        gumshoe_runtime::telemetry::subscriber(&telemetry, "gumshoe", std::io::stderr).map_err(|error| Failure::serve("logs", &error))?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| Failure::serve("logs", &error))?;
    let shutdown = Shutdown::on_signals().map_err(|error| Failure::serve("signals", &error))?;

    let installed = install(&directory, &installation, arguments).await?;
    if let Some(administrator) = &installed.administrator {
        show(administrator, output)?;
        // Only now: whoever never saw them starts anew.
        directory.keep(&installation)?;
    } else if directory.installation()?.is_none() {
        directory.keep(&installation)?;
    }
    let running = installed.start();
    let ended = tokio::select! {
        () = shutdown.requested() => None,
        name = any_end(&running.services) => Some(name),
        ready = running.ready() => {
            ready?;
            announce(output, running.gateway)?;
            tokio::select! {
                () = shutdown.requested() => None,
                name = any_end(&running.services) => Some(name),
            }
        }
    };
    let result = ended.map_or(Ok(()), |name| Err(Failure::Serve { what: name.to_owned(), reason: "ended by itself".to_owned() }));
    running.stop().await.and(result)
}

/// Runs `work` beside a server of its own on a new folder, as that server's administrator.
///
/// # Errors
/// [`Failure`] when the server cannot be started or ends by itself; that of `work`.
pub async fn beside<F: Future<Output = Result<T, Failure>>, T>(arguments: &Serve, work: impl FnOnce(Remote) -> F) -> Result<T, Failure> {
    let directory = Directory::new(&arguments.data)?;
    let _lock = directory.open()?;
    directory.make_keys()?;
    let installed = install(&directory, &installation(&directory, arguments)?, arguments).await?;
    let Some(Administrator { access_key_id, secret_access_key, .. }) = installed.administrator.clone() else {
        return Err(Failure::Usage(format!("{} was used before", directory.path().display())));
    };
    let running = installed.start();
    let remote = Remote {
        endpoint: Some(format!("http://{}", running.gateway)),
        access_key_id: Some(access_key_id),
        secret_access_key: Some(secret_access_key),
        ..Remote::default()
    };
    let worked = tokio::select! {
        name = any_end(&running.services) => Err(Failure::Serve { what: name.to_owned(), reason: "ended by itself".to_owned() }),
        worked = async { running.ready().await?; work(remote).await } => worked,
    };
    let stopped = running.stop().await;
    worked.and_then(|worked| stopped.map(|()| worked))
}

/// A folder that is ready to be served.
struct Installed {
    configurations: Configurations,
    backends: Backends,
    outside: TcpListener,
    gateway: SocketAddr,
    /// Whom the first start has made; `None` at later ones.
    administrator: Option<Administrator>,
}

/// Opens the port, brings every database up to date, and makes the administrator if there is none.
async fn install(directory: &Directory, installation: &Installation, arguments: &Serve) -> Result<Installed, Failure> {
    let outside = listen(arguments.listen).await?;
    let gateway = address(&outside)?;
    let mut configurations = Configurations::load(directory, gateway, installation, arguments)?;
    let backends = Backends::default();
    configurations.connect(&backends);
    migrate(&configurations).await?;
    let administrator = first_start(directory, &configurations, installation, arguments).await?;
    Ok(Installed { configurations, backends, outside, gateway, administrator })
}

impl Installed {
    fn start(self) -> Running {
        let Self { configurations, backends, outside, gateway, .. } = self;
        let services = vec![
            Service::start("gateway", |switch| gumshoe_gateway::run(configurations.gateway, outside, switch)),
            Service::start("ingest", |switch| gumshoe_ingest::run(configurations.ingest, backends.ingest.clone(), switch)),
            Service::start("investigation", |switch| gumshoe_investigation::run(configurations.investigation, backends.investigation.clone(), switch)),
            Service::start("graph", |switch| gumshoe_graph::run(configurations.graph, backends.graph.clone(), switch)),
            Service::start("membership", |switch| gumshoe_membership::run(configurations.membership, backends.membership.clone(), switch)),
        ];
        Running { services, backends, gateway }
    }
}

/// The five services at work.
struct Running {
    services: Vec<Service>,
    backends: Backends,
    gateway: SocketAddr,
}

impl Running {
    async fn ready(&self) -> Result<(), Failure> {
        until_ready(&self.backends, self.gateway).await
    }

    /// Ends them from the outside in, so that what has been accepted can still be finished.
    async fn stop(self) -> Result<(), Failure> {
        let mut result = Ok(());
        for service in self.services {
            if let Err(failure) = service.stop().await {
                result = Err(failure);
            }
        }
        result
    }
}

/// What was decided on first start; the arguments must not say otherwise.
fn installation(directory: &Directory, arguments: &Serve) -> Result<Installation, Failure> {
    let given = (arguments.account.as_ref().map(ToString::to_string), arguments.region.clone());
    let Some(kept) = directory.installation()? else {
        return Ok(Installation {
            account: given.0.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            region: given.1.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        });
    };
    for (what, given, kept) in [("account", given.0, &kept.account), ("region", given.1, &kept.region)] {
        if given.as_ref().is_some_and(|given| given != kept) {
            return Err(Failure::Usage(format!("{} was made for {what} {kept}; use another folder for another {what}", directory.path().display())));
        }
    }
    Ok(kept)
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|error| Failure::serve(format!("cannot listen on {at}"), &error))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::serve("listen", &error))
}

async fn migrate(configurations: &Configurations) -> Result<(), Failure> {
    gumshoe_membership::migrate(configurations.membership.clone()).await.map_err(|error| Failure::serve("membership", &error))?;
    gumshoe_ingest::migrate(configurations.ingest.clone()).await.map_err(|error| Failure::serve("ingest", &error))?;
    gumshoe_graph::migrate(configurations.graph.clone()).await.map_err(|error| Failure::serve("graph", &error))?;
    gumshoe_investigation::migrate(configurations.investigation.clone()).await.map_err(|error| Failure::serve("investigation", &error))
}

/// Whom the first start makes.
#[derive(Debug, Clone)]
struct Administrator {
    principal: String,
    graph: String,
    access_key_id: String,
    secret_access_key: SecretString,
}

/// Makes the administrator; `None` if that was done before.
async fn first_start(
    directory: &Directory,
    configurations: &Configurations,
    installation: &Installation,
    arguments: &Serve,
) -> Result<Option<Administrator>, Failure> {
    if directory.installation()?.is_some() {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let account = installation.account.parse().map_err(|error| wrong(&error))?;
    let email = arguments.email.parse().map_err(|error| wrong(&error))?;
    let (regions, key) = (std::slice::from_ref(&installation.region), gumshoe_membership::KeyPair::random());
    let made = gumshoe_membership::bootstrap(&configurations.membership, account, email, regions, key).await;
    let made = made.map_err(|error| Failure::serve("membership", &error))?;
    let made = made.map(|made| Administrator {
        principal: made.principal.to_string(),
        graph: made.graph.arn.to_string(),
        access_key_id: made.access_key_id.to_string(),
        secret_access_key: made.secret_access_key,
    });
    if made.is_none() {
        // A first start that died after making them.
        tracing::warn!(account = %installation.account, "the account has principals already; their credentials were shown before");
    }
    Ok(made)
}

/// Shows the administrator's credentials, this once.
fn show(administrator: &Administrator, output: Output) -> Result<(), Failure> {
    let Administrator { principal, graph, access_key_id: key, secret_access_key } = administrator;
    let secret = secret_access_key.expose_secret();
    if output.is_json() {
        return line(&serde_json::json!({
            "event": "credentials", "principal_arn": principal, "graph_arn": graph, "access_key_id": key, "secret_access_key": secret,
        }));
    }
    write(&format!(
        "\nThis is the first start. The administrator's credentials are shown this once; keep them:\n\n  \
         GUMSHOE_ACCESS_KEY_ID={key}\n  GUMSHOE_SECRET_ACCESS_KEY={secret}\n\n  principal  {principal}\n  graph      {graph}\n\n"
    ))
}

fn line(value: &serde_json::Value) -> Result<(), Failure> {
    write(&format!("{value}\n"))
}

fn announce(output: Output, gateway: SocketAddr) -> Result<(), Failure> {
    if output.is_json() {
        return line(&serde_json::json!({ "event": "serving", "endpoint": format!("http://{gateway}") }));
    }
    write(&format!("gumshoe is serving on http://{gateway}\n"))
}

async fn until_ready(backends: &Backends, gateway: SocketAddr) -> Result<(), Failure> {
    let all = async {
        for backend in backends.all() {
            until(|| health::is_serving(Wire::Inside(backend.clone()))).await;
        }
        until(|| health::listens(gateway)).await;
    };
    let late = |_| Failure::Serve { what: "start".to_owned(), reason: format!("not every service was ready after {} s", START.as_secs()) };
    timeout(START, all).await.map_err(late)
}

async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    while !holds().await {
        sleep(POLL).await;
    }
}

/// One running service.
struct Service {
    name: &'static str,
    switch: Shutdown,
    task: JoinHandle<Result<(), Failure>>,
}

impl Service {
    fn start<E, F>(name: &'static str, run: impl FnOnce(Shutdown) -> F) -> Self
    where
        E: std::error::Error + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let switch = Shutdown::new();
        let work = run(switch.clone());
        let task = tokio::spawn(async move { work.await.map_err(|error| Failure::serve(name, &error)) });
        Self { name, switch, task }
    }

    async fn stop(self) -> Result<(), Failure> {
        self.switch.trigger();
        self.task.await.map_err(|error| Failure::serve(self.name, &error))?
    }
}

/// The name of the first service that ends.
async fn any_end(services: &[Service]) -> &'static str {
    loop {
        if let Some(ended) = services.iter().find(|service| service.task.is_finished()) {
            return ended.name;
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(line: &str) -> Serve {
        match Arguments::try_parse_from(line.split(' ')).unwrap().command {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_stays_with_its_account() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path()).unwrap();
        let first = installation(&directory, &arguments("gumshoe serve --account 999988887777")).unwrap();
        assert_eq!((first.account.as_str(), first.region.as_str()), ("999988887777", DEFAULT_REGION));
        directory.keep(&first).unwrap();
        assert_eq!(installation(&directory, &arguments("gumshoe serve")).unwrap(), first);
        assert!(installation(&directory, &arguments("gumshoe serve --account 111122223333")).is_err());
        assert!(installation(&directory, &arguments("gumshoe serve --region eu-west-1")).is_err());
    }
}
