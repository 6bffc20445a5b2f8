//! The sending end of systemd's notification protocol: one datagram of `KEY=value` lines, never waited for.
//!
//! Not `libsystemd`: the protocol is a `sendto`, and a program that must not be lost links nothing that it need not.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Longest wait for room in the queue of a listener that is given a descriptor.
pub const SEND_MAX: Duration = Duration::from_secs(5);

/// A socket that says things to a service manager.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl NotifySocket {
    /// Speaks to `address`, the value of `NOTIFY_SOCKET`: a path, or (on Linux) `@` and an abstract name.
    ///
    /// # Errors
    /// If that is no address, or no socket is to be had.
    pub fn open(address: &OsStr) -> io::Result<Self> {
        let address = parse(address.as_bytes())?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Sends or drops; never waits. The whole text is one datagram.
    ///
    /// # Errors
    /// If nobody listens there, or the listener's queue is full.
    pub fn send(&self, text: &str) -> io::Result<()> {
        self.socket.send_to_addr(text.as_bytes(), &self.address).map(|_| ())
    }
}

impl NotifySocket {
    /// The same, with a descriptor, of which the listener gets a copy. Waits at most [`SEND_MAX`] for room in its queue.
    ///
    /// # Errors
    /// If nobody listens there, or the listener's queue is full.
    pub fn send_with(&self, text: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        // Connected anew each time: a listener that was started again has another socket under the same address.
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        socket.connect_addr(&self.address)?;
        let (parts, number) = ([IoSlice::new(text.as_bytes())], [descriptor.as_raw_fd()]);
        let rights = [ControlMessage::ScmRights(&number)];
        sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None)?;
        Ok(())
    }
}

fn parse(address: &[u8]) -> io::Result<SocketAddr> {
    match address {
        [b'@', name @ ..] => abstract_address(name),
        [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(address)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no abstract socket names"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_path_is_spoken_to_and_nobody_there_is_no_wait() {
        let folder = std::env::temp_dir().join(format!("horus-notify-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let listener = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::open(path.as_os_str()).unwrap();
        socket.send("READY=1\nSTATUS=well").unwrap();
        assert_eq!(heard(&listener), "READY=1\nSTATUS=well");
        drop(listener);
        assert!(socket.send("READY=1").is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_spoken_to() {
        let name = format!("horus-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
        NotifySocket::open(OsStr::new(&format!("@{name}"))).unwrap().send("WATCHDOG=1").unwrap();
        assert_eq!(heard(&listener), "WATCHDOG=1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "relative", "vsock:2:3"] {
            assert!(NotifySocket::open(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_descriptor_arrives_as_a_copy() {
        use std::io::{Read as _, Write as _};
        use std::os::fd::AsFd as _;

        let folder = std::env::temp_dir().join(format!("horus-notify-fd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let socket = NotifySocket::open(path.as_os_str()).unwrap();
        socket.send_with("FDSTORE=1\nFDNAME=fifo.bot\nFDPOLL=0", writer.as_fd()).unwrap();
        writer.write_all(b"last words").unwrap();
        drop(writer);
        // The copy in flight keeps the pipe open: no end of file yet, until the message is thrown away.
        assert_eq!(heard(&listener), "FDSTORE=1\nFDNAME=fifo.bot\nFDPOLL=0");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
