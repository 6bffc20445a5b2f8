//! `capture`: where a process stands. By hand, or as the short-lived child of a Horus that looks before it acts.

use horus_capture::limits::confine;

use crate::cli::args::CaptureArgs;
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;

pub(super) fn capture(args: &CaptureArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let hint = "is it still running? `ps -p PID` shows it";
    if !matches!(horus_sys::process::identify(args.pid), Ok(Some(_))) {
        return Err(Fault::new(ExitStatus::Failed, format!("there is no process {}", args.pid), hint));
    }
    // From here on this process reads what may be poisoned: it gets little of the machine, and may die of it.
    confine().map_err(|error| {
        let message = "the limits that keep a capture harmless cannot be set";
        Fault::new(ExitStatus::Failed, message, "is this a container with odd limits?").because(&error)
    })?;
    // A reader that gives up is said in the document, and nowhere else.
    std::panic::set_hook(Box::new(|_panic| {}));
    let mut document = horus_capture::capture_about(args.pid, args.thread);
    if args.json {
        let json = document.to_json().map_err(|error| {
            let message = "the evidence cannot be written as JSON";
            Fault::new(ExitStatus::Bug, message, "please report this").because(&error)
        })?;
        output.data(json)?;
        output.data("\n")?;
    } else {
        output.data(document.render(args.threads))?;
    }
    Ok(ExitStatus::Done)
}
