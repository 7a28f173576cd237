//! The client's commands, one function each: ask the server, print the answer.

mod access;
mod analysis;
mod behavior;
mod credentials;
mod findings;
mod generate;
mod graph;
mod groups;
mod ingest;
mod investigations;
mod profile;
mod records;
mod rules;
mod sources;
mod suppressions;

use gumshoe_api::common::v1::TimeRange;
use gumshoe_model::{TimeWindow, Timestamp};

use crate::{
    arguments::{Arguments, Command, Export, ScopeTime},
    output::Output,
    rpc::{Connection, Failure},
};

/// Runs a client command.
///
/// # Errors
/// [`Failure`], which names the exit code.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let output = Output::new(arguments.output);
    let remote = &arguments.remote;
    match arguments.command {
        Command::Login(login) => return credentials::login(remote, &login, output).await,
        Command::Logout => return credentials::logout(output),
        Command::Generate(generate) => return generate::generate(generate, output).await,
        Command::Evaluate(evaluate) => return crate::evaluate::evaluate(evaluate, output).await,
        _ => {}
    }
    let session = Session { connection: Connection::open(remote).await?, output };
    match arguments.command {
        Command::Ingest(ingest) => ingest::ingest(session, ingest).await,
        Command::Findings(filter) => findings::list(&session, filter).await,
        Command::Finding { id } => findings::show(&session, &id).await,
        Command::Groups(filter) => groups::list(&session, filter).await,
        Command::Group(group) => groups::group(&session, group).await,
        Command::Verdict { finding, verdict, note } => findings::decide(&session, finding, verdict, note).await,
        Command::Investigate(investigate) => investigations::investigate(&session, &investigate).await,
        Command::Investigations { id: Some(id), .. } => investigations::show(&session, &id).await,
        Command::Investigations { limit, .. } => investigations::list(&session, limit).await,
        Command::Suppressions { command } => suppressions::suppressions(&session, command).await,
        Command::Profile(profile) => profile::profile(&session, &profile).await,
        Command::Risk { entities, watch: true, min_level, .. } => profile::watch(&session, &entities, min_level.unwrap_or_default()).await,
        Command::Risk { entities, at, .. } => profile::risk(&session, &entities, at).await,
        Command::Anomalies { entity, scope } => behavior::anomalies(&session, &entity, &scope).await,
        Command::Watchlist { command } => behavior::watchlist(&session, command).await,
        Command::Sweep { from } => behavior::sweep(&session, from).await,
        Command::Search { text, types, limit } => graph::search(&session, text, &types, limit).await,
        Command::Neighbors(neighbors) => graph::neighbors(&session, &neighbors).await,
        Command::Chain { entity, scope, depth } => graph::chain(&session, &entity, &scope, depth).await,
        Command::Statistics => graph::statistics(&session).await,
        Command::Events(events) => records::list(&session, &events).await,
        Command::DeadLetters { source_object, limit } => records::dead_letters(&session, source_object, limit).await,
        Command::Export { what: Export::Edges { scope } } => records::export_edges(&session, &scope).await,
        Command::Hunt(hunt) => analysis::hunt(&session, hunt).await,
        Command::Pairs(pairs) => analysis::pairs(&session, &pairs).await,
        Command::Export { what: Export::Baselines(baselines) } => analysis::export_baselines(&session, &baselines).await,
        Command::Export { what: Export::Events(filter) } => records::export_events(&session, &filter).await,
        Command::Rules { command } => rules::rules(&session, command).await,
        Command::Sources { command } => sources::sources(&session, command).await,
        Command::Graphs => credentials::graphs(&session).await,
        Command::Accounts { command } => access::accounts(&session, command).await,
        Command::Principals { command } => access::principals(&session, command).await,
        Command::Policies { command } => access::policies(&session, command).await,
        Command::Keys { command } => access::keys(&session, command).await,
        Command::Serve(_)
        | Command::CheckConfig(_)
        | Command::Completions { .. }
        | Command::Login(_)
        | Command::Logout
        | Command::Generate(_)
        | Command::Evaluate(_) => Err(Failure::Broken("not a client command".to_owned())),
    }
}

/// A connection and where answers go.
struct Session {
    connection: Connection,
    output: Output,
}

/// The largest page that the API gives.
const PAGE: u32 = 1000;

/// The next page's size when `have` of `limit` are there; `None` at the end.
fn next_page(limit: u32, have: usize) -> Option<i32> {
    let left = limit.saturating_sub(u32::try_from(have).unwrap_or(u32::MAX)).min(PAGE);
    i32::try_from(left).ok().filter(|size| *size > 0)
}

/// A scope as the API wants it; `None` if neither end was given.
fn scope(scope: &ScopeTime) -> Result<Option<TimeRange>, Failure> {
    if scope.from.is_none() && scope.to.is_none() {
        return Ok(None);
    }
    let now = Timestamp::from_chrono(chrono::Utc::now()).unwrap_or(Timestamp::MAX);
    let window = TimeWindow::new(scope.from.unwrap_or(Timestamp::MIN), scope.to.unwrap_or(now));
    window.map(|window| Some(gumshoe_api::convert::window_to_proto(window))).map_err(|_| Failure::Usage("--from must be before --to".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_add_up_to_the_limit() {
        assert_eq!(next_page(50, 0), Some(50));
        assert_eq!(next_page(2_500, 1_000), Some(1_000));
        assert_eq!(next_page(2_500, 2_000), Some(500));
        assert_eq!(next_page(50, 50), None);
        assert_eq!(next_page(50, 70), None);
    }

    #[test]
    fn scopes_need_their_order() {
        let time = |text| Some(Timestamp::parse(text).unwrap());
        assert!(scope(&ScopeTime::default()).unwrap().is_none());
        let whole = ScopeTime { from: time("2026-01-05T00:00:00Z"), to: time("2026-01-06T00:00:00Z") };
        assert_eq!(scope(&whole).unwrap().unwrap().start_time.unwrap().seconds, 1_767_571_200);
        assert!(scope(&ScopeTime { from: whole.to, to: whole.from }).is_err());
        assert!(scope(&ScopeTime { from: whole.from, to: None }).unwrap().is_some());
    }
}
