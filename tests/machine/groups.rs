//! The groups of the services under a real systemd: beside the unit, outliving Horus and keeper, with nobody who escapes.

use super::{CONFIG_FILE, HASTE, NOBODY, replaced};
use crate::machine::Machine;

const SCOPE: &str = "/sys/fs/cgroup/system.slice/horus-services.scope";

/// One that lives; one that hides a child as a daemon of the old kind would: forked twice, in a session of its own,
/// with nothing in its environment and nothing open; and one that takes a moment to end.
const CONFIG: &str = "version = 1\n\
    [service.one]\ncommand = [\"/bin/sleep\", \"1000001\"]\nstop = { grace = \"5s\" }\n\
    [service.hider]\ncommand = [\"/bin/sh\", \"-c\", \"(setsid env -i /bin/sleep 1000003 </dev/null >/dev/null 2>&1 &) ; exec /bin/sleep 1000002\"]\n\
    [service.slow]\ncommand = [\"/bin/sh\", \"-c\", \"trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done\", \"slow-1000004\"]\n\
    after = [\"one\"]\nstop = { grace = \"20s\" }\n";

const ALL_RUN: &str = "pgrep -x -f '/bin/sleep 1000001' && pgrep -x -f '/bin/sleep 1000002' && pgrep -x -f '/bin/sleep 1000003' && pgrep -f slow-100000[4]";

fn installed(test: &str) -> Option<Machine> {
    let machine = Machine::boot(test)?;
    machine.write(CONFIG_FILE, CONFIG);
    machine.write("/etc/systemd/system/horus.service.d/haste.conf", HASTE);
    machine.sh("horus install");
    machine.wait_for("all run", ALL_RUN);
    Some(machine)
}

fn members(machine: &Machine, group: &str) -> String {
    machine.sh(&format!("cat {SCOPE}/{group}/cgroup.procs"))
}

fn pid_of(machine: &Machine, number: u32) -> String {
    machine.sh(&format!("pgrep -x -f '/bin/sleep {number}'"))
}

#[test]
fn invariant_g6_a_controller_in_the_scope_keeps_nobody_from_coming_back() {
    let name = "invariant_g6_a_controller_in_the_scope_keeps_nobody_from_coming_back";
    let Some(machine) = installed(name) else { return };
    let one = pid_of(&machine, 1_000_001);
    assert_eq!(members(&machine, "slot-one"), one);
    let keeper = machine.sh("pgrep -f '[h]orus keep'");
    assert!(members(&machine, "keeper").lines().any(|pid| pid == keeper), "the keeper is not in the scope");
    assert_eq!(machine.sh(&format!("cat {SCOPE}/cgroup.procs")), "", "somebody is in the scope itself");
    // In the unit's own group this would keep systemd from ever starting Horus again.
    let enable = format!(
        "controller=$(cut -d' ' -f1 /sys/fs/cgroup/cgroup.controllers) && test -n \"$controller\" && \
         for group in /sys/fs/cgroup /sys/fs/cgroup/system.slice {SCOPE}; do \
         echo +$controller > $group/cgroup.subtree_control || exit 1; done && grep -q . {SCOPE}/cgroup.subtree_control"
    );
    if machine.run(&["sh", "-c", &enable]).code != 0 {
        // The rest holds without one as well.
        horus_tests::skipped(&format!("{name}: the controller"), "none can be enabled in a box here");
    }
    for _ in 0..3 {
        let first = machine.shows("MainPID");
        machine.sh(&format!("kill -KILL {first}"));
        replaced(&machine, &first);
        assert_eq!(pid_of(&machine, 1_000_001), one, "a program died with Horus");
    }
    // The next keeper enters the scope that is there.
    machine.sh(&format!("kill -KILL {keeper}"));
    machine.wait_for("another keeper", &format!("pgrep -f '[h]orus keep' | grep -vqx {keeper}"));
    let next = machine.sh("pgrep -f '[h]orus keep'");
    machine.wait_for("it is in the scope", &format!("grep -qx {next} {SCOPE}/keeper/cgroup.procs"));
    // Both at once, and a start that comes after.
    let horus = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {horus} {next}"));
    replaced(&machine, &horus);
    assert_eq!(pid_of(&machine, 1_000_001), one, "a program died with Horus and keeper");
    machine.sh("horus restart one");
    assert_eq!(members(&machine, "slot-one"), pid_of(&machine, 1_000_001));
}

