//! `rules`.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use gumshoe_api::{
    convert,
    graph::v1::{
        CreateRuleRequest, DeleteRuleRequest, GetRuleRequest, HuntRuleRequest, ListRulesRequest, ListRulesResponse, Rule, RuleOrigin, RuleProblem,
        TestRuleRequest, TestRuleResponse, UpdateRuleRequest, hunt_rule_request,
    },
};
use gumshoe_model::{PRODUCT, TimeWindow, Timestamp, time::MICROS_PER_DAY};

use super::{Session, next_page, records};
use crate::{
    arguments::{self, RuleFilter, Rules},
    output::{Rows, note},
    rpc::{Failure, message},
};

/// Days that are hunted through without a begin.
const HUNT_DAYS: i64 = 30;

pub async fn rules(session: &Session, command: Option<Rules>) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let mut client = session.connection.rule_service().await?;
    let written = match command {
        None => return list(session, RuleFilter::default()).await,
        Some(Rules::List(filter)) => return list(session, filter).await,
        Some(Rules::Show { id }) => return show(session, id).await,
        Some(Rules::Validate { file, records }) => return validate(session, &file, records.as_deref()).await,
        Some(Rules::Hunt { rule, scope, limit }) => return hunt(session, &rule, (scope.from, scope.to), limit).await,
        Some(Rules::Create { file }) => client.create_rule(CreateRuleRequest { graph_arn, document: text(&file)? }).await?.into_inner().rule,
        Some(Rules::Update { file }) => client.update_rule(UpdateRuleRequest { graph_arn, document: text(&file)? }).await?.into_inner().rule,
        Some(Rules::Delete { id }) => {
            client.delete_rule(DeleteRuleRequest { graph_arn, id: id.clone() }).await?;
            return session.output.line(&format!("{id} is removed"));
        }
    };
    let rule = written.unwrap_or_default();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.Rule", &rule);
    }
    session.output.line(&format!("{} {}", rule.id, if rule.enabled { "is in use" } else { "is switched off" }))
}

/// A file, or standard input.
fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |source| Failure::File { action: "read", path: file.to_owned(), source };
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map_err(unreadable)?;
        return Ok(bytes);
    }
    fs::read(file).map_err(unreadable)
}

fn text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(file)?).map_err(|_| Failure::Usage(format!("`{}` is not text", file.display())))
}

async fn list(session: &Session, filter: RuleFilter) -> Result<(), Failure> {
    let mut client = session.connection.rule_service().await?;
    let origin = match filter.origin {
        None => RuleOrigin::Unspecified,
        Some(arguments::RuleOrigin::Shipped) => RuleOrigin::Shipped,
        Some(arguments::RuleOrigin::Directory) => RuleOrigin::Directory,
        Some(arguments::RuleOrigin::Graph) => RuleOrigin::Graph,
    };
    let mut request = ListRulesRequest { graph_arn: session.connection.graph().await?, text: filter.text.clone(), origin: origin.into(), ..Default::default() };
    let mut all = ListRulesResponse::default();
    while let Some(page_size) = next_page(filter.limit, all.rules.len()) {
        request.page_size = page_size;
        let page = client.list_rules(request.clone()).await?.into_inner();
        all.rules.extend(page.rules);
        (all.next_page_token, all.problems) = (page.next_page_token, page.problems);
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.ListRulesResponse", &all);
    }
    let mut rows = Rows::new(&["level", "title", "techniques", "of", "state", "id"]);
    for rule in &all.rules {
        rows.add([
            rule.level.clone(),
            rule.title.clone(),
            rule.techniques.join(", "),
            origin_name(rule.origin()).to_owned(),
            state(rule).to_owned(),
            rule.id.clone(),
        ]);
    }
    session.output.table(&rows)?;
    all.problems.iter().for_each(|problem| note(&format!("not in use: {}", told(problem))));
    if !all.next_page_token.is_empty() {
        note(&format!("there are more than {}; see --limit", filter.limit));
    }
    Ok(())
}

fn origin_name(origin: RuleOrigin) -> &'static str {
    match origin {
        RuleOrigin::Shipped => PRODUCT,
        RuleOrigin::Directory => "directory",
        RuleOrigin::Graph => "graph",
        RuleOrigin::Unspecified => "",
    }
}

