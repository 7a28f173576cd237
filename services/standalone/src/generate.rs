//! Sample logs of any size: seeded, the same bytes for the same options, with realistic skew.
//!
//! | module | holds |
//! |---|---|
//! | [`random`], [`text`] | seeded numbers and fast writing |
//! | [`world`], [`catalog`] | the invented organisation and what it calls |
//! | [`cloudtrail`], [`vpc_flow`], [`guardduty`], [`eks_audit`] | one format each |
//! | [`story`] | one attack told across them |

mod catalog;
mod cloudtrail;
mod eks_audit;
mod guardduty;
mod random;
mod story;
mod text;
mod vpc_flow;
mod world;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use flate2::{Compression, write::GzEncoder};

use random::Random;
use text::Civil;
use world::{Account, REGIONS, World};

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// CloudTrail records in S3 objects.
    Cloudtrail,
    /// VPC flow logs, version 2.
    VpcFlow,
    /// VPC flow logs with the fields of versions 2 to 5.
    VpcFlowV5,
    /// GuardDuty findings, a line each.
    Guardduty,
    /// Kubernetes audit events, a line each.
    EksAudit,
    /// All of them, with an attack in it.
    Mixed,
}

/// How much to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Bytes before compression.
    Bytes(u64),
    /// Records.
    Records(u64),
}

impl Amount {
    fn number(self) -> u64 {
        match self {
            Self::Bytes(number) | Self::Records(number) => number,
        }
    }

    fn with(self, number: u64) -> Self {
        match self {
            Self::Bytes(_) => Self::Bytes(number),
            Self::Records(_) => Self::Records(number),
        }
    }

    fn percent(self, share: u64) -> Self {
        self.with(self.number() * share / 100)
    }

    fn reached(self, bytes: u64, records: u64) -> bool {
        match self {
            Self::Bytes(target) => bytes >= target,
            Self::Records(target) => records >= target,
        }
    }
}

/// What, how much and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// What.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// The same seed and options give the same bytes.
    pub seed: u64,
    /// The folder to fill.
    pub out: PathBuf,
    /// Compress with gzip.
    pub gzip: bool,
    /// Bytes of a file before compression; chosen by amount and days if absent.
    pub file_size: Option<u64>,
    /// The first instant, in seconds since the epoch.
    pub start: u64,
    /// Days to spread the records over.
    pub days: u64,
    /// Minutes that a file spans, whatever the days.
    pub minutes_per_file: Option<u64>,
    /// Whether an attack is among mixed logs.
    pub attack: bool,
}

/// What was made.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Files.
    pub files: u64,
    /// Records.
    pub records: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// Entities worth a look: those of the attack.
    pub entities: Vec<String>,
}

/// One file to write.
#[derive(Debug, Clone, Copy)]
struct Job {
    kind: Kind,
    number: u64,
    of: u64,
    amount: Amount,
}

/// Files that share a slice of time, one for each busy account and region.
const FILES_PER_SLICE: u64 = 4;