#[test]
fn a_daemon_that_hides_ends_with_its_service() {
    let name = "a_daemon_that_hides_ends_with_its_service";
    let Some(machine) = installed(name) else { return };
    let hidden = pid_of(&machine, 1_000_003);
    assert!(members(&machine, "slot-hider").lines().any(|pid| pid == hidden));
    machine.sh("horus stop hider");
    machine.sh("! pgrep -x -f '/bin/sleep 100000[23]'");
    machine.sh("pgrep -x -f '/bin/sleep 1000001'");
}

#[test]
fn a_stop_ends_the_scope_in_order() {
    let name = "a_stop_ends_the_scope_in_order";
    let Some(machine) = installed(name) else { return };
    machine.sh("systemctl stop horus");
    machine.sh(NOBODY);
    machine.wait_for("the scope is gone", &format!("test ! -e {SCOPE}"));
    // What came after is ended first, and is given its time.
    let events = machine.sh("journalctl --no-pager --unit=horus -o cat");
    let at = |words: &str| events.find(words).unwrap_or_else(|| panic!("no `{words}` in {events}"));
    assert!(at("slow: ended with exit code 0") < at("one: SIGTERM sent"), "{events}");
}

#[test]
fn without_a_scope_the_unit_s_own_group_serves() {
    let name = "without_a_scope_the_unit_s_own_group_serves";
    let Some(machine) = Machine::boot(name) else { return };
    machine.sh("rm /usr/bin/systemd-run");
    machine.write(CONFIG_FILE, CONFIG);
    machine.sh("horus install");
    machine.wait_for("all run", ALL_RUN);
    let (one, hidden) = (pid_of(&machine, 1_000_001), pid_of(&machine, 1_000_003));
    let group = "/sys/fs/cgroup/system.slice/horus.service";
    assert_eq!(machine.sh(&format!("cat {group}/slot-one/cgroup.procs")), one);
    assert!(machine.sh(&format!("cat {group}/slot-hider/cgroup.procs")).lines().any(|pid| pid == hidden));
    assert_eq!(
        machine.sh(&format!("cat {group}/cgroup.subtree_control")),
        "",
        "Horus could never be started again"
    );
    let first = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {first}"));
    replaced(&machine, &first);
    assert_eq!(pid_of(&machine, 1_000_001), one);
    machine.sh("horus stop hider && ! pgrep -x -f '/bin/sleep 100000[23]'");
}

/// What the kernel keeps is shown by a script, so that it runs in any machine that has the controllers; a box has none as
/// long as the machine around it binds them to the old hierarchies, and shows what is told then.
#[test]
fn limits_of_a_tree_are_kept_or_told_as_not_kept() {
    let name = "limits_of_a_tree_are_kept_or_told_as_not_kept";
    let Some(machine) = Machine::boot(name) else { return };
    machine.put(
        std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/machine/limits.sh")),
        "/srv/limits.sh",
    );
    let said = machine.run(&["sh", "/srv/limits.sh"]);
    assert_eq!(said.code, 0, "{}\n{}", said.text, machine.journal());
    match said.text.lines().last().unwrap_or_default().split_once("limits: ") {
        Some(("", "passed")) => {}
        Some(("", skipped)) => horus_tests::skipped(&format!("{name}: enforcement"), skipped),
        other => panic!("{other:?} in {}", said.text),
    }
}
