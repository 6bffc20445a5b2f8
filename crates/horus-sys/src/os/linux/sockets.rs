//! Sockets of a process: descriptors give inodes, the tables of its network namespace give the rest.

use crate::facts::{MAX_SOCKETS, SocketFacts};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most lines read of one socket table: a bound on time on a host with very many connections.
const MAX_TABLE_LINES: usize = 100_000;

pub(super) fn of(pid: i32) -> io::Result<Vec<SocketFacts>> {
    let mut wanted = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MAX_SOCKETS * 4) {
        let Ok(entry) = entry else { continue };
        let Some(inode) = fs::read_link(entry.path())
            .ok()
            .and_then(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok())
        else {
            continue;
        };
        if let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            wanted.entry(inode).or_insert(descriptor);
        }
    }
    let mut found = Vec::new();
    if !wanted.is_empty() {
        for protocol in ["tcp", "tcp6", "udp", "udp6", "unix"] {
            read_table(pid, protocol, &wanted, &mut found)?;
        }
    }
    found.sort_unstable_by_key(|socket: &SocketFacts| socket.descriptor);
    found.truncate(MAX_SOCKETS);
    Ok(found)
}

fn read_table(
    pid: i32,
    protocol: &str,
    wanted: &BTreeMap<u64, i32>,
    found: &mut Vec<SocketFacts>,
) -> io::Result<()> {
    let file = match File::open(format!("/proc/{pid}/net/{protocol}")) {
        // A kernel built without IPv6 has no such table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for line in BufReader::new(file).lines().skip(1).take(MAX_TABLE_LINES) {
        let line = line?;
        let parsed = if protocol == "unix" { parse_unix(&line) } else { parse_internet(&line, protocol) };
        if let Some((inode, mut socket)) = parsed
            && let Some(descriptor) = wanted.get(&inode)
        {
            socket.descriptor = *descriptor;
            found.push(socket);
        }
    }
    Ok(())
}

/// `sl local remote st tx:rx tr:when retr uid timeout inode ...`
fn parse_internet(line: &str, protocol: &str) -> Option<(u64, SocketFacts)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| fields.get(at).and_then(|text| parse_address(text));
    let (send, receive) = fields.get(4)?.split_once(':')?;
    let remote = address(2)?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let socket = SocketFacts {
        descriptor: -1,
        protocol: protocol.to_owned(),
        local: address(1)?.to_string(),
        remote: (remote.port() != 0).then(|| remote.to_string()),
        state: if protocol.starts_with("udp") { "UDP".to_owned() } else { tcp_state(state).to_owned() },
        receive_queue: u64::from_str_radix(receive, 16).ok()?,
        send_queue: u64::from_str_radix(send, 16).ok()?,
    };
    Some((fields.get(9)?.parse().ok()?, socket))
}

/// `num refcount protocol flags type state inode [path]`
fn parse_unix(line: &str) -> Option<(u64, SocketFacts)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let flags = u64::from_str_radix(fields.next()?, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.next()?.parse().ok()?;
    let listening = flags & 0x1_0000 != 0;
    let socket = SocketFacts {
        descriptor: -1,
        protocol: "unix".to_owned(),
        local: fields.next().unwrap_or_default().to_owned(),
        remote: None,
        state: if listening {
            "LISTEN"
        } else if state == 3 {
            "ESTABLISHED"
        } else {
            "UNCONNECTED"
        }
        .to_owned(),
        receive_queue: 0,
        send_queue: 0,
    };
    Some((inode, socket))
}

/// Addresses are words in host byte order, as hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match address.len() {
        8 => Some((Ipv4Addr::from(word(0)?), port).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some((Ipv6Addr::from(bytes), port).into())
        }
        _ => None,
    }
}

fn tcp_state(number: u8) -> &'static str {
    const STATES: [&str; 12] = [
        "UNKNOWN",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
    ];
    STATES.get(usize::from(number)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_table_line_is_read() {
        let line = "   1: 0100007F:1E61 0100007F:C350 01 00000003:00000102 00:00000000 00000000  1000        0 4711 1 0 20";
        let (inode, socket) = parse_internet(line, "tcp").unwrap();
        assert_eq!(inode, 4_711);
        assert_eq!(
            (socket.local.as_str(), socket.remote.as_deref()),
            ("127.0.0.1:7777", Some("127.0.0.1:50000"))
        );
        assert_eq!(
            (socket.state.as_str(), socket.receive_queue, socket.send_queue),
            ("ESTABLISHED", 0x102, 3)
        );
        assert_eq!(parse_internet("nonsense", "tcp"), None);
    }
}
