//! `ingest`: files to the graph, each as one batch that counts once however often it is sent.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, stream};
use gumshoe_api::ingest::v1::{BatchResult, RecordsPiece, StreamRecordsRequest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;

use super::Session;
use crate::{
    arguments::Ingest,
    output::{Rows, note},
    progress::Progress,
    quantity::{show_bytes, show_count, show_duration},
    rpc::{Connection, Failure},
};

/// Bytes of one message; the server takes up to 2 MiB.
const PIECE: usize = 1 << 20;
/// Pieces of a file that wait for the network.
const PIECES_AHEAD: usize = 4;
/// The longest name of a batch's source that the server takes, in bytes.
const MAX_NAME: usize = 2048;
/// How often a file is sent again while the server does not answer.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How many failed files are listed.
const LISTED: usize = 20;

/// A file to send.
#[derive(Debug, Clone)]
struct Source {
    path: PathBuf,
    size: u64,
    /// Which of the command's paths it came from.
    argument: usize,
}

/// What became of one file.
#[derive(Debug, Default, Serialize)]
struct FileResult {
    path: String,
    batch_id: String,
    records: u64,
    events: u64,
    duplicates: u64,
    dead_letters: u64,
    bytes: u64,
    already_committed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    argument: usize,
}

/// Sums over files.
#[derive(Debug, Default, Clone, Serialize)]
struct Totals {
    files: u64,
    failed_files: u64,
    already_committed_files: u64,
    records: u64,
    events: u64,
    duplicates: u64,
    dead_letters: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, file: &FileResult) {
        self.files += 1;
        self.failed_files += u64::from(file.error.is_some());
        self.already_committed_files += u64::from(file.already_committed);
        self.records += file.records;
        self.events += file.events;
        self.duplicates += file.duplicates;
        self.dead_letters += file.dead_letters;
        self.bytes += file.bytes;
    }

    fn of<'a>(files: impl IntoIterator<Item = &'a FileResult>) -> Self {
        let mut totals = Self::default();
        files.into_iter().for_each(|file| totals.add(file));
        totals
    }

    fn add_up(&self) -> bool {
        self.records == self.events + self.duplicates + self.dead_letters
    }
}

/// What all files go out with.
struct Sender {
    connection: Connection,
    graph: String,
    eks_cluster: String,
    progress: Arc<Progress>,
}

pub async fn ingest(session: Session, arguments: Ingest) -> Result<(), Failure> {
    let Session { connection, output } = session;
    let spool = if arguments.paths.iter().any(|path| path == Path::new("-")) { Some(Arc::new(spool(io::stdin().lock())?)) } else { None };
    let sources = collect(&arguments.paths, spool.as_deref())?;
    let graph = connection.graph().await?;
    let bytes = sources.iter().map(|source| source.size).sum();
    let sender = Sender { connection, graph, eks_cluster: arguments.eks_cluster, progress: Arc::new(Progress::new(bytes, "ingesting")) };

    let mut results: Vec<(usize, FileResult)> = Vec::with_capacity(sources.len());
    let mut stop = None;
    {
        let mut sent = stream::iter(sources.iter().enumerate())
            .map(|(index, source)| {
                let (sender, spool) = (&sender, spool.clone());
                async move { (index, send(sender, source, spool).await) }
            })
            .buffer_unordered(usize::from(arguments.jobs));
        while let Some((index, (result, failure))) = sent.next().await {
            if let Some(error) = &result.error {
                sender.progress.note(&format!("{}: {error}", result.path));
            }
            results.push((index, result));
            // Without a server or permission, the other files would fail alike.
            if let Some(failure) = failure.filter(|failure| matches!(failure.exit_code(), 3 | 5)) {
                stop = Some(failure);
                break;
            }
        }
    }
    let elapsed = sender.progress.finish();
    results.sort_by_key(|(index, _)| *index);
    let files: Vec<FileResult> = results.into_iter().map(|(_, file)| file).collect();
    let totals = Totals::of(&files);
    if output.is_json() {
        let rate = totals.records as f64 / elapsed.as_secs_f64().max(0.001);
        output.json(&serde_json::json!({
            "files": files, "totals": totals, "not_sent": sources.len() - files.len(), "seconds": elapsed.as_secs_f64(), "records_per_second": rate,
        }))?;
    } else {
        print(output, &arguments.paths, &files, &totals, elapsed)?;
    }
    if let Some(failure) = stop {
        let left = sources.len() - files.len();
        note(&format!("{left} files were not sent; run the same command again, nothing counts twice"));
        return Err(failure);
    }
    if totals.failed_files > 0 {
        return Err(Failure::Partial(format!("{} of {} files failed; run the same command again, nothing counts twice", totals.failed_files, totals.files)));
    }
    if !totals.add_up() {
        return Err(Failure::Partial("the server's counts do not add up: records are not events + duplicates + dead letters".to_owned()));
    }
    Ok(())
}

