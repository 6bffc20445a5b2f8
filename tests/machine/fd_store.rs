//! What systemd keeps for Horus while nobody of it lives: the end that only the kernel saw, the last words in a pipe; and
//! nothing more than that, however often anything is started again.

use super::{CONFIG, CONFIG_FILE, HASTE, installed, replaced, running};
use crate::machine::Machine;

/// The first kernel that tells how a process ended after others have reaped it.
const KERNEL_THAT_TELLS: (u32, u32) = (6, 15);

/// Says something and ends, when it is told to.
const ENDER: &str = "[service.ender]\ncommand = [\"/bin/sh\", \"-c\", \"until test -e /srv/end; do sleep 0.02; done; \
                     echo last words; exit 7\", \"ender-1000005\"]\nrestart = { on = \"never\" }\n";

/// systemd waits long enough that a test can look at what is left.
const SLOWLY: &str = "[Service]\nRestartSec=1h\n";

/// How many descriptors systemd keeps.
fn kept(machine: &Machine, count: usize) {
    let words = "test \"$(systemctl show horus --property=NFileDescriptorStore --value)\" =";
    machine.wait_for("systemd keeps what is to be kept", &format!("{words} {count}"));
}

fn kernel_tells(machine: &Machine) -> bool {
    let release = machine.sh("uname -r");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= KERNEL_THAT_TELLS
}

#[test]
fn invariant_g6_what_ended_while_nobody_lived_is_known_with_its_last_words() {
    let name = "invariant_g6_what_ended_while_nobody_lived_is_known_with_its_last_words";
    let Some(machine) = installed(name) else { return };
    machine.write(CONFIG_FILE, &format!("{CONFIG}{ENDER}"));
    machine.write("/etc/systemd/system/horus.service.d/slowly.conf", SLOWLY);
    machine.sh("systemctl daemon-reload && horus reload");
    machine.wait_for("the ender runs", "pgrep -f ender-100000[5]");
    let programs = running(&machine);
    // A pipe and a run for each of the three.
    kept(&machine, 6);

    let first = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {first} $(pgrep -f '[h]orus keep')"));
    machine.wait_for("both are gone", "! pgrep -f '[h]orus keep|[h]orus run'");
    kept(&machine, 6);
    machine.sh("touch /srv/end");
    machine.wait_for("it has ended", "! pgrep -f ender-100000[5]");
    // A start would wait for the hour.
    machine.sh("systemctl restart horus");
    replaced(&machine, &first);
    assert_eq!(running(&machine), programs, "a program died with Horus and keeper");
    machine.wait_for("the end is in the journal", "horus events --service ender | grep -q ended");
    let events = machine.sh("horus events --service ender");
    if kernel_tells(&machine) {
        assert!(events.contains("exit code 7"), "{events}");
    } else {
        horus_tests::skipped(&format!("{name}: the exit code"), "this kernel forgets it with the process");
    }
    machine.wait_for("its words", "horus logs ender | grep -q 'last words'");
    assert_eq!(machine.sh("horus logs ender | grep -c 'last words'"), "1");
    // Its run is nobody's business any more.
    kept(&machine, 5);
}

#[test]
fn a_hundred_restarts_leave_no_descriptor_behind() {
    let name = "a_hundred_restarts_leave_no_descriptor_behind";
    let Some(machine) = Machine::boot(name) else { return };
    let names = || (0..10).map(|number| format!("s{number}"));
    let services: String =
        names().map(|name| format!("[service.{name}]\ncommand = [\"/bin/sleep\", \"1000009\"]\n")).collect();
    machine.write(CONFIG_FILE, &format!("version = 1\n{services}"));
    machine.write("/etc/systemd/system/horus.service.d/haste.conf", HASTE);
    machine.sh("horus install");
    let all_run = "test \"$(pgrep -c -x -f '/bin/sleep 1000009')\" = 10";
    machine.wait_for("all run", all_run);
    kept(&machine, 20);
    // Of Horus, of its keeper: what they hold open when they have nothing to do.
    let open = |of: &str| format!("ls /proc/$(pgrep -f '[h]orus {of}')/fd | wc -l");
    let before = ["run", "keep"].map(|of| machine.sh(&open(of)));

    let all: Vec<String> = names().collect();
    for _ in 0..10 {
        machine.sh(&format!("horus restart {}", all.join(" ")));
    }
    for _ in 0..3 {
        let old = machine.shows("MainPID");
        machine.sh(&format!("kill -KILL {old}"));
        replaced(&machine, &old);
    }
    machine.wait_for("all run", all_run);
    kept(&machine, 20);
    for (of, before) in ["run", "keep"].into_iter().zip(before) {
        let words = format!("test \"$({})\" -le {before}", open(of));
        machine.wait_for("nobody holds more open than before", &words);
    }
}
