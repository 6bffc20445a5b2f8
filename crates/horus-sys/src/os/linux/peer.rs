//! Credentials of a peer on Linux: `SO_PEERCRED` and `SCM_CREDENTIALS`.

use crate::call::{check, retry};
use crate::fact::{Fact, Missing};
use crate::peer::{Credentials, Received};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn credentials(found: libc::ucred) -> Credentials {
    Credentials { pid: found.pid, uid: found.uid, gid: found.gid }
}

pub(crate) fn peer_credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let place = (&raw mut found).cast();
    let socket = stream.as_raw_fd();
    // SAFETY: room for a ucred, and `length` says so.
    check(unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut length) })?;
    Ok(credentials(found))
}

pub(crate) fn enable_credentials(socket: &UnixDatagram) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    let (socket, value) = (socket.as_raw_fd(), (&raw const on).cast());
    // SAFETY: `value` points to an int of that length.
    check(unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_PASSCRED, value, length) })?;
    Ok(())
}

/// Room for credentials and a few passed descriptors, aligned as control messages are.
#[repr(C, align(8))]
struct Control([u8; 256]);

pub(crate) fn recv_with_credentials(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let socket = socket.as_raw_fd();
    // SAFETY: all pointers are valid for the call, with their true lengths.
    let length = retry(|| unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) })?;
    Ok(Received {
        length: length.unsigned_abs(),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: take_credentials(&message),
    })
}

/// Finds the sender among the control messages, and closes descriptors that a stranger may have passed along.
fn take_credentials(message: &libc::msghdr) -> Fact<Credentials> {
    let mut sender = Fact::Missing(Missing::Unreadable("the datagram carries no credentials".to_owned()));
    // SAFETY: the header was filled by recvmsg and its control buffer lives.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the buffer.
        let found = unsafe { *header };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(header) };
        match (found.cmsg_level, found.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                // SAFETY: a credentials message holds one ucred, perhaps unaligned.
                sender = Fact::Known(credentials(unsafe { data.cast::<libc::ucred>().read_unaligned() }));
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => close_passed(data, found.cmsg_len as usize),
            _ => {}
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    sender
}

fn close_passed(data: *const u8, message_length: usize) {
    // SAFETY: arithmetic on a number.
    let header = unsafe { libc::CMSG_LEN(0) } as usize;
    for position in 0..message_length.saturating_sub(header) / size_of::<libc::c_int>() {
        // SAFETY: the message holds that many descriptor numbers.
        let place = unsafe { data.cast::<libc::c_int>().add(position) };
        // SAFETY: as above, perhaps unaligned.
        let number = unsafe { place.read_unaligned() };
        drop(crate::pipe::own(number));
    }
}
