//! Limits of a whole tree.

use horus_core::plan::{CgroupPlan, DaemonPlan};
use horus_core::tree::TreeLimits;

use super::{Check, Subject};
use crate::at::{At, Span};
use crate::fault::Code;
use crate::raw::{PercentText, RawTreeLimits};
use crate::words::{parse_percent, size_text};

/// A tree with less is killed while its program is loaded.
const MEMORY_MIN: u64 = 4 << 20;
/// The kernel counts in milliseconds of every tenth of a second.
const CPU_MIN: u32 = 1;
/// A thousand processors.
const CPU_MAX: u32 = 100_000;

impl Check<'_> {
    pub(super) fn tree_limits(&mut self, subject: &Subject<'_>, daemon: &DaemonPlan) -> TreeLimits {
        let own = subject.raw.limits.as_ref().and_then(|limits| limits.tree.as_ref());
        let shared = subject.defaults.limits.as_ref().and_then(|limits| limits.tree.as_ref());
        let (own, shared) = (own.cloned().unwrap_or_default(), shared.cloned().unwrap_or_default());
        let both = RawTreeLimits {
            memory: own.memory.or(shared.memory),
            tasks: own.tasks.or(shared.tasks),
            cpu: own.cpu.or(shared.cpu),
        };
        let limits = TreeLimits {
            memory_bytes: both.memory.as_ref().and_then(|at| {
                let bytes = self.size(at, "memory")?;
                let message = format!("no tree lives in less than {} of memory", size_text(MEMORY_MIN));
                self.limit(bytes >= MEMORY_MIN, at, message);
                Some(bytes)
            }),
            tasks: both.tasks.as_ref().map(|at| {
                self.limit(at.value > 0, at, "with no task allowed nothing can be started".to_owned());
                at.value
            }),
            cpu_percent: both.cpu.as_ref().and_then(|at| self.percent(at, "cpu")),
        };
        let places = [
            both.memory.map(|at| ("memory", at.span)),
            both.tasks.map(|at| ("tasks", at.span)),
            both.cpu.map(|at| ("cpu", at.span)),
        ];
        let nobody = match daemon.cgroup {
            CgroupPlan::None => Some("`daemon.cgroup` is \"none\""),
            CgroupPlan::Auto | CgroupPlan::At(_) if std::env::consts::OS != "linux" => {
                Some("this system has no control groups")
            }
            CgroupPlan::Auto | CgroupPlan::At(_) => None,
        };
        if let Some(why) = nobody {
            self.not_enforced(places.into_iter().flatten(), why);
        }
        limits
    }

    fn percent(&mut self, at: &At<PercentText>, key: &str) -> Option<u32> {
        let read = parse_percent(&at.value.0).inspect_err(|why| {
            if !self.findings.has(Code::BadPercent, &at.span) {
                self.findings
                    .report(Code::BadPercent, &at.span, format!("`{key}` {why}"))
                    .label("not a share to work with")
                    .help("shares are whole numbers of per cent of one processor: \"50%\", \"150%\"");
            }
        });
        let share = read.ok()?;
        self.number(
            (CPU_MIN..=CPU_MAX).contains(&share),
            at,
            format!("`{key}` is between {CPU_MIN} and {CPU_MAX} per cent"),
        );
        Some(share)
    }

    /// Told at the first of them, and once if they are shared.
    fn not_enforced(&mut self, places: impl Iterator<Item = (&'static str, Span)>, why: &str) {
        let Some((key, span)) = places.min_by_key(|(_, span)| span.start) else { return };
        if !self.findings.has(Code::LimitNotEnforced, &span) {
            let message = format!("`limits.tree.{key}` is not enforced: {why}");
            self.findings.report(Code::LimitNotEnforced, &span, message).label("limits nothing").help(
                "limits of a tree are kept in control groups: leave `cgroup` out of `[daemon]`, and see `horus status NAME` \
                 for what is enforced",
            );
        }
    }
}
