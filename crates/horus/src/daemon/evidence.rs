//! Captures of evidence, off the loop and with a deadline of their own.

use std::path::PathBuf;
use std::sync::Arc;

use horus_core::ids::{Generation, IncidentId, ProcessId, ServiceName};
use horus_core::observation::{CaptureStage, Finding, Input, Observation};
use horus_core::plan::{Plan, Secret};
use horus_probe::{CaptureRequest, Change, EvidenceRoom};
use tokio::sync::mpsc;

use super::changes;
use super::executable::own_path;
use super::owner::log_path;

/// The program that this process runs, also after another one was renamed over its file. Linux.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Where bundles go. Stacks are read by this same program, in a child.
pub(super) fn room(directory: PathBuf) -> Arc<EvidenceRoom> {
    let own = PathBuf::from(OWN_PROGRAM);
    let program = if own.exists() { Ok(own) } else { own_path() };
    match program {
        Ok(program) => EvidenceRoom::with_witness(directory, program),
        Err(error) => {
            tracing::warn!(%error, "the path of this program is not known: evidence will hold no stacks");
            EvidenceRoom::new(directory)
        }
    }
}

/// What is to be looked at.
pub(super) struct Asked {
    pub(super) service: ServiceName,
    pub(super) generation: Generation,
    pub(super) stage: CaptureStage,
    pub(super) incident: Option<IncidentId>,
    /// The thread that is known to be stuck.
    pub(super) thread: Option<u64>,
    pub(super) process: Option<ProcessId>,
    /// What has changed lately.
    pub(super) changed: Vec<Change>,
}

/// Looks at a process and reports to the loop.
pub(super) fn capture(asked: Asked, plan: &Plan, room: &Arc<EvidenceRoom>, inputs: mpsc::Sender<Input>) {
    let Asked { service, generation, stage, incident, thread, process, changed } = asked;
    let environment = plan.services.get(&service).map(|plan| &plan.launch.environment);
    let redact: Vec<Secret> = environment.into_iter().flat_map(|map| map.values().cloned()).collect();
    let log_path = log_path(plan, &service);
    // Looked at here and now: the next run, which may write to the same file, is started right after this.
    let log_end = (stage == CaptureStage::Exit).then(|| std::fs::metadata(&log_path).map(|log| log.len()));
    let log_end = log_end.and_then(Result::ok);
    let thread = thread.and_then(|thread| i32::try_from(thread).ok());
    let launch = plan.services.get(&service).map(|plan| plan.launch.clone());
    let mut request = CaptureRequest {
        service: service.clone(),
        generation,
        stage,
        incident,
        thread,
        changed,
        log_path,
        log_end,
        redact,
    };
    let room = Arc::clone(room);
    drop(tokio::spawn(async move {
        let subject = service.to_string();
        let files =
            tokio::task::spawn_blocking(move || launch.map(|launch| changes::of_files(&launch, &subject)));
        request.changed.extend(files.await.ok().flatten().unwrap_or_default());
        request.changed.sort_by_key(|change| change.at);
        let finding = match process {
            Some(process) => room.capture(process, request).await,
            None => {
                Finding { missing: vec!["no evidence: there is no process".into()], ..Finding::default() }
            }
        };
        let observation = Observation::Captured { generation, stage, finding };
        let _ = inputs.send(Input::Service(service, observation)).await;
    }));
}
