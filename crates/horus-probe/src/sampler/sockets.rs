//! From a descriptor to the other end of its connection, and from an unread queue to the process that leaves it unread.
//!
//! The kernel tells all sockets of the machine in one dump, but not whose they are; that is in the descriptors of each process,
//! and to read them all every second would cost more than everything else together. So the queues are followed without an
//! owner, and only when one of them stands still is it asked, once and of a few processes per tick, whose it is.

use std::collections::{BTreeSet, HashMap};

use horus_sys::fact::Fact;
use horus_sys::facts;
use horus_sys::sample::{self, Call, Descriptor, Socket};

use super::queues::QUEUES_MAX;
use super::take::Queue;
use crate::text::one_line;

/// A queue that did not become shorter for so many ticks is worth asking for its owner.
const STANDS_AFTER_TICKS: u32 = 2;
/// How many processes are asked for their descriptors in one tick.
const SCANS_PER_TICK: usize = 16;
/// How many descriptors of a process are looked at.
const DESCRIPTORS_MAX: usize = 1_024;
/// Of how many sets of a process it is read what they wait for.
const SETS_MAX: usize = 8;
/// The longest name of what a thread waits on, in characters.
const SUBJECT_CHARACTERS_MAX: usize = 120;

/// The unread queues of the whole machine.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    standing: HashMap<u64, Standing>,
    /// Each round asks every process once.
    round: u64,
    scans_left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    waiting: u32,
    ticks: u32,
    asked_for: bool,
}

impl Stuck {
    /// Takes the sockets of this tick.
    pub(super) fn take(&mut self, sockets: &HashMap<u64, Socket>) {
        let before = std::mem::take(&mut self.standing);
        for (inode, socket) in sockets.iter().filter(|(_, socket)| socket.receive_queue > 0) {
            let waiting = socket.receive_queue;
            let stood = before.get(inode).filter(|stood| waiting >= stood.waiting);
            let (ticks, asked_for) = stood.map_or((0, false), |stood| (stood.ticks + 1, stood.asked_for));
            self.standing.insert(*inode, Standing { waiting, ticks, asked_for });
        }
        // A new round begins when everybody has been asked in the last one: nobody is asked all the time while others never are.
        let all_asked = self.scans_left > 0 || self.round == 0;
        self.scans_left = SCANS_PER_TICK;
        if !all_asked {
            return;
        }
        let mut unknown = false;
        for stood in self.standing.values_mut().filter(|stood| stood.ticks >= STANDS_AFTER_TICKS) {
            unknown |= !std::mem::replace(&mut stood.asked_for, true);
        }
        self.round += u64::from(unknown);
    }
}

/// The sockets of one process, as far as anybody asked.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    round: u64,
    owned: HashMap<u64, i32>,
}

impl Descriptors {
    /// What lies unread in the sockets of this process. `sets` are the sets of its loops.
    pub(super) fn queues(
        &mut self,
        pid: i32,
        sets: &[i32],
        sockets: &HashMap<u64, Socket>,
        stuck: &mut Stuck,
    ) -> Vec<Queue> {
        if self.round < stuck.round && stuck.scans_left > 0 {
            stuck.scans_left -= 1;
            self.round = stuck.round;
            self.scan(pid);
        }
        let mut found = Vec::new();
        let mut standing = false;
        for (inode, descriptor) in &self.owned {
            let Some(socket) = sockets.get(inode).filter(|socket| socket.receive_queue > 0) else { continue };
            let stands = stuck.standing.get(inode).is_some_and(|stood| stood.ticks >= STANDS_AFTER_TICKS);
            standing |= stands && !socket.listens;
            found.push(Queue {
                inode: *inode,
                descriptor: *descriptor,
                listens: socket.listens,
                watched: false,
                waiting: socket.receive_queue,
            });
        }
        found.truncate(QUEUES_MAX);
        if standing {
            let watched = watched(pid, sets);
            for queue in &mut found {
                queue.watched = watched.contains(&queue.descriptor);
            }
        }
        found
    }

    fn scan(&mut self, pid: i32) {
        self.owned.clear();
        for (number, what) in sample::descriptors(pid, DESCRIPTORS_MAX).known().unwrap_or_default() {
            if let Descriptor::Socket(inode) = what {
                self.owned.insert(inode, number);
            }
        }
    }
}

/// The descriptors of which the loops of this process want to know when there is something to read.
fn watched(pid: i32, sets: &[i32]) -> BTreeSet<i32> {
    let each = |set: &i32| sample::interest(pid, *set).known().unwrap_or_default();
    let all = sets.iter().take(SETS_MAX).flat_map(each);
    all.filter(|interest| interest.reads).map(|interest| interest.descriptor).collect()
}

/// On what this call waits: the other end of a connection, a path, a kind of thing.
pub(super) fn subject(pid: i32, call: &Call, sockets: &HashMap<u64, Socket>) -> Option<String> {
    let number = call.descriptor().filter(|_| call.name().is_some_and(takes_descriptor))?;
    let described = match sample::descriptor(pid, number) {
        Fact::Known(described) => described,
        Fact::Missing(_) => return None,
    };
    Some(match described {
        Descriptor::Socket(inode) => match sockets.get(&inode) {
            Some(socket) => socket.remote.unwrap_or(socket.local).to_string(),
            None => elsewhere(pid, number).unwrap_or_else(|| format!("a socket (descriptor {number})")),
        },
        Descriptor::Epoll => format!("a set of descriptors ({number})"),
        Descriptor::Pipe(_) => format!("a pipe (descriptor {number})"),
        Descriptor::Other(name) => one_line(&name, SUBJECT_CHARACTERS_MAX),
    })
}

/// A socket that is not TCP, or of another network namespace: told by the tables of the process itself.
fn elsewhere(pid: i32, number: i32) -> Option<String> {
    let sockets = facts::sockets(pid).known()?;
    let socket = sockets.into_iter().find(|socket| socket.descriptor == number)?;
    let name = match socket.remote {
        Some(remote) => remote,
        None if socket.local.is_empty() => format!("a {} socket", socket.protocol),
        None => format!("{} ({})", socket.local, socket.protocol),
    };
    Some(one_line(&name, SUBJECT_CHARACTERS_MAX))
}

/// Calls whose first argument is what they wait on.
fn takes_descriptor(name: &str) -> bool {
    const NAMES: [&str; 24] = [
        "read",
        "write",
        "pread64",
        "pwrite64",
        "readv",
        "writev",
        "recvfrom",
        "recvmsg",
        "sendto",
        "sendmsg",
        "accept",
        "accept4",
        "connect",
        "flock",
        "fcntl",
        "fsync",
        "fdatasync",
        "ioctl",
        "sendfile",
        "splice",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "close",
    ];
    NAMES.contains(&name)
}
