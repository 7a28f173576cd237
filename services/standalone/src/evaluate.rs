//! `evaluate`: labelled logs through a server of its own, and how much of what they hold it tells.
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | what the labels say |
//! | [`judge`] | one scenario in a graph of its own |
//! | [`background`] | benign logs without end, for false alarms |
//! | [`report`] | what comes out of all of them |

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use gumshoe_model::account::REGIONS;

use crate::{
    arguments::{Evaluate, Serve, Setting},
    output::{Output, note},
    progress::Progress,
    rpc::{Connection, Failure},
    serve,
};

mod background;
mod judge;
mod report;
mod scenario;

use judge::Judge;
use report::Report;
use scenario::Scenario;

/// Where the background is; scenarios take the other regions, as an account has one graph in each.
const BACKGROUND_REGION: &str = REGIONS[0];

/// What the server is told, before the settings of the command line: nobody else calls it.
const SETTINGS: [(&str, &str, &str); 8] = [
    ("gateway", "limits.reads_per_second", "1000000"),
    ("gateway", "limits.writes_per_second", "1000000"),
    ("gateway", "limits.investigations_per_second", "1000000"),
    ("gateway", "limits.timeout_seconds", "600"),
    ("graph", "server.timeout_seconds", "600"),
    ("investigation", "investigations.running_limit", "1000000"),
    ("investigation", "investigations.parallel", "4"),
    ("investigation", "investigations.principals", "100"),
];

/// Measures, prints, and fails if less is told than was asked for.
///
/// # Errors
/// [`Failure`] when the labels or logs cannot be read, the server fails, or a limit is not kept.
pub async fn evaluate(arguments: Evaluate, output: Output) -> Result<(), Failure> {
    let scenarios = scenario::read(&arguments.folder, &arguments.labels)?;
    if scenarios.is_empty() && arguments.background == 0 {
        return Err(Failure::Usage(format!("{} holds no scenario with such a label", arguments.folder.display())));
    }
    let folder = tempfile::tempdir().map_err(|source| Failure::File { action: "make", path: "a temporary folder".into(), source })?;
    let serve = server(&arguments, folder.path());
    let (wanted, path) = (&arguments, folder.path());
    let report = serve::beside(&serve, |remote| async move {
        let connection = Connection::open(&remote).await?;
        measure(wanted, &connection, scenarios, path).await
    })
    .await?;
    report.print(output)?;
    report.check(arguments.min_recall, arguments.max_alarms)
}

fn server(arguments: &Evaluate, folder: &Path) -> Serve {
    let own = SETTINGS.map(|(service, key, value)| Setting { service: service.to_owned(), key: key.to_owned(), value: value.to_owned() });
    Serve {
        data: folder.join("data"),
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        account: None,
        region: Some(BACKGROUND_REGION.to_owned()),
        email: "security@example.com".to_owned(),
        places_country: arguments.places_country.clone(),
        places_asn: arguments.places_asn.clone(),
        threat_lists: Vec::new(),
        rules_directory: None,
        source_directories: Vec::new(),
        settings: own.into_iter().chain(arguments.settings.iter().cloned()).collect(),
        log: "error".to_owned(),
    }
}

async fn measure(arguments: &Evaluate, connection: &Connection, scenarios: Vec<Scenario>, folder: &Path) -> Result<Report, Failure> {
    let judge = Judge { connection, folder: &arguments.folder, blanks: &arguments.blanks, history: arguments.history };
    let progress = Progress::new(0, "evaluating");
    let regions: Mutex<VecDeque<&str>> = Mutex::new(REGIONS.into_iter().filter(|region| *region != BACKGROUND_REGION).collect());
    let mut report = Report::default();
    {
        let judged = |scenario: Scenario| {
            let (judge, regions) = (&judge, &regions);
            async move {
                // There are as many regions as scenarios at the same time, or more.
                let region = regions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let region = region.ok_or_else(|| Failure::Broken("no region is free".to_owned()))?;
                let verdict = judge.judge(&scenario, region).await;
                regions.lock().unwrap_or_else(PoisonError::into_inner).push_back(region);
                verdict.map(|verdict| (scenario, verdict))
            }
        };
        let mut all = stream::iter(scenarios.into_iter().map(judged)).buffered(usize::from(arguments.jobs));
        while let Some(one) = all.next().await {
            let (scenario, verdict) = one?;
            progress.records(verdict.events);
            report.add(scenario, verdict);
        }
    }
    if arguments.background > 0 {
        report.background = Some(background::run(arguments, &judge, &folder.join("background")).await?);
    }
    let elapsed: Duration = progress.finish();
    note(&format!("took {} s", elapsed.as_secs()));
    Ok(report)
}