fn print(output: crate::output::Output, paths: &[PathBuf], files: &[FileResult], totals: &Totals, elapsed: Duration) -> Result<(), Failure> {
    let mut rows = Rows::new(&["path", "#files", "#failed", "#bytes", "#records", "#events", "#duplicates", "#dead letters"]);
    let mut add = |name: String, totals: &Totals| {
        rows.add([
            name,
            show_count(totals.files),
            show_count(totals.failed_files),
            show_bytes(totals.bytes),
            show_count(totals.records),
            show_count(totals.events),
            show_count(totals.duplicates),
            show_count(totals.dead_letters),
        ]);
    };
    for (argument, path) in paths.iter().enumerate() {
        add(path.display().to_string(), &Totals::of(files.iter().filter(|file| file.argument == argument)));
    }
    if paths.len() > 1 {
        add("total".to_owned(), totals);
    }
    output.table(&rows)?;
    output.line(&format!(
        "{} records = {} events + {} duplicates + {} dead letters",
        show_count(totals.records),
        show_count(totals.events),
        show_count(totals.duplicates),
        show_count(totals.dead_letters)
    ))?;
    let seconds = elapsed.as_secs_f64().max(0.001);
    output.line(&format!(
        "in {}: {} records/s, {}/s",
        show_duration(elapsed),
        show_count((totals.records as f64 / seconds) as u64),
        show_bytes((totals.bytes as f64 / seconds) as u64)
    ))?;
    if totals.already_committed_files > 0 {
        output.line(&format!("{} files had been ingested before; their counts are those of that time", show_count(totals.already_committed_files)))?;
    }
    if totals.dead_letters > 0 {
        output.line("see `gumshoe dead-letters` for what could not be parsed")?;
    }
    for file in files.iter().filter(|file| file.error.is_some()).take(LISTED) {
        output.line(&format!("failed: {}: {}", file.path, file.error.as_deref().unwrap_or_default()))?;
    }
    Ok(())
}

/// Every file under the paths, those of one path sorted.
fn collect(paths: &[PathBuf], spool: Option<&Spool>) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for (argument, path) in paths.iter().enumerate() {
        if path == Path::new("-") {
            sources.push(Source { path: path.clone(), size: spool.map_or(0, |spool| spool.size), argument });
            continue;
        }
        let failed = |source| Failure::File { action: "read", path: path.clone(), source };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            let mut found = Vec::new();
            walk(path, argument, &mut found)?;
            if found.is_empty() {
                note(&format!("no files in {}", path.display()));
            }
            found.sort_by(|left, right| left.path.cmp(&right.path));
            sources.extend(found);
        } else {
            sources.push(Source { path: path.clone(), size: metadata.len(), argument });
        }
    }
    Ok(sources)
}

fn walk(folder: &Path, argument: usize, found: &mut Vec<Source>) -> Result<(), Failure> {
    let failed = |source| Failure::File { action: "read", path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() {
            walk(&path, argument, found)?;
            continue;
        }
        let metadata = fs::metadata(&path).map_err(|source| Failure::File { action: "read", path: path.clone(), source })?;
        if metadata.is_file() {
            found.push(Source { size: metadata.len(), path, argument });
        } else {
            // A linked folder may lead in a circle; pipes and devices have no end.
            note(&format!("left out {}: not a file", path.display()));
        }
    }
    Ok(())
}

/// Standard input, kept in a nameless file, as its hash must be known before its first byte is sent.
#[derive(Debug)]
struct Spool {
    file: File,
    size: u64,
}

fn spool(mut input: impl io::Read) -> Result<Spool, Failure> {
    let failed = |source| Failure::File { action: "read", path: "standard input".into(), source };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let size = io::copy(&mut input, &mut file).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(Spool { file, size })
}

