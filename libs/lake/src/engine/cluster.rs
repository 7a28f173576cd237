//! A Ballista cluster: the client that hands it plans, its scheduler, its executors.
//!
//! Neither asks who calls. Whoever reaches their ports can read the lake as executors can: keep them on a network of their
//! own.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ballista_core::{
    config::BallistaConfig,
    error::BallistaError,
    execution_plans::DistributedQueryExec,
    extension::SessionConfigExt,
    serde::{
        BallistaLogicalExtensionCodec,
        protobuf::{CancelJobParams, scheduler_grpc_client::SchedulerGrpcClient},
    },
    utils::{GrpcClientConfig, create_grpc_client_endpoint},
};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
pub use ballista_executor::health::ExecutorHealth;
use ballista_scheduler::{
    cluster::BallistaCluster,
    config::SchedulerConfig,
    scheduler_process::{create_scheduler, start_grpc_service_with_listener},
};
use datafusion::{
    catalog::TableProvider,
    common::TableReference,
    datasource::file_format::FileFormatFactory,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{Extension, LogicalPlan},
    physical_plan::ExecutionPlan,
    prelude::{SessionConfig, SessionContext},
};
use datafusion_proto::{
    logical_plan::LogicalExtensionCodec,
    protobuf::{LogicalPlanNode, PhysicalPlanNode},
};
use futures::{StreamExt, stream};
use object_store::{ObjectStore, memory::InMemory};
use tokio::net::TcpListener;
use url::Url;

use super::{
    Query, Rows, is_vanished,
    pinned::{LAKE, Pinned},
    plan, settings, whole,
};
use crate::{LakeConfig, LakeError, store::Store};

/// Largest message: a plan names every file that it reads, about 100 bytes each.
const MESSAGE_BYTES: u32 = 256 << 20;
/// Bytes of files to a partition of a plan, about.
const PARTITION_BYTES: u64 = 64 << 20;
/// Partitions of a plan, fewest and most.
const PARTITIONS: (u64, u64) = (4, 512);
/// How often a query is begun again.
const RETRIES: u32 = 3;
/// How long it waits before.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands plans to a scheduler.
#[derive(Debug, Clone)]
pub struct Client {
    scheduler: String,
}

impl Client {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { scheduler: format!("http://{host}:{port}") }
    }

    pub(super) async fn run(&self, runtime: Arc<RuntimeEnv>, tables: Vec<Pinned>, query: &Query) -> Result<Rows, LakeError> {
        let bytes: u64 = tables.iter().map(Pinned::bytes).sum();
        let partitions = (bytes / PARTITION_BYTES).clamp(PARTITIONS.0, PARTITIONS.1);
        let config = settings(usize::try_from(partitions).unwrap_or(usize::MAX))
            .upgrade_for_ballista()
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize)
            // Who waits for a dead executor holds up the work of the others.
            .set_usize("ballista.client.io_retries_times", 2)
            .set_usize("ballista.client.io_retry_wait_time_ms", 500);
        let session = SessionContext::new_with_state(state(config, runtime));
        let plan = Box::pin(plan(&session, tables, query)).await?.into_optimized_plan()?;
        let config = session.copied_config().ballista_config();
        let job = Job { scheduler: self.scheduler.clone(), config, plan, session: session.session_id(), task: session.task_ctx() };
        let attempts = Attempts { job, running: None, delivered: 0, skipping: 0, left: RETRIES };
        let next = |mut attempts: Attempts| async move { Ok(attempts.next().await?.map(|rows| (rows, attempts))) };
        Ok(stream::try_unfold(attempts, next).boxed())
    }
}

/// A plan and who runs it.
struct Job {
    scheduler: String,
    config: BallistaConfig,
    plan: LogicalPlan,
    session: String,
    task: Arc<TaskContext>,
}

impl Job {
    fn submit(&self) -> Result<Running, LakeError> {
        let (scheduler, config, session) = (self.scheduler.clone(), self.config.clone(), self.session.clone());
        let query = DistributedQueryExec::with_extension(scheduler.clone(), config, self.plan.clone(), Arc::new(Codec::default()), session);
        let rows = query.execute(0, Arc::clone(&self.task))?;
        Ok(Running { scheduler, query, rows, ended: false })
    }
}

/// One query, run as often as it takes to hand over all its rows.
struct Attempts {
    job: Job,
    running: Option<Running>,
    /// Rows handed over.
    delivered: usize,
    /// Rows of this attempt that were handed over by one before.
    skipping: usize,
    left: u32,
}

