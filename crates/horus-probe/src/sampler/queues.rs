//! What lies in the sockets of a process and is not taken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::take::Queue;
use super::view::{View, Word};

/// Most queues of one process that are followed.
pub const QUEUES_MAX: usize = 256;

/// A queue that has not become shorter.
#[derive(Clone, Copy, Debug)]
struct Standing {
    queue: Queue,
    /// For how long.
    age: Duration,
}

/// The queues of one process.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    standing: BTreeMap<u64, Standing>,
}

impl Queues {
    /// Takes all queues of a look; what is not among them is empty. `charged` is how long the process had time to take
    /// something and did not need it for anything else.
    pub fn take(&mut self, queues: &[Queue], charged: Duration) {
        let before = std::mem::take(&mut self.standing);
        for queue in queues.iter().filter(|queue| queue.waiting > 0).take(QUEUES_MAX) {
            let stood = before.get(&queue.inode).filter(|stood| queue.waiting >= stood.queue.waiting);
            let age = stood.map_or(Duration::ZERO, |stood| stood.age + charged);
            self.standing.insert(queue.inode, Standing { queue: *queue, age });
        }
    }

    /// The one that has stood longest, if that is long. Only what a loop wants to hear of counts, and connections. Of a runtime
    /// that watches all of its sockets from the beginning (`watches_all`), only connections count.
    pub fn standing(&self, deadline: Duration, watches_all: bool) -> Option<View> {
        let is_wanted = |queue: &Queue| queue.listens || (queue.watched && !watches_all);
        let wanted = self.standing.values().filter(|stood| is_wanted(&stood.queue));
        let longest = wanted.max_by_key(|stood| stood.age).filter(|stood| stood.age >= deadline)?;
        Some(View { lasted: longest.age, queue: Some(longest.queue), ..View::plain(Word::Undrained) })
    }
}
