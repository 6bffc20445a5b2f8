//! Files that are not what they were when they were mapped, or never were what they say.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::subject::{Subject, compiled, compiled_from, skipped};
use crate::witness::{ask, goes_on};

#[test]
fn an_interpreter_with_a_lying_section_table_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled_from("hostile.c", folder.path(), "python3.11") else {
        return skipped("an_interpreter_with_a_lying", "no C compiler").unwrap_or_default();
    };
    let honest = std::fs::read(&program).unwrap();
    let eight = |at: usize| u64::from_le_bytes(honest[at..at + 8].try_into().unwrap());
    let two = |at: usize| usize::from(u16::from_le_bytes(honest[at..at + 2].try_into().unwrap()));
    let (table, count) = (usize::try_from(eight(40)).unwrap(), two(60));
    // The loader does not look at sections: the program runs, whatever is said in them.
    let mut died = 0;
    for section in 1..count {
        // Only tables of symbols, their texts and room for data are believed by anybody.
        let at = table + section * 64;
        if !matches!(u32::from_le_bytes(honest[at + 4..at + 8].try_into().unwrap()), 2 | 3 | 8 | 11) {
            continue;
        }
        // Address, place in the file, size (twice) and bytes of an entry.
        for (field, value) in [(16, u64::MAX - 7), (24, u64::MAX), (32, 1 << 60), (32, 1 << 31), (56, 1)] {
            let mut bytes = honest.clone();
            bytes[at + field..][..8].copy_from_slice(&value.to_le_bytes());
            died += u32::from(!is_survived(&folder.path().join("lies"), &bytes));
        }
    }
    // The table itself: beyond the file, too long, empty, without names.
    for (at, word) in [(40, u64::MAX - 63), (40, 1), (60, 0xffff_ffff), (60, 0), (62, 0xffff)] {
        let mut bytes = honest.clone();
        let length = if at == 40 { 8 } else { 2 };
        bytes[at..at + length].copy_from_slice(&word.to_le_bytes()[..length]);
        died += u32::from(!is_survived(&folder.path().join("lies"), &bytes));
    }
    assert_eq!(died, 0, "captures that died of a file");
}

/// Runs these bytes as an interpreter, and has it looked at. The target always goes on.
fn is_survived(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::create_dir_all(folder).unwrap();
    let program = folder.join("python3.11");
    let _ = std::fs::remove_file(&program);
    std::fs::write(&program, bytes).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&program, executable).unwrap();
    let mut subject = Subject::start(&program, &["noise"]).ready();
    let told = ask(subject.pid());
    goes_on(&mut subject);
    if told.document.is_none() {
        eprintln!("it died: {}", told.status);
    }
    told.document.is_some()
}

#[test]
fn what_stands_in_the_place_of_a_mapped_file_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(program), Some(library)) = (
        compiled(folder.path(), "trader"),
        compiled_from("hostile.c", folder.path(), "libpython3.11.so.1.0"),
    ) else {
        return skipped("what_stands_in_the_place", "no C compiler").unwrap_or_default();
    };
    let honest = std::fs::read(&library).unwrap();
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success());
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(&str, Change<'_>); 6] = [
        ("deleted", &|_| {}),
        ("another", &|path| std::fs::write(path, &honest).unwrap()),
        ("a folder", &|path| std::fs::create_dir(path).unwrap()),
        ("a device", &|path| symlink("/dev/zero", path).unwrap()),
        ("a FIFO", &|path| {
            if made {
                std::fs::hard_link(&fifo, path).unwrap();
            }
        }),
        ("sparse", &|path| {
            let file = std::fs::File::create(path).unwrap();
            std::io::Write::write_all(&mut &file, &honest).unwrap();
            file.set_len(1 << 40).unwrap();
        }),
    ];
    for (name, change) in changes {
        let place = folder.path().join(name.replace(' ', "-"));
        std::fs::create_dir_all(&place).unwrap();
        let path = place.join("libpython3.11.so.1.0");
        std::fs::write(&path, &honest).unwrap();
        let subject = Subject::start(&program, &[path.to_str().unwrap()]).ready();
        std::fs::remove_file(&path).unwrap();
        change(&path);
        let document = ask(subject.pid()).document();
        let is_late = document.missing.iter().any(|reason| reason.contains("not done in"));
        assert!(!is_late, "{name}: it waited: {:?}", document.missing);
        let is_said = document.missing.iter().any(|reason| reason.starts_with("Python stacks"));
        assert!(is_said, "{name}: {:?}", document.missing);
        subject.until("waiting on pause");
    }
    // A file that is cut while it is mapped.
    let subject = Subject::start(&program, &[library.to_str().unwrap()]).ready();
    std::fs::File::options().write(true).open(&library).unwrap().set_len(100).unwrap();
    ask(subject.pid()).document();
    subject.until("waiting on pause");
}

#[test]
fn a_program_with_mounts_of_its_own_is_read_through_them() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled_from("hostile.c", folder.path(), "diver") else {
        return skipped("a_program_with_mounts", "no C compiler").unwrap_or_default();
    };
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let script = "mount -t tmpfs none \"$2\" && cp \"$1\" \"$2/hidden\" && exec \"$2/hidden\" stack 100000";
    let words = ["-rm", "sh", "-c", script, "sh", program.to_str().unwrap(), inside.to_str().unwrap()];
    let may = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none"]).arg(&inside).output();
    if !may.is_ok_and(|done| done.status.success()) {
        return skipped("a_program_with_mounts", "no right to mount").unwrap_or_default();
    }
    let mut subject = Subject::start("unshare", &words).ready();
    let document = ask(subject.pid()).document();
    assert!(!inside.join("hidden").exists(), "it is not to be seen from here");
    if cfg!(target_arch = "x86_64") {
        let frames = document.native.iter().flat_map(|thread| &thread.frames);
        let dives = frames.filter(|frame| frame.function.as_deref() == Some("dive")).count();
        assert!(dives > 10, "{}", document.render(true));
    }
    goes_on(&mut subject);
}
