//! Horus as a service of a real systemd: installed, killed, restarted, hung, stopped, rebooted, taken away.
//!
//! Each test boots a machine of its own (`machine/box`). Where that is not possible it says so and passes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod fd_store;
mod foreign;
mod groups;
mod machine;
mod package;
mod unit;
mod upgrade;
mod user;

use machine::Machine;

/// Two programs that do nothing but live, each known by its last argument.
const CONFIG: &str = "version = 1\n\
    [service.one]\ncommand = [\"/bin/sleep\", \"1000001\"]\nstop = { grace = \"5s\" }\n\
    [service.two]\ncommand = [\"/bin/sleep\", \"1000002\"]\nstop = { grace = \"5s\" }\nafter = [\"one\"]\n";

/// A program that does not hear SIGTERM and has an hour to end.
const STUBBORN: &str = "version = 1\n\
    [service.three]\ncommand = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\nstop = { grace = \"1h\" }\n";

const CONFIG_FILE: &str = "/etc/horus/watchdog.toml";
const UNIT: &str = "/etc/systemd/system/horus.service";

/// Succeeds when neither Horus nor a program of it is there. The brackets: it does not find itself.
const NOBODY: &str = "! pgrep -f '[h]orus run|[h]orus keep|/bin/[s]leep 100000'";

/// Beats so often, and waits so short, that a test need not; and stands still where a file in that folder says so.
const HASTE: &str = "[Service]\nWatchdogSec=3s\nTimeoutStopSec=4s\nTimeoutAbortSec=2s\nEnvironment=HORUS_TEST_TROUBLE=/srv/trouble\n";

/// A machine on which Horus is installed and its two programs run.
fn installed(test: &str) -> Option<Machine> {
    let machine = Machine::boot(test)?;
    machine.write(CONFIG_FILE, CONFIG);
    machine.write("/etc/systemd/system/horus.service.d/haste.conf", HASTE);
    machine.sh("horus install");
    running(&machine);
    Some(machine)
}

fn pid_of(machine: &Machine, number: u32) -> String {
    machine.sh(&format!("pgrep -x -f '/bin/sleep {number}'"))
}

/// The processes of the two programs, once they are there: one each.
fn running(machine: &Machine) -> [String; 2] {
    machine.wait_for("both run", "pgrep -x -f '/bin/sleep 1000001' && pgrep -x -f '/bin/sleep 1000002'");
    let pids = [1_000_001, 1_000_002].map(|number| pid_of(machine, number));
    assert!(pids.iter().all(|pid| !pid.contains('\n')), "one runs twice: {pids:?}");
    pids
}

/// Waits until systemd has replaced Horus by another one, which is ready.
fn replaced(machine: &Machine, old: &str) {
    let other = format!(
        "test \"$(systemctl show horus --property=MainPID --value)\" -gt 0 && \
         test \"$(systemctl show horus --property=MainPID --value)\" != {old} && systemctl is-active --quiet horus"
    );
    machine.wait_for("another Horus", &other);
    machine.wait_for("it answers", "horus status");
}

#[test]
fn installed_twice_it_changes_nothing_and_taken_away_it_leaves_nothing() {
    let name = "installed_twice_it_changes_nothing_and_taken_away_it_leaves_nothing";
    let Some(machine) = Machine::boot(name) else { return };
    let said = machine.run(&["horus", "install"]);
    assert_eq!(said.code, 78, "{}", said.text);
    assert!(said.text.contains("hint: mkdir -p /etc/horus && horus init"), "{}", said.text);

    machine.write(CONFIG_FILE, CONFIG);
    let planned = machine.sh("horus install --dry-run");
    assert!(planned.contains("systemctl start horus.service"), "{planned}");
    machine.sh(&format!("test ! -e {UNIT}"));

    machine.sh("horus install");
    machine.sh("systemctl is-active horus && systemctl is-enabled horus");
    running(&machine);
    assert_eq!(machine.sh(&format!("systemd-analyze verify {UNIT} 2>&1")), "");

    let written = machine.sh(&format!("stat -c %Y.%i {UNIT}"));
    let pid = machine.shows("MainPID");
    let again = machine.sh("horus install 2>&1");
    assert!(again.starts_with("nothing to do:"), "{again}");
    assert_eq!(machine.sh(&format!("stat -c %Y.%i {UNIT}")), written);
    assert_eq!(machine.shows("MainPID"), pid);
    let status = machine.sh("horus status --service");
    assert!(status.contains("running") && status.contains(&pid), "{status}");

    let gone = machine.sh("horus uninstall 2>&1");
    assert!(gone.contains("stays: /var/lib/horus"), "{gone}");
    assert!(gone.contains(&format!("stays: {CONFIG_FILE}")), "{gone}");
    machine.sh(&format!("test ! -e {UNIT} && test ! -e /run/horus && test ! -e /run/horus-notify"));
    machine.sh("test -d /var/lib/horus");
    assert_eq!(machine.run(&["pgrep", "-f", "horus run|horus keep|/bin/sleep 100000"]).text, "");
    assert_eq!(machine.sh("systemctl list-units --all --no-legend --plain 'horus*'"), "");
    machine.sh("horus uninstall --purge && test ! -e /var/lib/horus");
    assert!(machine.sh("horus uninstall --purge 2>&1").starts_with("nothing to do:"));
    assert_eq!(machine.run(&["horus", "status", "--service"]).code, 69);
}