/// Writes the logs; `progress` is told of bytes as they are made.
///
/// # Errors
/// When a folder or file cannot be written.
pub fn run(options: &Options, progress: &(dyn Fn(u64) + Sync)) -> io::Result<Summary> {
    let world = World::new(options.seed);
    let jobs = plan(options);
    let (next, done) = (AtomicUsize::new(0), Mutex::new((Summary::default(), None)));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = write(options, &world, job, progress);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok((records, bytes)) => {
                    done.0.files += 1;
                    done.0.records += records;
                    done.0.bytes += bytes;
                }
                Err(error) => {
                    done.1.get_or_insert(error);
                    next.store(jobs.len(), Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (mut summary, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    if options.kind == Kind::Mixed && options.attack {
        tell_story(options, &world, &mut summary)?;
    }
    Ok(summary)
}

fn plan(options: &Options) -> Vec<Job> {
    let amount = options.amount;
    let parts = match options.kind {
        Kind::Mixed => {
            let findings = match amount {
                Amount::Bytes(bytes) => bytes / 2_000_000,
                Amount::Records(records) => records / 2_000,
            };
            vec![
                (Kind::Cloudtrail, amount.percent(60)),
                (Kind::VpcFlow, amount.percent(18)),
                (Kind::VpcFlowV5, amount.percent(12)),
                (Kind::EksAudit, amount.percent(10)),
                (Kind::Guardduty, Amount::Records(findings.clamp(8, 400))),
            ]
        }
        kind => vec![(kind, amount)],
    };
    parts.into_iter().flat_map(|(kind, amount)| split(options, kind, amount)).collect()
}

fn split(options: &Options, kind: Kind, amount: Amount) -> Vec<Job> {
    let record_bytes = match kind {
        Kind::VpcFlow => 105,
        Kind::VpcFlowV5 => 240,
        _ => 1_400,
    };
    let unit = if matches!(amount, Amount::Records(_)) { record_bytes } else { 1 };
    let bytes = amount.number().saturating_mul(unit);
    let file_size = options.file_size.unwrap_or_else(|| (bytes / (options.days.max(1) * 2 * FILES_PER_SLICE)).clamp(256 * 1024, 64_000_000));
    let per_file = (file_size / unit).max(1);
    let of = amount.number().div_ceil(per_file);
    (0..of).map(|number| Job { kind, number, of, amount: amount.with(per_file.min(amount.number() - number * per_file)) }).collect()
}

/// A file's part of the whole time, in seconds since the epoch.
fn slice(options: &Options, job: &Job) -> (u64, u64) {
    let slices = job.of.div_ceil(FILES_PER_SLICE).max(1);
    let span = options.minutes_per_file.map_or(options.days.max(1) * 86_400, |minutes| slices * minutes * 60);
    let number = job.number / FILES_PER_SLICE;
    (options.start + span * number / slices, options.start + span * (number + 1) / slices)
}

fn write(options: &Options, world: &World, job: &Job, progress: &(dyn Fn(u64) + Sync)) -> io::Result<(u64, u64)> {
    let mut random = Random::new(options.seed, (job.kind as u64 + 1) << 40 | job.number);
    let (from, to) = slice(options, job);
    // One account of each slice is the busiest; the others get what is left.
    let account = world.account_law.of(&world.accounts, &mut random).ok_or_else(|| io::Error::other("the world has no account"))?;
    let region = world.region_law.of(REGIONS, &mut random).copied().unwrap_or("us-east-1");
    let path = options.out.join(key(job.kind, account, region, from, &mut random));
    let mut sink = Sink::create(&path, options.gzip)?;
    let wide = job.kind == Kind::VpcFlowV5;
    let mut cloudtrail = cloudtrail::Writer::new(world, account, region, random.clone());
    let mut flows = vpc_flow::Writer::new(world, account, region, wide, random.clone());
    let mut audit = eks_audit::Writer::new(account, region, random.clone());
    let mut out = String::with_capacity(1 << 20);
    let (mut records, mut flushed) = (0_u64, 0_u64);
    match job.kind {
        Kind::Cloudtrail | Kind::Mixed => out.push_str(r#"{"Records":["#),
        Kind::VpcFlow | Kind::VpcFlowV5 => out.push_str(flows.header()),
        Kind::Guardduty | Kind::EksAudit => {}
    }
    loop {
        let bytes = flushed + out.len() as u64;
        if job.amount.reached(bytes, records) {
            break;
        }
        let gone = match job.amount {
            Amount::Bytes(target) => u128::from(bytes) * u128::from(to - from) / u128::from(target.max(1)),
            Amount::Records(target) => u128::from(records) * u128::from(to - from) / u128::from(target.max(1)),
        };
        let gone = u64::try_from(gone).unwrap_or(0);
        // Records stand in the order in which they arrived, not in which they happened.
        let time = (from + gone).saturating_sub(random.below(240)).clamp(from, to.saturating_sub(1));
        match job.kind {
            Kind::Cloudtrail | Kind::Mixed => {
                if records > 0 {
                    out.push(',');
                }
                cloudtrail.record(&mut out, time);
                records += 1;
            }
            Kind::VpcFlow | Kind::VpcFlowV5 => {
                let mut limit = flows.records(&mut out, time - time % 60);
                if let Amount::Records(target) = job.amount
                    && records + limit > target
                {
                    // Half a conversation, so that the count is exact.
                    let cut = out.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
                    out.truncate(cut);
                    limit -= 1;
                }
                records += limit;
            }
            Kind::EksAudit => {
                audit.record(&mut out, time);
                records += 1;
            }
            Kind::Guardduty => {
                let before = out.len();
                guardduty::everyday(world, account, region, time, &mut out, &mut random);
                records += u64::from(out.len() > before);
            }
        }
        if out.len() >= 1 << 20 {
            flushed += flush(&mut sink, &mut out, progress)?;
        }
    }
    if matches!(job.kind, Kind::Cloudtrail | Kind::Mixed) {
        out.push_str("]}");
    }
    flushed += flush(&mut sink, &mut out, progress)?;
    sink.finish()?;
    Ok((records, flushed))
}

fn flush(sink: &mut Sink, out: &mut String, progress: &(dyn Fn(u64) + Sync)) -> io::Result<u64> {
    let bytes = out.len() as u64;
    sink.write_all(out.as_bytes())?;
    out.clear();
    progress(bytes);
    Ok(bytes)
}

/// A file's key under the bucket, as the service names it.
fn key(kind: Kind, account: &Account, region: &str, time: u64, random: &mut Random) -> String {
    let Civil { year, month, day, hour, minute, .. } = Civil::of(time);
    let account = &account.id;
    let stamp = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}Z");
    let suffix = text::made(|out| text::key(out, random.next(), 16));
    let (folder, name) = match kind {
        Kind::Cloudtrail | Kind::Mixed => ("CloudTrail", format!("{account}_CloudTrail_{region}_{stamp}_{suffix}.json")),
        Kind::VpcFlow | Kind::VpcFlowV5 => {
            let version = if kind == Kind::VpcFlowV5 { "fl-05c0ffee05c0ffee5" } else { "fl-02c0ffee02c0ffee2" };
            ("vpcflowlogs", format!("{account}_vpcflowlogs_{region}_{version}_{stamp}_{}.log", suffix.to_lowercase()))
        }
        Kind::Guardduty => ("GuardDuty", format!("{}.jsonl", suffix.to_lowercase())),
        Kind::EksAudit => ("EKS", format!("{account}_eks_{region}_{stamp}_{}.jsonl", suffix.to_lowercase())),
    };
    format!("AWSLogs/{account}/{folder}/{region}/{year:04}/{month:02}/{day:02}/{name}")
}

fn tell_story(options: &Options, world: &World, summary: &mut Summary) -> io::Result<()> {
    // In the last day, so that everything before it is the baseline.
    let start = options.start + options.days.max(1) * 86_400 - 10 * 3_600;
    let Some(story) = story::tell(world, start, options.seed) else { return Ok(()) };
    let Civil { year, month, day, hour, .. } = Civil::of(start);
    for (folder, name, text) in [
        (
            "CloudTrail",
            format!("{}_CloudTrail_{}_{year:04}{month:02}{day:02}T{hour:02}40Z_k3Y1eAkEd0nTh3Wb.json", story.account, story.region),
            &story.cloudtrail,
        ),
        ("GuardDuty", "k3y1eaked-findings.jsonl".to_owned(), &story.guardduty),
    ] {
        let path = format!("AWSLogs/{}/{folder}/{}/{year:04}/{month:02}/{day:02}/{name}", story.account, story.region);
        let mut sink = Sink::create(&options.out.join(path), options.gzip)?;
        sink.write_all(text.as_bytes())?;
        sink.finish()?;
        summary.files += 1;
        summary.bytes += text.len() as u64;
    }
    summary.records += story.records;
    summary.entities = story::hints(world);
    Ok(())
}

/// A file, compressed or not.
enum Sink {
    Plain(File),
    Gzip(Box<GzEncoder<File>>),
}

impl Sink {
    fn create(path: &Path, gzip: bool) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if gzip {
            let mut name = path.as_os_str().to_owned();
            name.push(".gz");
            return Ok(Self::Gzip(Box::new(GzEncoder::new(File::create(name)?, Compression::fast()))));
        }
        Ok(Self::Plain(File::create(path)?))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(encoder) => encoder.finish().and_then(|mut file| file.flush()),
        }
    }
}

#[cfg(test)]
mod tests;
