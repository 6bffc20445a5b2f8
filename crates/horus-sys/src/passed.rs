//! Descriptors that the service manager kept for us over our death (systemd's fd store; also its sockets), by name.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{process, spawn};

/// The first of them; the others follow without a gap.
const FIRST: RawFd = 3;

/// More than this are not taken, whatever the variables say: it is what the unit allows systemd to keep.
const PASSED_MAX: RawFd = 8_192;

/// The variables that say what is passed, and to whom. They hold for one program only: [`spawn::become_program`] drops them.
pub(crate) const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Takes them over, once per process: close-on-exec from now on. Empty if nothing was passed, or not to us.
pub fn take() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = numbered(process::own_pid(), |name| std::env::var_os(name));
    numbers.into_iter().filter_map(|(number, name)| Some((name, spawn::inherit(number).ok()?))).collect()
}

/// Which numbers, under which names.
fn numbered(pid: i32, variable: impl Fn(&str) -> Option<OsString>) -> Vec<(RawFd, String)> {
    let [for_whom, how_many, names] = VARIABLES.map(|name| variable(name)?.into_string().ok());
    let for_us = for_whom.and_then(|text| text.parse().ok()) == Some(pid);
    let count = how_many.and_then(|text| text.parse().ok()).filter(|_| for_us).unwrap_or(0);
    let names = names.unwrap_or_default();
    let mut names = names.split(':');
    let mut number = |place: RawFd| (FIRST + place, names.next().unwrap_or_default().to_owned());
    (0..count.clamp(0, PASSED_MAX)).map(&mut number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: [&str; 3]) -> Vec<(RawFd, String)> {
        numbered(42, |name| {
            let place = VARIABLES.iter().position(|known| *known == name)?;
            Some(variables[place].into()).filter(|value: &OsString| !value.is_empty())
        })
    }

    #[test]
    fn what_was_passed_to_us_has_numbers_and_names() {
        assert_eq!(said(["42", "2", "a:b"]), [(3, "a".into()), (4, "b".into())]);
        // Fewer names than descriptors: they are taken all the same, so that they are closed.
        assert_eq!(said(["42", "2", "a"]), [(3, "a".into()), (4, String::new())]);
    }

    #[test]
    fn what_was_passed_to_somebody_else_is_left_alone() {
        for variables in
            [["41", "2", "a:b"], ["", "2", "a:b"], ["42", "", "a"], ["42", "-1", "a"], ["x", "y", "z"]]
        {
            assert_eq!(said(variables), [], "{variables:?}");
        }
        assert_eq!(said(["42", "999999999", ""]).len(), 8_192);
    }
}
