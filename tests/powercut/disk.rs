//! What a disk still has when the power comes back.
//!
//! A disk takes writes into a cache and promises them only when it is asked to flush. The emulator lists both in their order;
//! here the list is played onto the disk as it was at boot. What stands before the last flush is there. Of what stands behind
//! it, anything may be: each write by a coin of its own, and the last one perhaps in part, for a disk writes sector by sector.
//!
//! The list is that of Linux's dm-log-writes, version 1: a block that describes it, then for each write a block that describes
//! it and its data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::dice::Dice;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// Longest write that is believed, in bytes: the queue of the machine's disk takes far less.
const WRITE_BYTES_MAX: u64 = 256 << 20;

/// What became of what the machine wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Writes since the boot.
    pub(crate) writes: u64,
    /// Times that the machine asked for everything to be kept.
    pub(crate) flushes: u64,
    /// Writes behind the last of them.
    pub(crate) unpromised: u64,
    /// Of these, not on the disk any more.
    pub(crate) lost: u64,
}

impl Fate {
    pub(crate) fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.unpromised += other.unpromised;
        self.lost += other.lost;
    }
}

/// A write, and where its data stand in the list.
struct Write {
    at: u64,
    length: u64,
    data: u64,
}

/// Plays the list at `writes` onto `disk`, which is as it was when the list began.
pub(crate) fn lose_power(disk: &Path, writes: &Path, dice: &mut Dice) -> io::Result<Fate> {
    let list = File::open(writes)?;
    let (all, promised, flushes) = read(&list)?;
    let disk = File::options().write(true).open(disk)?;
    let mut fate = Fate { writes: 0, flushes, unpromised: 0, lost: 0 };
    // All of it, nothing of it, or by coins: each kind of luck has its own faults.
    let luck = dice.below(4);
    for (nth, write) in all.iter().enumerate() {
        fate.writes += 1;
        let mut length = write.length;
        if nth >= promised {
            fate.unpromised += 1;
            let kept = match luck {
                0 => false,
                1 => true,
                _ => dice.below(2) == 0,
            };
            if !kept {
                fate.lost += 1;
                continue;
            }
            if nth + 1 == all.len() {
                length = dice.below(length / SECTOR + 1) * SECTOR;
            }
        }
        copy(&list, write.data, &disk, write.at, length)?;
    }
    disk.sync_all()?;
    Ok(fate)
}

const SECTOR: u64 = 512;

/// The writes, how many of them stand before the last flush, and how many flushes there are.
fn read(list: &File) -> io::Result<(Vec<Write>, usize, u64)> {
    let head = words(list, 0)?;
    if head[0] != MAGIC || head[1] != 1 || head[3] & 0xffff_ffff != SECTOR {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no list of writes: {head:x?}")));
    }
    let (mut at, mut all, mut promised, mut flushes) = (SECTOR, Vec::new(), 0, 0);
    // The count in the head is of the last flush; what was written after it stands behind.
    while let Ok([sector, sectors, flags, _]) = words(list, at) {
        let length = sectors * SECTOR;
        if (sectors == 0 && flags == 0) || length > WRITE_BYTES_MAX {
            break;
        }
        at += SECTOR;
        if flags & FLUSH != 0 {
            flushes += 1;
            promised = all.len();
        }
        if flags & DISCARD == 0 && length > 0 {
            all.push(Write { at: sector * SECTOR, length, data: at });
            at += length;
        }
    }
    Ok((all, promised, flushes))
}

fn words(list: &File, at: u64) -> io::Result<[u64; 4]> {
    let mut block = [0; 32];
    list.read_exact_at(&mut block, at)?;
    let word = |nth: usize| u64::from_le_bytes(std::array::from_fn(|byte| block[nth * 8 + byte]));
    Ok([word(0), word(1), word(2), word(3)])
}

fn copy(from: &File, mut source: u64, to: &File, mut target: u64, mut length: u64) -> io::Result<()> {
    let mut chunk = vec![0; 1 << 20];
    while length > 0 {
        let part = usize::try_from(length.min(1 << 20)).unwrap();
        from.read_exact_at(&mut chunk[..part], source)?;
        to.write_all_at(&chunk[..part], target)?;
        let part = part as u64;
        (source, target, length) = (source + part, target + part, length - part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(list: &mut Vec<u8>, sector: u64, flags: u64, data: &[u8]) {
        for word in [sector, data.len() as u64 / SECTOR, flags, 0] {
            list.extend(word.to_le_bytes());
        }
        list.resize(list.len().next_multiple_of(512), 0);
        list.extend(data);
    }

    #[test]
    fn what_was_promised_is_there_and_only_the_rest_may_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Vec::new();
        for word in [MAGIC, 1, 2, SECTOR] {
            list.extend(word.to_le_bytes());
        }
        list.resize(512, 0);
        entry(&mut list, 1, 0, &[b'a'; 512]);
        entry(&mut list, 0, FLUSH, &[]);
        for nth in 2..10 {
            entry(&mut list, nth, 0, &[b'b'; 512]);
        }
        list.resize(list.len() + 1024, 0);
        let (disk, writes) = (folder.path().join("disk"), folder.path().join("writes"));
        std::fs::File::create(&writes).unwrap().write_all_at(&list, 0).unwrap();
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 1..40 {
            std::fs::File::create(&disk).unwrap().set_len(10 * 512).unwrap();
            let fate = lose_power(&disk, &writes, &mut Dice::new(seed)).unwrap();
            assert_eq!((fate.writes, fate.flushes, fate.unpromised), (9, 1, 8));
            let content = std::fs::read(&disk).unwrap();
            assert_eq!(content[512..1024], [b'a'; 512]);
            let there = (2..10).filter(|nth| content[nth * 512] == b'b').count() as u64;
            assert!(there == 8 - fate.lost || there + 1 == 8 - fate.lost, "the last one may have been cut");
            outcomes.insert(fate.lost);
        }
        assert!(outcomes.contains(&0) && outcomes.contains(&8) && outcomes.len() > 3, "{outcomes:?}");
    }
}