fn state(rule: &Rule) -> &'static str {
    match rule {
        Rule { enabled: false, .. } => "off",
        Rule { part: true, .. } => "part",
        Rule { only_if_new: true, .. } => "if new",
        _ => "on",
    }
}

fn told(problem: &RuleProblem) -> String {
    let RuleProblem { file, field, reason } = problem;
    if field.is_empty() { format!("{file}: {reason}") } else { format!("{file}: `{field}`: {reason}") }
}

async fn show(session: &Session, id: String) -> Result<(), Failure> {
    let request = GetRuleRequest { graph_arn: session.connection.graph().await?, id };
    let answer = session.connection.rule_service().await?.get_rule(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetRuleResponse", &answer);
    }
    let rule = answer.rule.unwrap_or_default();
    session.output.line(&format!("# {}, {}", origin_name(rule.origin()), state(&rule)))?;
    answer.document.lines().try_for_each(|line| session.output.line(line))
}

async fn validate(session: &Session, file: &Path, records: Option<&Path>) -> Result<(), Failure> {
    let request =
        TestRuleRequest { graph_arn: session.connection.graph().await?, document: text(file)?, records: records.map(bytes).transpose()?.unwrap_or_default() };
    let answer = session.connection.rule_service().await?.test_rule(request).await?.into_inner();
    if session.output.is_json() {
        message::print(session.output, "gumshoe.graph.v1.TestRuleResponse", &answer)?;
    } else {
        let TestRuleResponse { problems, cases, failed_cases, records, matched_records, unreadable_records, .. } = &answer;
        problems.iter().try_for_each(|problem| session.output.line(&told(problem)))?;
        for case in failed_cases {
            session.output.line(&format!("case `{}` must {}match", case.name, if case.matches { "" } else { "not " }))?;
        }
        if problems.is_empty() {
            let right = usize::try_from(*cases).unwrap_or_default().saturating_sub(failed_cases.len());
            let matched = matched_records.len();
            session.output.line(&format!("{right} of {cases} cases are right; {matched} of {records} records match, {unreadable_records} cannot be read"))?;
        }
    }
    if answer.problems.is_empty() && answer.failed_cases.is_empty() { Ok(()) } else { Err(Failure::Usage("the rule is not right".to_owned())) }
}

async fn hunt(session: &Session, rule: &str, (from, to): (Option<Timestamp>, Option<Timestamp>), limit: u16) -> Result<(), Failure> {
    let to = to.unwrap_or_else(|| Timestamp::from_chrono(chrono::Utc::now()).unwrap_or(Timestamp::MAX));
    let from = from.unwrap_or(Timestamp((to.0 - HUNT_DAYS * MICROS_PER_DAY).max(0)));
    let window = TimeWindow::new(from, to).map_err(|_| Failure::Usage("--from must be before --to".to_owned()))?;
    let file = Path::new(rule);
    let which = if rule == "-" || file.exists() { hunt_rule_request::Rule::Document(text(file)?) } else { hunt_rule_request::Rule::Id(rule.to_owned()) };
    let request = HuntRuleRequest {
        graph_arn: session.connection.graph().await?,
        rule: Some(which),
        scope: Some(convert::window_to_proto(window)),
        max_matches: i32::from(limit),
    };
    let mut stream = session.connection.rule_service().await?.hunt_rule(request).await?.into_inner();
    let mut lines = message::Lines::new("gumshoe.graph.v1.Event")?;
    let mut rows = records::rows();
    let (mut read, mut found, mut limited) = (0, 0, false);
    while let Some(some) = stream.message().await? {
        (read, found, limited) = (some.events_read, some.matches_found, some.limited);
        for event in &some.matches {
            if session.output.is_json() {
                lines.write(event)?;
            } else {
                records::add(&mut rows, event);
            }
        }
        lines.flush()?;
    }
    lines.finish()?;
    if !session.output.is_json() {
        session.output.table(&rows)?;
    }
    note(&format!("{found} of {read} events that were looked at match{}", if limited { "; there may be more, see --limit" } else { "" }));
    Ok(())
}
