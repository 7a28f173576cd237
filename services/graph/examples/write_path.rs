//! Measures the write path alone: files to a committed graph in one process, without gRPC.
//!
//! `write_path FOLDER LAKE_FOLDER` reads every file below FOLDER on as many threads as there are cores.

use std::{
    error::Error,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use gumshoe_enrich::{Config as PlacesConfig, Places};
use gumshoe_graph::writer::{Batch, Writer};
use gumshoe_lake::{Lake, LakeConfig};
use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Options, Sink, Stop, columns::EventColumns, read};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Cut<'a> {
    columns: EventColumns,
    writer: &'a Writer,
    name: String,
    number: usize,
    runtime: tokio::runtime::Handle,
    parse_only: bool,
}

impl Cut<'_> {
    fn cut(&mut self) {
        let Ok(events) = self.columns.finish() else { return };
        if self.parse_only {
            return;
        }
        self.number += 1;
        let bytes = events.get_array_memory_size();
        let batch =
            Batch { id: format!("{}#{}", self.name, self.number), source_object: self.name.clone(), events: vec![events], dead_letters: Vec::new(), bytes };
        let committed = self.runtime.block_on(self.writer.commit(batch));
        if let Err(error) = committed {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
    }
}

impl Sink for Cut<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        self.columns.push(event);
        if self.columns.bytes() > 24 << 20 {
            self.cut();
        }
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        Ok(())
    }
}

fn files(folder: PathBuf, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let lake = std::path::absolute(PathBuf::from(arguments.next().ok_or("which lake?")?))?;
    let parse_only = arguments.next().is_some();
    let mut inputs = Vec::new();
    files(folder, &mut inputs)?;
    inputs.sort();
    let runtime = tokio::runtime::Runtime::new()?;
    let url = url::Url::from_directory_path(&lake).map_err(|()| "the lake's folder is not a path")?;
    let config: LakeConfig = serde_json::from_value(serde_json::json!({ "url": url }))?;
    let arn = "arn:aws:detective:us-east-1:123456789012:graph:0123456789abcdef0123456789abcdef".parse()?;
    let writer = runtime.block_on(async {
        let graph = Lake::open(&config).await?.graph(&arn).await?;
        Ok::<_, Box<dyn Error>>(Writer::start(graph, Arc::new(Places::open(&PlacesConfig { country: None, asn: None })?), 8_000_000))
    })?;
    let (next, bytes, records) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(path) = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok().and_then(|index| inputs.get(index)) {
                    let Ok(file) = std::fs::File::open(path) else { continue };
                    let mut cut = Cut {
                        columns: EventColumns::new(),
                        writer: &writer,
                        name: path.display().to_string(),
                        number: 0,
                        runtime: runtime.handle().clone(),
                        parse_only,
                    };
                    if let Ok(summary) = read(file, &Options::default(), &mut cut) {
                        bytes.fetch_add(summary.bytes, Ordering::Relaxed);
                        records.fetch_add(summary.records, Ordering::Relaxed);
                    }
                    cut.cut();
                }
            });
        }
    });
    let (seconds, bytes, records) = (started.elapsed().as_secs_f64(), bytes.into_inner(), records.into_inner());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let (megabytes, thousands) = (bytes as f64 / 1e6 / seconds, records as f64 / 1e3 / seconds);
    writeln!(std::io::stdout(), "{records} records, {bytes} bytes in {seconds:.2} s: {megabytes:.0} MB/s, {thousands:.0} thousand records/s")?;
    Ok(())
}
