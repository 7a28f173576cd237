//! `login`, `logout` and `graphs`.

use std::io::{self, IsTerminal as _};

use gumshoe_api::membership::v1::{ListGraphsRequest, ListGraphsResponse};
use secrecy::SecretString;

use super::Session;
use crate::{
    arguments::{Login, Remote},
    credentials::Credentials,
    output::{Output, Rows, note},
    rpc::{Connection, Failure, message},
};

pub async fn login(remote: &Remote, login: &Login, output: Output) -> Result<(), Failure> {
    let id = match &remote.access_key_id {
        Some(id) => id.clone(),
        None => ask("access key id")?,
    };
    let secret = match &remote.secret_access_key {
        Some(secret) => secret.clone(),
        None => SecretString::from(ask("secret access key")?),
    };
    let credentials = Connection::sign_in(remote, &id, &secret, login.lifetime).await?;
    let path = credentials.save()?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "endpoint": credentials.endpoint, "principal_arn": credentials.principal_arn, "path": path }));
    }
    output.line(&format!("signed in at {} as {}; kept in {}", credentials.endpoint, credentials.principal_arn, path.display()))
}

/// Reads one line; what is typed can be seen, as reading it unseen takes a terminal of its own.
fn ask(what: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        note(&format!("{what}:"));
    }
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line).map_err(|source| Failure::File { action: "read", path: "standard input".into(), source })?;
    let line = line.trim();
    if read == 0 || line.is_empty() {
        return Err(Failure::Usage(format!("no {what}: set GUMSHOE_ACCESS_KEY_ID and GUMSHOE_SECRET_ACCESS_KEY, or give both on standard input, a line each")));
    }
    Ok(line.to_owned())
}

pub fn logout(output: Output) -> Result<(), Failure> {
    let forgotten = Credentials::forget()?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "forgotten": forgotten }));
    }
    output.line(if forgotten { "signed out" } else { "nobody was signed in" })
}

pub async fn graphs(session: &Session) -> Result<(), Failure> {
    let mut all = ListGraphsResponse::default();
    let mut client = session.connection.membership_service().await?;
    loop {
        let request = ListGraphsRequest { page_size: 200, page_token: all.next_page_token.clone() };
        let page = client.list_graphs(request).await?.into_inner();
        all.graphs.extend(page.graphs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.ListGraphsResponse", &all);
    }
    let mut rows = Rows::new(&["graph", "created"]);
    for graph in all.graphs {
        rows.add([graph.arn, message::time(graph.create_time.as_ref())]);
    }
    session.output.table(&rows)
}