/// Sends one file, again and again while the server does not answer.
async fn send(sender: &Sender, source: &Source, spool: Option<Arc<Spool>>) -> (FileResult, Option<Failure>) {
    let mut result = FileResult { path: source.path.display().to_string(), argument: source.argument, ..FileResult::default() };
    let spool = spool.filter(|_| source.path == Path::new("-"));
    let fingerprint = {
        let (path, spool) = (source.path.clone(), spool.clone());
        match spawn_blocking(move || Fingerprint::of(&path, spool.as_deref())).await {
            Ok(Ok(fingerprint)) => Arc::new(fingerprint),
            Ok(Err(error)) => return failed(result, Failure::File { action: "read", path: source.path.clone(), source: error }),
            Err(error) => return failed(result, Failure::Broken(error.to_string())),
        }
    };
    result.batch_id.clone_from(&fingerprint.batch_id);
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match attempt_once(sender, source, spool.clone(), fingerprint.clone()).await {
            Ok(batch) => {
                sender.progress.records(batch.records);
                let BatchResult { records, events, duplicates, dead_letters, bytes, already_committed, .. } = batch;
                let batch_id = std::mem::take(&mut result.batch_id);
                return (FileResult { batch_id, records, events, duplicates, dead_letters, bytes, already_committed, ..result }, None);
            }
            Err(failure) if failure.is_passing() && attempt < TRIES => {
                sender.progress.note(&format!("{}: {failure}; trying again in {}", source.path.display(), show_duration(pause)));
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(failure) => return failed(result, failure),
        }
    }
    failed(result, Failure::Broken("out of tries".to_owned()))
}

fn failed(mut result: FileResult, failure: Failure) -> (FileResult, Option<Failure>) {
    result.error = Some(failure.to_string());
    (result, Some(failure))
}

async fn attempt_once(sender: &Sender, source: &Source, spool: Option<Arc<Spool>>, fingerprint: Arc<Fingerprint>) -> Result<BatchResult, Failure> {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let (path, graph, eks_cluster) = (source.path.clone(), sender.graph.clone(), sender.eks_cluster.clone());
    let mark = fingerprint.clone();
    let reader = spawn_blocking(move || read_pieces(&path, spool.as_deref(), &mark, graph, eks_cluster, &pieces));
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let bar = sender.progress.clone();
    let requests = ReceiverStream::new(receiver).inspect(move |request: &StreamRecordsRequest| {
        let bytes = request.piece.as_ref().map_or(0, |piece| piece.data.len() as u64);
        counted.fetch_add(bytes, Ordering::Relaxed);
        bar.bytes(bytes);
    });
    let answer = async {
        let mut answers = sender.connection.ingest_service().await?.stream_records(requests).await?.into_inner();
        answers.message().await.map_err(Failure::from)
    }
    .await;
    // A file that cannot be read to its end says more than the stream that broke off for it.
    let read = reader.await.map_err(|error| Failure::Broken(error.to_string()))?;
    let outcome = match (answer, read) {
        (Ok(Some(answer)), Ok(())) => answer.result.ok_or_else(|| Failure::Broken("the server acknowledged no batch".to_owned())),
        (_, Err(error)) => Err(Failure::File { action: "read", path: source.path.clone(), source: error }),
        (Ok(None), Ok(())) => Err(Failure::broken_off()),
        (Err(failure), Ok(())) => Err(failure),
    };
    if outcome.is_err() {
        sender.progress.again(sent.load(Ordering::Relaxed));
    }
    outcome
}

/// What a file held when its hash was taken.
#[derive(Debug)]
struct Fingerprint {
    batch_id: String,
    size: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    fn of(path: &Path, spool: Option<&Spool>) -> io::Result<Self> {
        let mut file = open(path, spool)?;
        let modified = file.metadata()?.modified().ok();
        let mut hash = Sha256::new();
        // The name without its folder: the same file under another mount is the same batch.
        hash.update(path.file_name().unwrap_or(path.as_os_str()).as_encoded_bytes());
        hash.update([0]);
        let (mut size, mut buffer) = (0_u64, vec![0; PIECE]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hash.update(buffer.get(..read).unwrap_or_default());
        }
        Ok(Self { batch_id: hex::encode(hash.finalize()), size, modified })
    }
}

fn open(path: &Path, spool: Option<&Spool>) -> io::Result<File> {
    match spool {
        None => File::open(path),
        Some(spool) => {
            let mut file = spool.file.try_clone()?;
            file.rewind()?;
            Ok(file)
        }
    }
}

