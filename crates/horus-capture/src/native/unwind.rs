//! From a copy of a stack to the addresses of its calls, by the unwind tables of the files.

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module as UnwindModule, Unwinder as _};

use super::Stack;
use super::modules::Modules;
use crate::limits::UNWIND_FRAMES_MAX;

/// An unwinder that knows these files.
pub(crate) struct Unwinder {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
}

impl Unwinder {
    /// Takes the tables out of `modules`.
    pub(crate) fn new(modules: &mut Modules) -> Self {
        let mut unwinder = UnwinderX86_64::new();
        for module in &mut modules.all {
            let sections = std::mem::take(&mut module.sections);
            let range = |name: &str| sections.get(name).map(|(range, _)| range.clone());
            let mut info = ExplicitModuleSectionInfo {
                base_svma: 0,
                text_svma: range(".text"),
                eh_frame_svma: range(".eh_frame"),
                eh_frame_hdr_svma: range(".eh_frame_hdr"),
                got_svma: range(".got"),
                ..Default::default()
            };
            let mut sections = sections;
            let mut bytes = |name: &str| sections.remove(name).map(|(_, bytes)| bytes);
            info.eh_frame = bytes(".eh_frame");
            info.eh_frame_hdr = bytes(".eh_frame_hdr");
            unwinder.add_module(UnwindModule::new(
                module.name.clone(),
                module.range.clone(),
                module.bias,
                info,
            ));
        }
        Self { unwinder, cache: CacheX86_64::new() }
    }

    /// The calls on a stack, the innermost first. Each but the first is the call itself, not where it returns to.
    pub(crate) fn addresses(&mut self, stack: &Stack) -> Vec<u64> {
        let mut read = |address| stack.word(address).ok_or(());
        // The frame pointer is not told: zero ends what would need it.
        let registers = UnwindRegsX86_64::new(stack.instruction, stack.top, 0);
        let mut frames = self.unwinder.iter_frames(stack.instruction, registers, &mut self.cache, &mut read);
        let mut addresses = Vec::new();
        while addresses.len() < UNWIND_FRAMES_MAX {
            match frames.next() {
                Ok(Some(FrameAddress::InstructionPointer(address))) => addresses.push(address),
                Ok(Some(FrameAddress::ReturnAddress(address))) => {
                    addresses.push(u64::from(address).saturating_sub(1))
                }
                Ok(None) | Err(_) => break,
            }
        }
        addresses
    }
}
