//! Programs that a real systemd runs, watched and healed by Horus.
//!
//! The program is `hanger`, behind a page that shows its tick. What it is to do is dropped as a file into its folder.

use crate::CONFIG_FILE;
use crate::machine::Machine;

const HASTE: &str = "deadline = \"1s\"\nstartup = \"20s\"\nkills = { limit = 2, prove = \"30s\" }\n";

/// A machine with one unit, watched as `prey` with these keys. `more` lines stand in its `[Service]`.
fn watched(test: &str, keys: &str, more: &str) -> Option<Machine> {
    let machine = Machine::boot(test)?;
    machine.put(env!("CARGO_BIN_EXE_hanger").as_ref(), "/usr/local/bin/hanger");
    let unit = format!(
        "[Service]\nExecStartPre=/bin/mkdir -p /run/prey\nExecStart=/usr/local/bin/hanger --port 7901 --triggers /run/prey\n\
         TimeoutStopSec=5s\n{more}"
    );
    machine.write("/etc/systemd/system/prey.service", &unit);
    machine.write(
        CONFIG_FILE,
        &format!(
            "version = 1\n[monitor.prey]\nunit = \"prey.service\"\n{HASTE}{keys}\
             heartbeat.http = {{ url = \"http://127.0.0.1:7901/\", every = \"200ms\", timeout = \"400ms\", seq = \"/seq\" }}\n"
        ),
    );
    machine.sh("systemctl daemon-reload && systemctl start prey && horus install");
    let running = "horus status prey | grep -q healthy";
    machine.wait_for("its beats are heard", running);
    Some(machine)
}

fn pid(machine: &Machine) -> String {
    machine.sh("systemctl show prey --property=MainPID --value")
}

fn other_pid(machine: &Machine, old: &str) -> String {
    let words = "pid=$(systemctl show prey --property=MainPID --value); test $pid -gt 0 && test $pid != OLD";
    machine.wait_for("another run", &words.replace("OLD", old));
    pid(machine)
}

/// The number of events about it that hold this word.
fn events(machine: &Machine, word: &str) -> usize {
    let all = machine.sh("horus events --json --service prey 2>/dev/null || horus events --json");
    all.lines().filter(|line| line.contains("prey") && line.contains(word)).count()
}

#[test]
fn invariant_g4_a_unit_that_hangs_is_restarted_by_systemd_with_evidence() {
    let name = "invariant_g4_a_unit_that_hangs_is_restarted_by_systemd_with_evidence";
    let Some(machine) = watched(name, "heal = true\n", "") else { return };
    let first = pid(&machine);
    // Horus may die as it likes: it knows the run again, and touches nothing.
    let horus = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {horus}"));
    crate::replaced(&machine, &horus);
    machine.wait_for("its beats are heard again", "horus status prey | grep -q healthy");
    assert_eq!(pid(&machine), first);

    machine.sh("touch /run/prey/hang");
    let second = other_pid(&machine, &first);
    machine.wait_for("it is healed", "horus status prey | grep -q healthy");
    machine.wait_for("the journal tells it", "horus events --json | grep prey | grep -q recovered");
    for word in ["incident_opened", "evidence_captured", "kill_decided", "restart"] {
        assert!(events(&machine, word) > 0, "{word}: {}", machine.sh("horus events"));
    }
    // The evidence is of the process that hung.
    machine.sh(&format!("grep -lr '\"pid\": *{first}' /var/lib/horus/evidence"));
    assert_eq!(
        machine.sh("systemctl show prey --property=NRestarts --value"),
        "0",
        "it was an order, no crash"
    );

    // A person's words go to systemd as well.
    machine.sh("horus restart prey");
    let third = other_pid(&machine, &second);
    machine.sh("horus stop prey");
    assert_eq!(machine.run(&["systemctl", "is-active", "prey"]).text.trim(), "inactive");
    machine.sh("horus start prey && systemctl is-active prey");
    let fourth = other_pid(&machine, &third);
    // The end of Horus is not the unit's.
    machine.sh("systemctl stop horus");
    assert_eq!(pid(&machine), fourth);
}