impl Attempts {
    async fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            let running = match &mut self.running {
                Some(running) => running,
                None => {
                    self.skipping = self.delivered;
                    self.running.insert(self.job.submit()?)
                }
            };
            match running.rows.next().await {
                Some(Ok(rows)) => {
                    let skipped = rows.num_rows().min(self.skipping);
                    self.skipping -= skipped;
                    let rows = rows.slice(skipped, rows.num_rows() - skipped);
                    if rows.num_rows() > 0 {
                        self.delivered += rows.num_rows();
                        return Ok(Some(rows));
                    }
                }
                None => {
                    running.ended = true;
                    return Ok(None);
                }
                Some(Err(error)) => {
                    let error = explain(error);
                    if self.left == 0 || !matches!(error, LakeError::Engine(_)) {
                        return Err(error);
                    }
                    tracing::warn!(%error, rows = self.delivered, "a heavy query is begun again");
                    self.left -= 1;
                    self.running = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A query on the cluster. Dropped before its end, it is cancelled there.
struct Running {
    scheduler: String,
    query: DistributedQueryExec<LogicalPlanNode>,
    rows: SendableRecordBatchStream,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (false, Some(job)) = (self.ended, self.query.job_id()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(cancel(self.scheduler.clone(), job.into()));
        }
    }
}

async fn cancel(scheduler: String, job_id: String) {
    let cancel = async {
        let channel = create_grpc_client_endpoint(scheduler, Some(&GrpcClientConfig::default()))?.connect().await?;
        SchedulerGrpcClient::new(channel).cancel_job(CancelJobParams { job_id: job_id.clone() }).await?;
        Ok::<_, BallistaError>(())
    };
    if let Err(error) = cancel.await {
        tracing::debug!(%error, job_id, "a heavy query was not cancelled");
    }
}

/// In what the scheduler says of a job that it has given up: executors or the store were lost, and a new job may find others.
const LOST: [&str; 3] = ["executors were lost", "Shuffle fetch partition error", "Generic S3 error"];

/// The client gives texts only. A job that failed for what it is fails again; all else is what was lost, a connection that
/// broke, or a result that went with its executor.
fn explain(error: DataFusionError) -> LakeError {
    let text = whole(&error);
    if is_vanished(&text) {
        return LakeError::Vanished;
    }
    let failed = text.contains("Could not parse plan") || (text.contains("Job ") && text.contains(" failed: "));
    if failed && !LOST.iter().any(|lost| text.contains(lost)) { error.into() } else { LakeError::Engine(text) }
}

/// Plans of [`Pinned`] tables as bytes; all else is Ballista's.
#[derive(Debug, Default)]
struct Codec(BallistaLogicalExtensionCodec);

impl LogicalExtensionCodec for Codec {
    fn try_decode(&self, bytes: &[u8], inputs: &[LogicalPlan], context: &TaskContext) -> Result<Extension, DataFusionError> {
        self.0.try_decode(bytes, inputs, context)
    }

    fn try_encode(&self, node: &Extension, bytes: &mut Vec<u8>) -> Result<(), DataFusionError> {
        self.0.try_encode(node, bytes)
    }

    fn try_decode_table_provider(&self, bytes: &[u8], _: &TableReference, _: SchemaRef, _: &TaskContext) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        Ok(Arc::new(Pinned::decode(bytes)?))
    }

    fn try_encode_table_provider(&self, name: &TableReference, table: Arc<dyn TableProvider>, bytes: &mut Vec<u8>) -> Result<(), DataFusionError> {
        let table = table.downcast_ref::<Pinned>().ok_or_else(|| DataFusionError::Plan(format!("`{name}` is no table of a graph")))?;
        bytes.extend(table.encode()?);
        Ok(())
    }

    fn try_decode_file_format(&self, bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn FileFormatFactory>, DataFusionError> {
        self.0.try_decode_file_format(bytes, context)
    }

    fn try_encode_file_format(&self, bytes: &mut Vec<u8>, format: Arc<dyn FileFormatFactory>) -> Result<(), DataFusionError> {
        self.0.try_encode_file_format(bytes, format)
    }
}

fn state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
    SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_optimizer_rules(ballista_core::optimizer::ballista_default_optimizer_rules())
        .build()
}

fn runtime(builder: RuntimeEnvBuilder, store: Arc<dyn ObjectStore>) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let runtime = builder.build_arc()?;
    let lake = Url::parse(LAKE).map_err(|error| DataFusionError::External(error.into()))?;
    runtime.register_object_store(&lake, store);
    Ok(runtime)
}

fn failed(error: &BallistaError) -> LakeError {
    LakeError::Engine(error.to_string())
}

/// How a scheduler is run.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// The host by which executors reach it.
    pub advertise_host: String,
    /// How long an executor may be silent until its work is given to others.
    pub executor_timeout: Duration,
}

