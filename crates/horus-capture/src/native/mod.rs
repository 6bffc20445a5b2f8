//! Native stacks, without a stop.
//!
//! A thread that waits in a system call does not move: `/proc` tells its stack pointer and its instruction, one read copies its
//! stack, and the unwind tables of the mapped files do the rest on the copy. A thread that runs has no place that would still be
//! true when it is printed, and is not stopped to get one. What only a frame pointer could follow ends the stack: the register is
//! not told.

pub(crate) mod modules;
pub(crate) mod symbols;
pub(crate) mod unwind;

use horus_sys::fact::Fact;
use horus_sys::facts::ThreadFacts;
use horus_sys::memory;

use crate::document::NativeThread;
use crate::limits::{STACK_BYTES_MAX, THREADS_MAX};
use modules::Modules;

/// A copy of a stack, from its top on.
pub(crate) struct Stack {
    pub(crate) tid: i32,
    pub(crate) instruction: u64,
    pub(crate) top: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Stack {
    /// The word at an address, if it was copied.
    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        let from = usize::try_from(address.checked_sub(self.top)?).ok()?;
        let bytes = self.bytes.get(from..from.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let words =
            self.bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
        words.chain([self.instruction])
    }
}

/// The native stacks of these threads.
pub(crate) fn look(pid: i32, threads: &[ThreadFacts], missing: &mut Vec<String>) -> Vec<NativeThread> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        missing.push("native stacks: the registers of this kind of machine are not told".to_owned());
        return Vec::new();
    }
    let found: Vec<Result<Stack, NativeThread>> =
        threads.iter().take(THREADS_MAX).map(|thread| copy(pid, thread)).collect();
    let stacks: Vec<&Stack> = found.iter().flatten().collect();
    let regions = match memory::regions(pid) {
        Ok(regions) => regions,
        Err(error) => {
            missing.push(format!("native stacks: {}", horus_sys::fact::Missing::from(&error)));
            return Vec::new();
        }
    };
    let mut modules = Modules::of(pid, &regions, stacks.iter().flat_map(|stack| stack.words()), missing);
    let mut unwinder = unwind::Unwinder::new(&mut modules);
    let addresses: Vec<Vec<u64>> = found
        .iter()
        .map(|found| found.as_ref().map(|stack| unwinder.addresses(stack)).unwrap_or_default())
        .collect();
    drop(unwinder);
    let named = found.into_iter().zip(addresses).map(|(found, addresses)| match found {
        Ok(Stack { tid, .. }) => {
            let frames = addresses.into_iter().map(|address| modules.frame(address)).collect();
            NativeThread { tid, unknown: None, frames }
        }
        Err(unknown) => unknown,
    });
    named.collect()
}

/// Copies the stack of a thread that waits in a system call.
fn copy(pid: i32, thread: &ThreadFacts) -> Result<Stack, NativeThread> {
    let unknown =
        |why: &str| NativeThread { tid: thread.tid, unknown: Some(why.to_owned()), frames: Vec::new() };
    let (top, instruction) = match &thread.system_call {
        Fact::Known(Some(call)) => call.registers,
        Fact::Known(None) if thread.state == 'R' => return Err(unknown("running, not stopped")),
        Fact::Known(None) => return Err(unknown("not in a system call, not stopped")),
        Fact::Missing(why) => return Err(unknown(&why.to_string())),
    };
    let mut bytes = vec![0; STACK_BYTES_MAX];
    // The stack of a thread may end sooner than what is asked for; then as much comes as there is.
    match memory::read(pid, top, &mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Ok(Stack { tid: thread.tid, instruction, top, bytes })
        }
        Err(error) => Err(unknown(&horus_sys::fact::Missing::from(&error).to_string())),
    }
}
