//! The kill-switch, tried: a whole group is held and stopped, seen gone by pid, and runs again.

use std::time::Duration;

use horus_api::Client;
use horus_core::ids::{GroupName, ServiceName};
use horus_core::observation::OperatorRequest;
use horus_sys::clock;
use horus_sys::process::is_alive;

use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::verbs::groups::{Member, ask_all, members, process, verify_held};

/// What stands in the holds, for whoever finds one of them.
const REASON: &str = "a drill of the kill-switch; it is lifted when that is over";

/// A hold that is not lifted, because the drill was ended, ends by itself.
const EXPIRES: Duration = Duration::from_secs(10 * 60);

/// All that ran run again within this.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether they do.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Holds, verifies, resumes, verifies. Whatever fails, the holds of the drill are lifted again.
pub(super) async fn drill(client: &Client, group: &GroupName, output: &Output) -> Result<ExitStatus, Fault> {
    let members = members(client, group).await?;
    // A hold that a person has set is not lifted by a drill.
    for member in &members {
        if client.service(&member.name).await?.hold.is_some() {
            return Err(Fault::new(
                ExitStatus::Failed,
                format!("{} is held already: nothing was done", member.name),
                format!("horus resume {}", member.name),
            ));
        }
    }
    let started = clock::monotonic();
    let hold = |service: ServiceName| OperatorRequest::Hold {
        service,
        reason: REASON.to_owned(),
        expires_in: Some(EXPIRES),
        stop: true,
    };
    let asked = ask_all(client, &members, hold, output).await;
    let held = verify_held(client, &members, true, output).await;
    let took = clock::monotonic().saturating_sub(started);
    let resume = |service: ServiceName| OperatorRequest::Resume { service, reason: Some(REASON.to_owned()) };
    let resumed = ask_all(client, &members, resume, output).await?;
    let up = all_up(client, &members, output).await?;
    let passed = asked? == ExitStatus::Done && held? && resumed == ExitStatus::Done && up;
    let verdict = if passed { "the drill passed" } else { "the drill FAILED" };
    let count = members.len();
    output.data(format!(
        "{count} held and verified by pid after {}; {verdict}\n",
        horus_core::time::Human(took)
    ))?;
    Ok(if passed { ExitStatus::Done } else { ExitStatus::Failed })
}

/// Whether each that had a process has another one now.
async fn all_up(client: &Client, members: &[Member], output: &Output) -> Result<bool, Fault> {
    let started = clock::monotonic();
    let mut all = true;
    for member in members {
        let Some(old) = &member.process else { continue };
        let new = loop {
            let new = process(&client.service(&member.name).await?).filter(|new| new != old && is_alive(new));
            if new.is_some() || clock::monotonic().saturating_sub(started) > UP_WITHIN {
                break new;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        all &= new.is_some();
        output.data(match new {
            Some(new) => format!("verified  {}: runs again as pid {}\n", member.name, new.pid),
            None => format!("NOT SO  {}: does not run again\n", member.name),
        })?;
    }
    Ok(all)
}
