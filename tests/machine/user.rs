//! Horus as the service of one user, under that user's own systemd.

use super::{CONFIG, HASTE, running};
use crate::machine::Machine;

/// Runs a command as the user, in the user's own words.
const AS_ANN: &str = "#!/bin/sh\nexec runuser -u ann -- env -i HOME=/home/ann USER=ann LANG=C.UTF-8 NO_COLOR=1 SYSTEMD_PAGER= \
                      PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR=/run/user/$(id -u ann) \"$@\"\n";

const UNIT: &str = "/home/ann/.config/systemd/user/horus.service";

fn shows(machine: &Machine, property: &str) -> String {
    machine.sh(&format!("/srv/ann systemctl --user show horus --property={property} --value"))
}

#[test]
fn invariant_g6_a_user_s_service_outlives_its_death_and_its_session() {
    let name = "invariant_g6_a_user_s_service_outlives_its_death_and_its_session";
    let Some(machine) = Machine::boot(name) else { return };
    if machine.run(&["sh", "-c", "test -x /lib/systemd/systemd-logind && command -v dbus-daemon"]).code != 0 {
        horus_tests::skipped(name, "this machine has no logind, and so no manager for a user");
        return;
    }
    machine.write("/srv/ann", AS_ANN);
    machine.sh("chmod 755 /srv/ann && useradd --create-home ann");
    machine.write("/home/ann/.config/horus/watchdog.toml", CONFIG);
    machine.write("/home/ann/.config/systemd/user/horus.service.d/haste.conf", HASTE);
    machine.sh("chown -R ann: /home/ann/.config");
    let said = machine.run(&["/srv/ann", "horus", "install"]);
    assert!(said.code == 1 && said.text.contains("enable-linger ann"), "{}", said.text);

    machine.sh("systemctl start user@$(id -u ann)");
    machine.sh("/srv/ann horus install --linger");
    let programs = running(&machine);
    assert_eq!(machine.sh(&format!("/srv/ann systemd-analyze --user verify {UNIT} 2>&1")), "");
    assert!(machine.sh("/srv/ann horus install --linger 2>&1").starts_with("nothing to do:"));
    let status = machine.sh("/srv/ann horus status --service");
    assert!(status.contains("(systemd service of this user)\nstate     running"), "{status}");
    // Found without being told where the configuration is.
    assert!(machine.sh("/srv/ann horus status").contains("2 services"));
    assert_eq!(machine.sh(&format!("stat -c %U /proc/{}", programs[0])), "ann");

    let first = shows(&machine, "MainPID");
    let scope = format!(
        "grep -q /user@$(id -u ann).service/app.slice/horus-services.scope/slot-one /proc/{}/cgroup",
        programs[0]
    );
    machine.sh(&scope);
    machine.sh(&format!("kill -KILL {first} $(pgrep -f '[h]orus keep')"));
    let other = "p=$(/srv/ann systemctl --user show horus --property=MainPID --value)";
    machine.wait_for(
        "another Horus",
        &format!("{other}; test $p -gt 0 -a $p != {first} && /srv/ann horus status"),
    );
    machine.wait_for("another keeper", "pgrep -f '[h]orus keep'");
    assert_eq!(running(&machine), programs, "a program died with Horus and keeper");
    assert_eq!(shows(&machine, "NRestarts"), "1");
    machine.put_build(4, "/usr/local/bin/horus");
    let said = machine.sh("/srv/ann horus upgrade");
    assert!(said.contains("2 services kept"), "{said}");
    assert_eq!(running(&machine), programs);

    machine.sh("/srv/ann horus hold two --stop --reason 'ann is away'");
    machine.reboot();
    machine.wait_for("Horus is ready", "/srv/ann horus status");
    machine.wait_for("one runs", "pgrep -x -f '/bin/sleep 1000001'");
    assert_eq!(
        machine.run(&["pgrep", "-x", "-f", "/bin/sleep 1000002"]).text,
        "",
        "a held service was started"
    );

    let said = machine.sh("/srv/ann horus uninstall 2>&1");
    for stays in [
        "stays: /home/ann/.local/state/horus",
        "stays: /home/ann/.config/horus/watchdog.toml",
        "stays: /home/ann/.config/systemd/user/horus.service.d",
        "stays: lingering",
    ] {
        assert!(said.contains(stays), "{said}");
    }
    machine.sh(super::NOBODY);
    machine.sh(&format!("test ! -e {UNIT} && test ! -e /run/user/$(id -u ann)/horus"));
    assert!(machine.sh("/srv/ann horus uninstall 2>&1").starts_with("nothing to do:"));
}
