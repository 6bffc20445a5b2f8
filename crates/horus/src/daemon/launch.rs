//! From a service's plan to what the keeper needs to start it.

use horus_core::ids::{Generation, ServiceName};
use horus_core::observation::Observation;
use horus_core::plan::{BeatKind, LaunchPlan, ServicePlan};
use horus_keeper::protocol::{CAN_LOCK, Limits, LogSpec, Request, StartSpec, Text};
use horus_sys::launch::Identity;
use horus_sys::user;

use super::directories::notify_directory;
use super::owner::{Owner, log_path, slot_of, to_keeper};
use super::{agents, exclusive, tree_limits};

/// Starts one run. What cannot be started is reported like any failed start.
pub(super) fn start(owner: &mut Owner, service: &ServiceName, generation: Generation) {
    match prepare(owner, service, generation) {
        Ok(spec) => owner.keeper.send(Request::Start(Box::new(spec))),
        Err(error) => owner.observe(service, Observation::SpawnFailed { generation, error }),
    }
}

fn prepare(owner: &mut Owner, service: &ServiceName, generation: Generation) -> Result<StartSpec, String> {
    let plan = owner.service_plan(service).ok_or("it is not in the plan")?.clone();
    let slot = slot_of(service).ok_or("its name cannot be a slot")?;
    let user = identity(&plan.launch)?;
    let environment = environment(owner, service, generation, &plan, user.as_ref().map(|user| user.uid));
    agents::tidy(&notify_directory(&owner.plan.daemon.run_directory), &owner.plan);
    let tree = tree_limits::for_start(owner, service, plan.tree);
    let launch = plan.launch;
    let exclusive = launch.exclusive.iter().map(exclusive::resolve).collect::<Result<Vec<_>, _>>()?;
    if !exclusive.is_empty() && !owner.keeper_can(CAN_LOCK) {
        return Err(
            "its keeper is of an older version and takes no exclusive locks: horus upgrade".to_owned()
        );
    }
    Ok(StartSpec {
        slot,
        generation: to_keeper(generation),
        argv: launch.command.iter().map(|word| Text::from(word.as_str())).collect(),
        environment,
        directory: launch.directory,
        user,
        limits: Limits {
            open_files: launch.limits.open_files,
            memory: launch.limits.memory_bytes,
            processes: launch.limits.processes,
            core: launch.limits.core_bytes,
            ..Limits::default()
        },
        tree,
        log: LogSpec {
            path: log_path(&owner.plan, service),
            max_bytes: launch.log.max_bytes,
            keep: launch.log.keep,
        },
        exclusive,
    })
}

fn environment(
    owner: &mut Owner,
    service: &ServiceName,
    generation: Generation,
    plan: &ServicePlan,
    uid: Option<u32>,
) -> Vec<(Text, Text)> {
    let planned = plan.launch.environment.iter();
    let mut environment: Vec<(Text, Text)> =
        planned.map(|(name, value)| (Text::from(name.as_str()), Text::from(value.expose()))).collect();
    let mut add = |name: &str, value: String| environment.push((Text::from(name), Text::from(value)));
    add("HORUS_SERVICE", service.to_string());
    add("HORUS_GENERATION", generation.0.to_string());
    if plan.is_notified() {
        match owner.senses.prepare_notify(service, uid) {
            Ok(address) => {
                add("NOTIFY_SOCKET", address.display().to_string());
                // Programs written for systemd beat only if they are told how often.
                if plan.beats.iter().any(|beat| beat.kind() == BeatKind::Notify) {
                    add("WATCHDOG_USEC", plan.deadline.as_micros().to_string());
                }
                if let Some(stream) = owner.senses.stream_address(service) {
                    add("HORUS_NOTIFY_STREAM", stream.display().to_string());
                }
                inject(owner, service, plan, &mut environment);
            }
            Err(error) => {
                let error = super::chain(&error);
                tracing::error!(%service, error, "its pushed beats will not be heard");
            }
        }
    }
    environment
}

/// Puts the agent into the environment, if there is to be one. Without it the program is started all the same.
fn inject(owner: &Owner, service: &ServiceName, plan: &ServicePlan, environment: &mut Vec<(Text, Text)>) {
    let places = notify_directory(&owner.plan.daemon.run_directory);
    let Some(agent) = plan.launch.agent else { return };
    let planned = |name: &str| plan.launch.environment.get(name).map(|value| value.expose().to_owned());
    match agents::variable(agent, &places, &plan.launch.command, planned) {
        Ok((name, value)) => {
            environment.retain(|(other, _)| other.as_bytes() != name.as_bytes());
            environment.push((Text::from(name), Text::from(value)));
        }
        Err(error) => {
            let error = super::chain(&error);
            tracing::error!(%service, agent = agent.word(), error, "it is started without its agent");
        }
    }
}

fn identity(launch: &LaunchPlan) -> Result<Option<Identity>, String> {
    let group = launch.group.as_deref().map(group_id).transpose()?;
    let Some(name) = launch.user.as_deref() else {
        return match group {
            None => Ok(None),
            Some(gid) => Ok(Some(Identity { uid: user::effective_uid(), gid, groups: vec![gid] })),
        };
    };
    if let Ok(uid) = name.parse::<u32>() {
        let gid = group.unwrap_or(uid);
        return Ok(Some(Identity { uid, gid, groups: vec![gid] }));
    }
    let found = user::lookup_user(name).map_err(|error| format!("user '{name}': {error}"))?;
    let found = found.ok_or_else(|| format!("there is no user '{name}' on this machine"))?;
    let gid = group.unwrap_or(found.gid);
    Ok(Some(Identity { uid: found.uid, gid, groups: found.groups }))
}

fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let found = user::lookup_group(name).map_err(|error| format!("group '{name}': {error}"))?;
    found.ok_or_else(|| format!("there is no group '{name}' on this machine"))
}
