//! Users and groups by name. `getpwnam_r` and friends: reentrant, bounded buffers, but they may ask NSS (LDAP, sssd)
//! and then take as long as that takes; call them at configuration time, never in a loop that must turn.

use crate::call::check;
use std::ffi::{CStr, CString};
use std::io;

/// Largest record accepted from the user database, in bytes.
const MAX_RECORD: usize = 1 << 20;
/// Most supplementary groups accepted.
const MAX_GROUPS: usize = 4_096;

/// What the system knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// The user of this name; `None` if there is none.
pub fn lookup_user(name: &str) -> io::Result<Option<User>> {
    let name = c_name(name)?;
    // SAFETY: an all-zero passwd is valid, it holds only numbers and pointers.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut buffer = vec![0; 4_096];
    loop {
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match code {
            0 if found.is_null() => return Ok(None),
            0 => break,
            code => grow(code, &mut buffer)?,
        }
    }
    let groups = groups_of(&name, entry.pw_gid)?;
    Ok(Some(User {
        name: name.to_string_lossy().into_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: text(entry.pw_dir),
        groups,
    }))
}

/// The id of the group of this name; `None` if there is none.
pub fn lookup_group(name: &str) -> io::Result<Option<u32>> {
    let name = c_name(name)?;
    // SAFETY: an all-zero group is valid, it holds only numbers and pointers.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut buffer = vec![0; 4_096];
    loop {
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match code {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(entry.gr_gid)),
            code => grow(code, &mut buffer)?,
        }
    }
}

/// The user id that permissions are checked against.
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The group id that permissions are checked against.
pub fn effective_gid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name holds a NUL byte"))
}

fn grow(code: i32, buffer: &mut Vec<libc::c_char>) -> io::Result<()> {
    match code {
        libc::EINTR => Ok(()),
        libc::ERANGE if buffer.len() < MAX_RECORD => {
            buffer.resize(buffer.len() * 4, 0);
            Ok(())
        }
        // Some systems answer these for "no such name" instead of an empty result.
        libc::ENOENT | libc::ESRCH => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn text(pointer: *const libc::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the database's records hold NUL-terminated strings in the caller's live buffer.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn groups_of(name: &CStr, primary: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: `groups` has room for `count` ids, and `count` is a valid place for the answer.
        let result =
            unsafe { libc::getgrouplist(name.as_ptr(), primary as _, groups.as_mut_ptr(), &raw mut count) };
        if check(result).is_ok() {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            #[cfg_attr(
                target_os = "linux",
                expect(clippy::unnecessary_cast, reason = "the list holds signed numbers on macOS")
            )]
            return Ok(groups.into_iter().map(|group| group as u32).collect());
        }
        if groups.len() >= MAX_GROUPS {
            return Err(io::Error::other(format!("more than {MAX_GROUPS} groups")));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_of_that_name_is_not() {
        let root = lookup_user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(lookup_user("no-such-user-here").unwrap(), None);
        assert_eq!(lookup_group("no-such-group-here").unwrap(), None);
        assert!(lookup_user("ro\0ot").is_err());
    }
}
