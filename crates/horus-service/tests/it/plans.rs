//! Plans are pure: those for macOS are compared on Linux.

use horus_service::{Action, Existing, Facts, Manager, Plan, Refusal, Scope, plan_install, plan_uninstall};

use crate::{machine, target};

/// As the dry run shows it, with the content of files.
fn shown(plan: &Plan) -> String {
    let mut out = format!("{}\n", plan.target);
    for step in &plan.steps {
        out += &format!("  {:<58} # {}\n", step.action.to_string(), step.why);
    }
    for note in &plan.notes {
        out += &format!("note: {note}\n");
    }
    for step in &plan.steps {
        if let Action::WriteFile { path, content } = &step.action {
            out += &format!("--- {}\n{content}", path.display());
        }
    }
    out
}

/// The machine after the plan was carried out.
fn after(facts: &Facts, plan: &Plan) -> Facts {
    let written = plan.steps.iter().find_map(|step| match &step.action {
        Action::WriteFile { content, .. } => Some(content.clone()),
        _ => None,
    });
    let existing = Existing {
        file: written.or_else(|| facts.existing.file.clone()),
        enabled: true,
        active: true,
        ..facts.existing.clone()
    };
    Facts { existing, ..facts.clone() }
}

macro_rules! plans_of {
    ($($name:ident: $manager:ident, $scope:ident;)*) => {
        $(#[test]
        fn $name() {
            let target = target(Manager::$manager, Scope::$scope);
            let (nothing, mut wanted) = machine(Manager::$manager, Scope::$scope);
            let install = plan_install(target, &nothing, &wanted).unwrap();
            insta::assert_snapshot!(concat!(stringify!($name), "_install"), shown(&install));

            let installed = after(&nothing, &install);
            let again = plan_install(target, &installed, &wanted).unwrap();
            assert_eq!(again.steps, [], "a second install has nothing to do");

            wanted.config = crate::of_root(std::path::Path::new("/etc/horus/other file.toml"));
            let change = plan_install(target, &installed, &wanted).unwrap();
            insta::assert_snapshot!(concat!(stringify!($name), "_change"), shown(&change));

            let mut there = installed.clone();
            there.existing.state_directory = Some("/var/lib/horus".into());
            there.existing.run_directories = vec!["/run/horus".into(), "/run/horus-notify".into()];
            there.existing.lingers = Scope::$scope == Scope::User && Manager::$manager == Manager::Systemd;
            let uninstall = plan_uninstall(target, &there, false).unwrap();
            insta::assert_snapshot!(concat!(stringify!($name), "_uninstall"), shown(&uninstall));
            let purge = plan_uninstall(target, &there, true).unwrap();
            insta::assert_snapshot!(concat!(stringify!($name), "_purge"), shown(&purge));

            assert_eq!(plan_uninstall(target, &nothing, true).unwrap().steps, [], "nothing is there");
        })*
    };
}

plans_of! {
    linux_system: Systemd, System;
    linux_user: Systemd, User;
    macos_daemon: Launchd, System;
    macos_agent: Launchd, User;
}

#[test]
fn the_package_s_unit_is_used_if_it_says_the_same() {
    let target = target(Manager::Systemd, Scope::System);
    let (mut facts, mut wanted) = machine(Manager::Systemd, Scope::System);
    wanted.executable = crate::of_root("/usr/bin/horus".as_ref());
    wanted.stop_within = std::time::Duration::from_secs(10);
    let packaged = include_str!("../../../../systemd/horus.service").to_owned();
    facts.existing.packaged = Some(("/usr/lib/systemd/system/horus.service".into(), packaged));
    let plan = plan_install(target, &facts, &wanted).unwrap();
    let steps: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(
        steps,
        [
            "systemctl enable horus.service",
            "systemctl start horus.service",
            "wait until this succeeds: systemctl is-active --quiet horus.service"
        ]
    );
    // What the package brought, the package takes away.
    let refusal = plan_uninstall(target, &facts, false).unwrap_err();
    assert!(matches!(refusal, Refusal::Packaged(_)), "{refusal}");
    assert!(refusal.hint().contains("apt remove horus"));
}