#[test]
fn a_unit_that_somebody_stops_is_told_and_not_started() {
    let name = "a_unit_that_somebody_stops_is_told_and_not_started";
    let Some(machine) = watched(name, "heal = true\n", "") else { return };
    machine.sh("systemctl stop prey");
    machine.wait_for("it is told", "horus status prey | grep -q 'prey.service is inactive'");
    machine.wait_for("as an incident", "horus incidents | grep -q prey");
    machine.sh("sleep 6");
    assert_eq!(machine.run(&["systemctl", "is-active", "prey"]).text.trim(), "inactive");
    machine.sh("systemctl start prey");
    machine.wait_for("it is watched again", "horus status prey | grep -q healthy");
    // What systemd has given up is another matter.
    let first = pid(&machine);
    machine.sh("touch /run/prey/exit");
    other_pid(&machine, &first);
    machine.wait_for("it is watched again", "horus status prey | grep -q healthy");
    assert_eq!(events(&machine, "start_asked"), 1, "{}", machine.sh("horus events"));
}

#[test]
fn what_systemd_restarts_by_itself_is_left_to_it() {
    let name = "what_systemd_restarts_by_itself_is_left_to_it";
    let Some(machine) = watched(name, "heal = true\n", "Restart=always\nRestartSec=3s\n") else { return };
    let first = pid(&machine);
    machine.sh(&format!("kill -KILL {first}"));
    machine.wait_for("its end is seen", "horus status prey | grep -q 'being started by its own manager'");
    other_pid(&machine, &first);
    machine.wait_for("it is watched again", "horus status prey | grep -q healthy");
    assert_eq!(events(&machine, "start_asked"), 0, "{}", machine.sh("horus events"));
    assert_eq!(machine.sh("systemctl show prey --property=NRestarts --value"), "1");
}

#[test]
fn invariant_g9_a_unit_that_is_not_to_be_healed_is_only_told_of() {
    let name = "invariant_g9_a_unit_that_is_not_to_be_healed_is_only_told_of";
    let Some(machine) = watched(name, "", "") else { return };
    let first = pid(&machine);
    machine.sh("touch /run/prey/hang");
    machine.wait_for("it is told", "horus incidents | grep -q prey");
    machine.wait_for("and what would be done", "horus events --json | grep prey | grep -q would_have");
    assert_eq!(pid(&machine), first);
    machine.sh(&format!("kill -KILL {first}"));
    machine.wait_for("its failure is told", "horus status prey | grep -q 'prey.service has failed'");
    machine.sh("sleep 4");
    assert_eq!(pid(&machine), "0");
    assert_eq!(events(&machine, "start_asked"), 0);
}

#[test]
fn invariant_g2_a_unit_that_hangs_every_time_is_left_alone_in_the_end() {
    let name = "invariant_g2_a_unit_that_hangs_every_time_is_left_alone_in_the_end";
    // From some time on every run hangs, a moment after it has shown that it works.
    let again = "ExecStart=\nExecStart=/bin/sh -c 'test -e /run/always && (sleep 4; touch /run/prey/hang) & \
                 exec /usr/local/bin/hanger --port 7901 --triggers /run/prey'\n";
    let Some(machine) = watched(name, "heal = true\n", again) else { return };
    let first = pid(&machine);
    machine.sh("touch /run/always /run/prey/hang");
    let second = other_pid(&machine, &first);
    other_pid(&machine, &second);
    machine.wait_for("the breaker opens", "horus events --json | grep prey | grep -q breaker_opened");
    let last = pid(&machine);
    assert_eq!(events(&machine, "kill_decided"), 2, "{}", machine.sh("horus events"));
    machine.sh("sleep 10");
    assert_eq!(pid(&machine), last, "it is left running");
}
