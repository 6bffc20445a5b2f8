//! Tests of the whole crate against `tests/configs`, on a small made-up machine.

#[cfg(test)]
#[path = "all/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "all/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "all/plans.rs"]
mod plans;
#[cfg(test)]
#[path = "all/reference.rs"]
mod reference;
#[cfg(test)]
#[path = "all/robust.rs"]
mod robust;