/// Runs a scheduler until `shutdown`. It reads no data: it needs no lake. Work under way ends with it, and is begun again by
/// who asked for it. Over HTTP, on the same port, `/healthz` says that it runs, and `/readyz` that it has executors.
///
/// # Errors
/// [`LakeError::Engine`] when it cannot go on.
pub async fn schedule(listener: TcpListener, options: SchedulerOptions, shutdown: impl Future<Output = ()>) -> Result<(), LakeError> {
    let port = listener.local_addr().map_err(|error| LakeError::Engine(error.to_string()))?.port();
    let silence = options.executor_timeout.as_secs().max(2);
    let session = |config| Ok(state(config, runtime(RuntimeEnvBuilder::new(), Arc::new(InMemory::new()))?));
    let config = SchedulerConfig {
        external_host: options.advertise_host,
        bind_port: port,
        executor_timeout_seconds: silence,
        expire_dead_executor_interval_seconds: (silence / 4).max(1),
        no_executors_grace_period_seconds: silence.saturating_mul(2),
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        override_session_builder: Some(Arc::new(session)),
        override_logical_codec: Some(Arc::new(Codec::default())),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(|error| failed(&error))?;
    let scheduler = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await.map_err(|error| failed(&error))?;
    tokio::select! {
        served = start_grpc_service_with_listener(listener, scheduler) => served.map_err(|error| failed(&error)),
        () = shutdown => Ok(()),
    }
}

/// How an executor is run.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The scheduler's host and port.
    pub scheduler: (String, u16),
    /// Where to listen.
    pub address: IpAddr,
    /// The port for results, which other executors and graph fetch.
    pub results_port: u16,
    /// The port for tasks, which the scheduler hands out.
    pub tasks_port: u16,
    /// The host by which others reach it; `None`: as the scheduler sees it.
    pub advertise_host: Option<String>,
    /// Tasks at a time; 0: one a core.
    pub cores: usize,
    /// Memory of all tasks before they spill; `None`: 70% of the container's or the machine's.
    pub memory_bytes: Option<u64>,
    /// Where results and what is spilled are kept meanwhile.
    pub work_directory: PathBuf,
    /// How often it says that it is there.
    pub heartbeat: Duration,
}

/// Runs an executor until SIGTERM or SIGINT, when it ends the tasks that it has. It waits for the scheduler. `health` says
/// whether the scheduler has answered the last time.
///
/// # Errors
/// [`LakeError`] when the lake cannot be opened, and when it cannot go on.
pub async fn execute(lake: &LakeConfig, options: ExecutorOptions, health: ExecutorHealth) -> Result<(), LakeError> {
    let store = Store::open(lake)?.lake();
    let directory = options.work_directory;
    let bad = |error: std::io::Error| LakeError::Engine(format!("work directory `{}`: {error}", directory.display()));
    std::fs::create_dir_all(&directory).map_err(bad)?;
    let spill = directory.clone();
    let config = ExecutorProcessConfig {
        bind_host: match options.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        },
        external_host: options.advertise_host,
        port: options.results_port,
        grpc_port: options.tasks_port,
        scheduler_host: options.scheduler.0,
        scheduler_port: options.scheduler.1,
        scheduler_connect_timeout_seconds: u16::MAX,
        vcores: options.cores,
        work_dir: Some(directory.display().to_string()),
        job_data_ttl_seconds: 6 * 3_600,
        job_data_clean_up_interval_seconds: 600,
        grpc_max_decoding_message_size: MESSAGE_BYTES,
        grpc_max_encoding_message_size: MESSAGE_BYTES,
        executor_heartbeat_interval_seconds: options.heartbeat.as_secs().max(1),
        memory_pool_size: options.memory_bytes,
        override_runtime_producer: Some(Arc::new(move |_: &SessionConfig| {
            runtime(RuntimeEnvBuilder::new().with_temp_file_path(spill.clone()), Arc::clone(&store))
        })),
        health,
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_from_what_is_wrong() {
        let fault = |text: &str| explain(DataFusionError::Execution(text.to_owned()));
        for lost in [
            "transport error",
            "Job 7 failed: all executors were lost and no executor re-registered within 6s",
            "Job 7 failed: Job failed due to stage 2 failed: Stage 2 has failed 4 times, most recent failure reason: \"Shuffle fetch partition error from Executor a\"",
        ] {
            assert!(matches!(fault(lost), LakeError::Engine(_)), "{lost}");
        }
        for wrong in ["Job 7 failed: Job failed due to stage 1 failed: Resources exhausted", "Could not parse plan: unknown function"] {
            assert!(matches!(fault(wrong), LakeError::Query(_)), "{wrong}");
        }
        let removed = "Job 7 failed: External error: Object at location x/events/part-1.parquet not found: Error performing GET";
        assert!(matches!(fault(removed), LakeError::Vanished));
    }
}
