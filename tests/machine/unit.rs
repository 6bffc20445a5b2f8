//! Units that are not as `horus install` writes them: somebody else's, and an older one of ours.

use super::{CONFIG, CONFIG_FILE, UNIT, installed, replaced, running};
use horus_tests::measured;

use crate::machine::Machine;

/// What somebody wrote who wanted no more than that it runs.
const BY_HAND: &str = "[Unit]\nDescription=my horus\n[Service]\nExecStart=/usr/local/bin/horus run --config /etc/horus/watchdog.toml\n\
                       RuntimeDirectory=horus\nStateDirectory=horus\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn a_unit_of_somebody_s_hand_is_not_overwritten_and_what_it_lacks_is_said() {
    let name = "a_unit_of_somebody_s_hand_is_not_overwritten_and_what_it_lacks_is_said";
    let Some(machine) = Machine::boot(name) else { return };
    machine.write(CONFIG_FILE, CONFIG);
    machine.write(UNIT, BY_HAND);
    machine.sh("systemctl daemon-reload && systemctl start horus");
    let programs = running(&machine);
    for verb in ["install", "uninstall"] {
        let said = machine.run(&["horus", verb]);
        assert_eq!(said.code, 1, "{}", said.text);
        assert!(
            said.text.contains(&format!("{UNIT} is there and was not written by horus")),
            "{}",
            said.text
        );
        assert!(said.text.contains(&format!("mv {UNIT} {UNIT}.old")), "{}", said.text);
    }
    assert_eq!(machine.sh(&format!("cat {UNIT}")), BY_HAND.trim());
    let doctor = machine.sh("horus doctor");
    for setting in [
        "Type=notify",
        "Restart=always",
        "WatchdogSec=30s",
        "KillMode=process",
        "FileDescriptorStoreMax=8192",
    ] {
        assert!(doctor.contains(&format!("no {setting}:")), "{setting} is not missed: {doctor}");
    }
    assert!(doctor.contains("is not started after a reboot"), "{doctor}");

    // As the hint says: the old one is kept, the new one is written, and what runs goes on.
    machine.sh(&format!("mv {UNIT} {UNIT}.old && horus install"));
    assert_eq!(running(&machine), programs, "a program ended with the change of the unit");
    assert!(machine.sh("horus install 2>&1").starts_with("nothing to do:"));
    let doctor = machine.sh("horus doctor");
    assert!(
        !doctor.contains("FileDescriptorStoreMax") && doctor.contains("horus.service is there"),
        "{doctor}"
    );
    let security = machine.sh("systemd-analyze security horus --no-pager | tail -1");
    measured(
        "systemd-analyze security horus",
        security.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()),
    );
    assert!(security.contains("Overall exposure level"), "{security}");
}

#[test]
fn invariant_g6_without_a_store_horus_works_and_says_what_is_lost() {
    let name = "invariant_g6_without_a_store_horus_works_and_says_what_is_lost";
    let Some(machine) = installed(name) else { return };
    let programs = running(&machine);
    // An older unit of ours, which allowed none.
    machine.sh(&format!("sed -i s/^FileDescriptorStoreMax=.*/FileDescriptorStoreMax=0/ {UNIT}"));
    machine.sh("systemctl daemon-reload && systemctl restart horus");
    let first = machine.shows("MainPID");
    assert_eq!(running(&machine), programs);
    let doctor = machine.sh("horus doctor");
    assert!(doctor.contains("no FileDescriptorStoreMax=8192: last words and exit status"), "{doctor}");
    let status = machine.sh("horus status --service");
    assert!(status.contains("kept      nothing: the unit allows no descriptors"), "{status}");
    machine.sh(&format!("kill -KILL {first} $(pgrep -f '[h]orus keep')"));
    replaced(&machine, &first);
    assert_eq!(running(&machine), programs, "a program died with Horus and keeper");

    // One that allows too few.
    machine.sh(&format!("sed -i s/^FileDescriptorStoreMax=.*/FileDescriptorStoreMax=3/ {UNIT}"));
    let second = machine.shows("MainPID");
    machine.sh("systemctl daemon-reload && systemctl restart horus");
    replaced(&machine, &second);
    machine.wait_for("the store is full", "horus doctor | grep -q 'the store is full'");
    let third = machine.shows("MainPID");
    machine.sh(&format!("kill -KILL {third} $(pgrep -f '[h]orus keep')"));
    replaced(&machine, &third);
    assert_eq!(running(&machine), programs);

    // And what it lacks is had by typing what it says.
    machine.sh("horus install");
    assert_eq!(running(&machine), programs, "a program ended with the change of the unit");
    let kept = "test \"$(systemctl show horus --property=NFileDescriptorStore --value)\" = 4";
    machine.wait_for("systemd keeps a pipe and a run for each", kept);
    machine.sh("! horus doctor | grep FileDescriptorStoreMax");
}
