//! Horus becomes another build under systemd, which sees one service that never stopped: the same process, the same
//! invocation, beats all the time.

use super::{CONFIG, CONFIG_FILE, installed, replaced, running};
use crate::machine::Machine;

const PROGRAM: &str = "/usr/local/bin/horus";

/// A copy that stays what it is, whatever stands at the path.
const SPARE: &str = "/srv/horus";

/// All by which systemd would show that the service ended, or began anew.
fn life(machine: &Machine) -> String {
    machine
        .sh("systemctl show horus --property=MainPID,NRestarts,InvocationID,ActiveEnterTimestampMonotonic,\
         ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic")
}

/// The process executes the file that stands at the path, and systemd has heard that it is ready.
fn runs_what_is_there(machine: &Machine) {
    let pid = machine.shows("MainPID");
    machine.wait_for(
        "the new program is ready",
        &format!(
            "test /proc/{pid}/exe -ef {PROGRAM} && test $(systemctl is-active horus) = active && horus status"
        ),
    );
    let status = machine.sh("horus status --service");
    assert!(!status.contains("is not the file that runs"), "{status}");
}

fn keeper(machine: &Machine) -> String {
    machine.sh("pgrep -f '[h]orus keep'")
}

#[test]
fn invariant_g6_for_systemd_an_upgrade_is_one_life() {
    let name = "invariant_g6_for_systemd_an_upgrade_is_one_life";
    let Some(machine) = installed(name) else { return };
    let (programs, keeper_before, life_before) = (running(&machine), keeper(&machine), life(&machine));

    for build in 1..=2_u8 {
        machine.put_build(build, PROGRAM);
        let status = machine.sh("horus status --service");
        assert!(status.contains(&format!("{PROGRAM} is not the file that runs")), "{status}");
        let said = machine.sh("horus upgrade");
        let end = format!("(build {}); 2 services kept; keeper upgraded", format!("{build:02x}").repeat(6));
        assert!(said.ends_with(&end), "{said}");
        runs_what_is_there(&machine);
    }
    // By its signal.
    machine.put_build(3, PROGRAM);
    machine.sh("systemctl kill --signal=USR2 --kill-who=main horus");
    runs_what_is_there(&machine);
    machine.wait_for(
        "the outcome",
        "horus events --service horus | grep -q 'build 030303030303); 2 services kept'",
    );
    assert_eq!(life(&machine), life_before, "systemd has seen an end");
    assert_eq!(keeper(&machine), keeper_before);
    assert_eq!(running(&machine), programs, "a program ended with an upgrade");

    // It goes on beating, for longer than systemd's patience of three seconds.
    let later = 3_500_000 + machine.shows("WatchdogTimestampMonotonic").parse::<u64>().unwrap();
    let beaten = "test \"$(systemctl show horus --property=WatchdogTimestampMonotonic --value)\" -gt";
    machine.wait_for("beats for systemd's watchdog", &format!("{beaten} {later}"));
    machine.sh("! journalctl --no-pager --unit=horus | grep -q 'Watchdog timeout'");

    // What systemd calls a reload is one of the configuration.
    let three = "[service.three]\ncommand = [\"/bin/sleep\", \"1000003\"]\n";
    machine.write(CONFIG_FILE, &format!("{CONFIG}{three}"));
    machine.sh("systemctl reload horus");
    machine.wait_for("the new one runs", "pgrep -x -f '/bin/sleep 1000003'");
    machine.write(CONFIG_FILE, &format!("{CONFIG}{three}nonsense = 1\n"));
    assert_ne!(machine.run(&["systemctl", "reload", "horus"]).code, 0, "nobody would hear that it failed");
    assert_eq!(life(&machine), life_before);
    assert_eq!(running(&machine), programs);
}

