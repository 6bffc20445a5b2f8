//! The package: installed, upgraded under running programs, broken, removed, purged.

use super::{CONFIG, CONFIG_FILE, NOBODY, running};
use crate::machine::{Machine, packages};

#[test]
fn invariant_g6_a_package_is_upgraded_under_its_programs_and_removed_with_them() {
    let name = "invariant_g6_a_package_is_upgraded_under_its_programs_and_removed_with_them";
    let Some(machine) = Machine::boot(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(made) = packages(name, folder.path(), ["1.0", "1.1"], "1.2") else { return };
    for (deb, version) in made.iter().zip(["1.0", "1.1", "1.2"]) {
        machine.put(deb, &format!("/srv/{version}.deb"));
    }
    // Of this machine's other packages some index manual pages for seconds after each change.
    let dpkg = "dpkg --no-triggers --force-depends --force-confold";
    let install = format!("{dpkg} --install");
    machine.sh(&format!("rm /usr/local/bin/horus && {install} /srv/1.0.deb"));
    machine.sh("systemctl is-active horus && systemctl is-enabled horus && horus check && horus status");
    machine.sh("test -s /usr/share/man/man1/horus-status.1.gz");
    assert_eq!(machine.sh("systemd-analyze verify /lib/systemd/system/horus.service 2>&1"), "");
    // The file of the package is there for this: what is saved is taken up.
    machine.write(CONFIG_FILE, CONFIG);
    let programs = running(&machine);

    let life = "systemctl show horus --property=MainPID,NRestarts,InvocationID,ActiveEnterTimestampMonotonic";
    let before = machine.sh(life);
    let said = machine.sh(&format!("{install} /srv/1.1.deb 2>&1"));
    assert!(said.contains("2 services kept; keeper upgraded"), "{said}");
    assert_eq!(machine.sh("dpkg-query --show --showformat='${Version}' horus"), "1.1");
    machine.sh("test /proc/$(systemctl show horus --property=MainPID --value)/exe -ef /usr/bin/horus");
    assert_eq!((machine.sh(life), running(&machine)), (before.clone(), programs.clone()));
    // One whose program does not run changes nothing but its files, and the one before is the cure.
    let said = machine.sh(&format!("{install} /srv/1.2.deb 2>&1"));
    assert!(said.contains("horus was not upgraded and goes on as it was"), "{said}");
    assert_eq!((machine.sh(life), running(&machine)), (before.clone(), programs.clone()));
    machine.sh(&format!("{install} /srv/1.1.deb"));
    // Installed again: nothing ends, and nothing fails.
    machine.sh(&format!("{install} /srv/1.1.deb"));
    assert_eq!((machine.sh(life), running(&machine)), (before, programs.clone()));

    // The package's unit says what installing would say.
    assert!(machine.sh("horus install 2>&1").starts_with("nothing to do:"));
    let said = machine.run(&["horus", "uninstall"]);
    assert!(said.code == 1 && said.text.contains("apt remove horus"), "{}", said.text);

    let said = machine.sh(&format!("{dpkg} --remove horus 2>&1"));
    assert!(said.contains("stays: /var/lib/horus"), "{said}");
    machine.sh(NOBODY);
    machine.sh(&format!("test ! -e /run/horus && test -d /var/lib/horus && test -e {CONFIG_FILE}"));
    assert_ne!(machine.run(&["systemctl", "is-active", "horus"]).code, 0);
    let events = machine.sh("journalctl --no-pager --unit=horus -o cat");
    let at = |words: &str| events.rfind(words).unwrap_or_else(|| panic!("no `{words}` in {events}"));
    assert!(at("two: ended") < at("one: SIGTERM sent"), "not in their order: {events}");
    machine.sh(&format!("{dpkg} --purge horus && test ! -e /var/lib/horus && test ! -e /etc/horus"));
    machine.sh(&format!("{dpkg} --purge horus"));
    assert_eq!(machine.sh("systemctl list-units --all --no-legend --plain 'horus*'"), "");
}