#[test]
fn a_change_is_in_force_at_once_and_a_stopped_service_is_started() {
    let target = target(Manager::Systemd, Scope::System);
    let (nothing, wanted) = machine(Manager::Systemd, Scope::System);
    let mut stopped = after(&nothing, &plan_install(target, &nothing, &wanted).unwrap());
    stopped.existing.active = false;
    let plan = plan_install(target, &stopped, &wanted).unwrap();
    assert_eq!(plan.steps.first().unwrap().action.to_string(), "systemctl start horus.service");
}

#[test]
fn lingering_is_asked_for_once() {
    let target = target(Manager::Systemd, Scope::User);
    let (nothing, mut wanted) = machine(Manager::Systemd, Scope::User);
    wanted.linger = true;
    let plan = plan_install(target, &nothing, &wanted).unwrap();
    let lingers =
        |plan: &Plan| plan.steps.iter().any(|step| step.action.to_string() == "loginctl enable-linger ann");
    assert!(lingers(&plan));
    let mut installed = after(&nothing, &plan);
    installed.existing.lingers = true;
    assert_eq!(plan_install(target, &installed, &wanted).unwrap().steps, []);
}

#[test]
fn root_runs_nothing_that_others_could_replace() {
    for manager in [Manager::Systemd, Manager::Launchd] {
        let (facts, good) = machine(manager, Scope::System);
        for spoil in 0..2 {
            let mut wanted = good.clone();
            let traced = if spoil == 0 { &mut wanted.executable } else { &mut wanted.config };
            traced.chain.get_mut(1).unwrap().owner = 1000;
            let refusal = plan_install(target(manager, Scope::System), &facts, &wanted).unwrap_err();
            assert!(matches!(&refusal, Refusal::NotOurs { .. }), "{refusal}");
            assert!(refusal.to_string().contains("belongs to user 1000"), "{refusal}");
            assert!(refusal.hint().contains("sudo install "), "{}", refusal.hint());
        }
        // A user's own service runs as that user: the same paths are no danger.
        let (facts, mut wanted) = machine(manager, Scope::User);
        wanted.executable.chain.get_mut(1).unwrap().owner = 1000;
        plan_install(target(manager, Scope::User), &facts, &wanted).unwrap();
    }
}

#[test]
fn every_refusal_says_what_to_type() {
    let (facts, wanted) = machine(Manager::Systemd, Scope::System);
    let system = target(Manager::Systemd, Scope::System);
    let user = target(Manager::Systemd, Scope::User);
    let refused = |target, facts: &Facts| plan_install(target, facts, &wanted).unwrap_err();

    let mut other = facts.clone();
    other.account.uid = 501;
    assert_eq!(refused(system, &other), Refusal::NotRoot);
    assert!(refused(system, &other).hint().contains("sudo horus install --system"));

    let stopped = Facts { manager_runs: false, ..facts.clone() };
    assert_eq!(refused(system, &stopped), Refusal::NoSystemd);
    assert!(refused(system, &stopped).hint().contains("horus run"));

    assert_eq!(refused(user, &facts), Refusal::NoUserManager { name: "root".into() });
    assert!(refused(user, &facts).hint().contains("XDG_RUNTIME_DIR=/run/user/"));

    let mut foreign = facts.clone();
    foreign.existing.file = Some("[Unit]\nDescription=something of my own\n".into());
    assert!(matches!(refused(system, &foreign), Refusal::ForeignFile(_)));
    assert!(refused(system, &foreign).hint().contains("mv /etc/systemd/system/horus.service"));
    assert!(matches!(plan_uninstall(system, &foreign, true).unwrap_err(), Refusal::ForeignFile(_)));
}

#[test]
fn a_horus_that_is_no_service_keeps_its_directories() {
    let (mut facts, _) = machine(Manager::Systemd, Scope::System);
    facts.existing.run_directories = vec!["/run/horus".into()];
    facts.existing.state_directory = Some("/var/lib/horus".into());
    facts.existing.run_directory_in_use = true;
    let plan = plan_uninstall(target(Manager::Systemd, Scope::System), &facts, true).unwrap();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
}