#[test]
fn invariant_g6_a_broken_program_at_the_path_harms_nobody_and_its_cure_is_enough() {
    let name = "invariant_g6_a_broken_program_at_the_path_harms_nobody_and_its_cure_is_enough";
    let Some(machine) = installed(name) else { return };
    let (programs, life_before) = (running(&machine), life(&machine));
    machine.sh(&format!("cp {PROGRAM} {SPARE}"));
    let broken = format!("{PROGRAM}.new");
    machine.write(&broken, "#!/bin/sh\nkill -SEGV $$\n");
    machine.sh(&format!("chmod 755 {broken} && mv {broken} {PROGRAM}"));
    let said = machine.run(&[SPARE, "upgrade"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("it was ended by signal 11"), "{}", said.text);
    assert_eq!(life(&machine), life_before);
    let doctor = machine.sh(&format!("{SPARE} doctor"));
    assert!(doctor.contains("is not the file that runs"), "{doctor}");

    // Dead with such a file in its place: nobody judges, and systemd does not give up.
    let first = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {first}"));
    let tries = "test \"$(systemctl show horus --property=NRestarts --value)\" -ge 3";
    machine.wait_for("systemd tries it again and again", tries);
    let status = machine.run(&[SPARE, "status", "--service"]);
    assert!(status.code == 69 && !status.text.contains("running ("), "{}", status.text);
    assert_eq!(running(&machine), programs, "a program died with Horus");
    machine.sh(&format!("cp {SPARE} {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}"));
    replaced(&machine, &first);
    assert_eq!(running(&machine), programs, "a program was doubled or ended");
}

/// A program that answers as `next` does, but has `next` die at each start as a daemon.
const DIES: &str = "#!/bin/sh\nif [ \"$1\" = run ]; then mkdir -p /srv/trouble; echo die >/srv/trouble/upgrade.arrived; fi\n\
                    exec /opt/next \"$@\"\n";

#[test]
fn invariant_g6_a_program_that_dies_at_each_start_gives_way_to_the_former_one() {
    let name = "invariant_g6_a_program_that_dies_at_each_start_gives_way_to_the_former_one";
    let Some(machine) = installed(name) else { return };
    let programs = running(&machine);
    machine.put_build(5, "/opt/next");
    machine.write("/opt/dies", DIES);
    machine.sh(&format!("chmod 755 /opt/dies && cp {PROGRAM} {SPARE} && mv /opt/dies {PROGRAM}"));
    let said = machine.run(&[SPARE, "upgrade"]);
    assert_ne!(said.code, 0, "{}", said.text);
    let former = "p=$(systemctl show horus --property=MainPID --value); test $p -gt 0 && cmp -s /proc/$p/exe /srv/horus";
    machine.wait_for("the former program runs", &format!("{former} && {SPARE} status"));
    assert_eq!(running(&machine), programs, "a program ended with an upgrade that failed");
    let restarts: u32 = machine.shows("NRestarts").parse().unwrap();
    assert_eq!(restarts, 2, "one more try, then the former one");
    let told = format!("(build 050505050505) ({PROGRAM}) died twice before it was ready; 0.1.0");
    let events = machine.sh(&format!("{SPARE} events --service horus"));
    assert!(events.contains(&told), "{events}");
    let incidents = machine.sh(&format!("{SPARE} incidents"));
    assert!(incidents.contains("it could not be started"), "{incidents}");

    // The next death finds the same file at the path: one try, then the former one again.
    let old = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {old} $(pgrep -f '[h]orus keep')"));
    replaced(&machine, &old);
    machine.wait_for("the former program runs", &format!("{former} && {SPARE} status"));
    machine.wait_for("its keeper runs", "pgrep -f '[h]orus keep'");
    assert_eq!(running(&machine), programs);
    // A good one at the path is what the next upgrade takes, and the trial is over.
    machine.put_build(6, PROGRAM);
    let said = machine.sh("horus upgrade");
    assert!(said.contains("(build 060606060606); 2 services kept"), "{said}");
    runs_what_is_there(&machine);
    machine.sh("test ! -e /var/lib/horus/upgrade.pending");
    assert_eq!(running(&machine), programs);
}