/// Reads the file into pieces; stops without a word when nobody takes them.
fn read_pieces(
    path: &Path,
    spool: Option<&Spool>,
    fingerprint: &Fingerprint,
    graph_arn: String,
    eks_cluster: String,
    pieces: &mpsc::Sender<StreamRecordsRequest>,
) -> io::Result<()> {
    let changed = || io::Error::other("it changed while it was read");
    let mut file = open(path, spool)?;
    let mut left = fingerprint.size;
    let mut first = Some((graph_arn, name(path, spool.is_some()), eks_cluster));
    loop {
        let mut data = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
        file.read_exact(&mut data).map_err(|error| if error.kind() == io::ErrorKind::UnexpectedEof { changed() } else { error })?;
        left -= data.len() as u64;
        let last = left == 0;
        // Checked before the last piece, so that a changed file is never a whole batch.
        if last && spool.is_none() && (file.metadata()?.len() != fingerprint.size || file.metadata()?.modified().ok() != fingerprint.modified) {
            return Err(changed());
        }
        let (graph_arn, source_object, eks_cluster) = first.take().unwrap_or_default();
        let piece = RecordsPiece { batch_id: fingerprint.batch_id.clone(), source_object, data: data.into(), last, eks_cluster };
        if pieces.blocking_send(StreamRecordsRequest { graph_arn, piece: Some(piece) }).is_err() || last {
            return Ok(());
        }
    }
}

/// What the records' source is called: the absolute path.
fn name(path: &Path, is_input: bool) -> String {
    if is_input {
        return "standard input".to_owned();
    }
    let mut name = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b/2.json", "a/1.json", "a/z/0.json.gz", "c.log"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let single = folder.path().join("c.log");
        let sources = collect(&[folder.path().to_owned(), single], None).unwrap();
        let names: Vec<_> = sources.iter().map(|source| (source.argument, source.path.strip_prefix(folder.path()).unwrap().display().to_string())).collect();
        let expected = [(0, "a/1.json"), (0, "a/z/0.json.gz"), (0, "b/2.json"), (0, "c.log"), (1, "c.log")];
        assert_eq!(names, expected.map(|(argument, name)| (argument, name.to_owned())));
        assert!(collect(&["/no/such/path".into()], None).is_err());
    }

    #[test]
    fn a_batch_is_known_by_name_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            Fingerprint::of(&path, None).unwrap().batch_id
        };
        let one = at("a/log.json", "content");
        assert_eq!(one.len(), 64);
        assert_eq!(one, at("b/log.json", "content"));
        assert_ne!(one, at("a/other.json", "content"));
        assert_ne!(one, at("a/log.json", "contents"));
    }

    #[test]
    fn pieces_make_up_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let path = folder.path().join(size.to_string());
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            fs::write(&path, &content).unwrap();
            let (sender, mut receiver) = mpsc::channel(16);
            let mark = Fingerprint::of(&path, None).unwrap();
            read_pieces(&path, None, &mark, "graph".to_owned(), "cluster".to_owned(), &sender).unwrap();
            drop(sender);
            let (mut whole, mut lasts, mut count) = (Vec::new(), 0, 0);
            while let Some(request) = receiver.blocking_recv() {
                let piece = request.piece.unwrap();
                assert_eq!(request.graph_arn.is_empty(), count > 0);
                assert_eq!(piece.source_object.is_empty(), count > 0);
                assert_eq!(piece.batch_id, mark.batch_id);
                lasts += u32::from(piece.last);
                count += 1;
                whole.extend_from_slice(&piece.data);
            }
            assert_eq!((whole == content, lasts), (true, 1), "{size}");
        }
    }

    #[test]
    fn a_file_that_changed_is_never_a_whole_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before").unwrap();
        let mark = Fingerprint::of(&path, None).unwrap();
        for after in ["bef", "before and after"] {
            fs::write(&path, after).unwrap();
            let (sender, mut receiver) = mpsc::channel(16);
            assert!(read_pieces(&path, None, &mark, String::new(), String::new(), &sender).is_err());
            drop(sender);
            assert!(receiver.blocking_recv().is_none());
        }
    }

    #[test]
    fn standard_input_can_be_read_twice() {
        let spool = spool("some text".as_bytes()).unwrap();
        let first = Fingerprint::of(Path::new("-"), Some(&spool)).unwrap();
        let second = Fingerprint::of(Path::new("-"), Some(&spool)).unwrap();
        assert_eq!((first.size, first.batch_id), (9, second.batch_id));
    }

    #[test]
    fn totals_add_up() {
        let good = FileResult { records: 5, events: 3, duplicates: 1, dead_letters: 1, ..FileResult::default() };
        let bad = FileResult { error: Some("x".to_owned()), ..FileResult::default() };
        let totals = Totals::of([&good, &bad, &good]);
        assert_eq!((totals.files, totals.failed_files, totals.records), (3, 1, 10));
        assert!(totals.add_up());
        assert!(!Totals::of([&FileResult { records: 5, events: 3, ..FileResult::default() }]).add_up());
    }
}
