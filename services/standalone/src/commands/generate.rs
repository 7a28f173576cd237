//! `generate`: sample logs.

use std::sync::Arc;

use crate::{
    arguments::Generate,
    generate::{Amount, Options, Summary, run},
    output::Output,
    progress::Progress,
    quantity::{show_bytes, show_count, show_duration},
    rpc::Failure,
};

pub async fn generate(arguments: Generate, output: Output) -> Result<(), Failure> {
    let amount = match (arguments.size, arguments.records) {
        (Some(bytes), _) => Amount::Bytes(bytes),
        (None, Some(records)) => Amount::Records(records),
        (None, None) => return Err(Failure::Usage("say how much with --size or --records".to_owned())),
    };
    let options = Options {
        kind: arguments.kind,
        amount,
        seed: arguments.seed,
        out: arguments.out.clone(),
        gzip: arguments.gzip,
        file_size: arguments.file_size,
        start: u64::try_from(arguments.start.0 / 1_000_000).unwrap_or(0),
        days: arguments.days,
        minutes_per_file: arguments.minutes_per_file,
        attack: !arguments.no_attack,
    };
    let progress = Arc::new(Progress::new(arguments.size.unwrap_or(0), "generating"));
    let shown = progress.clone();
    let work = tokio::task::spawn_blocking(move || run(&options, &move |bytes| shown.bytes(bytes)));
    let result = work.await.map_err(|error| Failure::Broken(error.to_string()))?;
    let elapsed = progress.finish();
    let summary: Summary = result.map_err(|source| Failure::File { action: "write", path: arguments.out.clone(), source })?;
    if output.is_json() {
        return output.json(&summary);
    }
    output.line(&format!(
        "{} records, {} in {} files under {}, in {}",
        show_count(summary.records),
        show_bytes(summary.bytes),
        show_count(summary.files),
        arguments.out.display(),
        show_duration(elapsed)
    ))?;
    if !summary.entities.is_empty() {
        output.line("an attack is among them; its entities:")?;
        summary.entities.iter().try_for_each(|entity| output.line(&format!("  {entity}")))?;
    }
    Ok(())
}