#[test]
fn root_s_service_is_no_file_that_somebody_else_may_write() {
    let name = "root_s_service_is_no_file_that_somebody_else_may_write";
    let Some(machine) = Machine::boot(name) else { return };
    machine.write(CONFIG_FILE, CONFIG);
    machine.sh("mkdir -p /home/ann/bin && cp /usr/local/bin/horus /home/ann/bin/ && chown -R 1000 /home/ann");
    let said = machine.run(&["/home/ann/bin/horus", "install"]);
    assert_eq!(said.code, 1);
    assert!(said.text.contains("/home/ann belongs to user 1000"), "{}", said.text);
    assert!(
        said.text.contains("hint: sudo install -m 755 /home/ann/bin/horus /usr/local/bin/horus"),
        "{}",
        said.text
    );
    machine.sh(&format!("test ! -e {UNIT}"));
}

#[test]
fn invariant_g6_under_systemd_no_program_notices_what_becomes_of_horus() {
    let name = "invariant_g6_under_systemd_no_program_notices_what_becomes_of_horus";
    let Some(machine) = installed(name) else { return };
    let programs = running(&machine);

    // READY came, or the start had not ended; and the beats come.
    let beaten = machine.shows("WatchdogTimestampMonotonic");
    machine.wait_for(
        "a beat for systemd's watchdog",
        &format!(
            "test \"$(systemctl show horus --property=WatchdogTimestampMonotonic --value)\" -gt {beaten}"
        ),
    );

    let first = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {first}"));
    replaced(&machine, &first);
    assert_eq!(running(&machine), programs, "a program died with Horus");
    assert_eq!(machine.shows("NRestarts"), "1");

    let second = machine.shows("MainPID");
    machine.sh("systemctl restart horus");
    replaced(&machine, &second);
    assert_eq!(running(&machine), programs, "a program ended with a restart");

    // Hung: only the judge's loop stands still, then all of it. Neither beats any more.
    for (times, hang) in
        ["mkdir -p /srv/trouble && echo block >/srv/trouble/loop; true", "kill -STOP"].iter().enumerate()
    {
        let old = machine.shows("MainPID");
        machine.sh(&format!("{hang} {old}"));
        replaced(&machine, &old);
        assert_eq!(running(&machine), programs, "a program died with a hung Horus");
        let seen = machine.sh("journalctl --no-pager --unit=horus | grep -c 'Watchdog timeout'");
        assert_eq!(seen, (times + 1).to_string());
    }
}

#[test]
fn a_stop_ends_everything_also_when_horus_hangs() {
    let name = "a_stop_ends_everything_also_when_horus_hangs";
    let Some(machine) = installed(name) else { return };
    machine.sh("systemctl stop horus");
    machine.sh(NOBODY);
    assert_eq!(machine.shows("Result"), "success");

    // One that takes its time to end, and a Horus that hangs while it waits for that. Only then: systemd wakes whom it
    // stops. Its watchdog is off, for this is about the stop.
    machine.write(CONFIG_FILE, STUBBORN);
    machine.write("/etc/systemd/system/horus.service.d/patience.conf", "[Service]\nWatchdogSec=0\n");
    machine.sh("systemctl daemon-reload && systemctl start horus");
    machine.wait_for("the stubborn one runs", "pgrep -f 'trap .. TER[M]'");
    let hung = machine.shows("MainPID");
    machine.sh("systemctl stop --no-block horus");
    let asked = "journalctl --no-pager --unit=horus _PID=$0 | grep -q 'SIGTERM sent'";
    machine.wait_for("it is being stopped", &asked.replace("$0", &hung));
    machine.sh(&format!("kill -STOP {hung}"));
    machine.wait_for("the stop is over", "! systemctl list-jobs --no-legend --plain | grep -q horus");
    machine.sh(&NOBODY.replace("100000", "100000|trap .. TER[M]"));
    machine.sh("journalctl --no-pager --unit=horus | grep -q 'Horus had left processes behind'");
}

#[test]
fn a_reboot_brings_back_what_ran_and_not_what_was_held() {
    let name = "a_reboot_brings_back_what_ran_and_not_what_was_held";
    let Some(machine) = installed(name) else { return };
    machine.sh("horus hold two --stop --reason 'until the disk is mended'");
    machine.reboot();
    machine.wait_for("Horus is ready", "systemctl is-active --quiet horus && horus status");
    machine.wait_for("one runs", "pgrep -x -f '/bin/sleep 1000001'");
    assert_eq!(
        machine.run(&["pgrep", "-x", "-f", "/bin/sleep 1000002"]).text,
        "",
        "a held service was started"
    );
    let two = machine.sh("horus status two");
    assert!(two.contains("until the disk is mended"), "{two}");
}
