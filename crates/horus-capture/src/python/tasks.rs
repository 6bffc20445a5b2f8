//! The asyncio tasks of another CPython, who awaits whom, and how late each loop is.
//!
//! ```text
//!   sys.modules ─> asyncio.tasks ─> _scheduled_tasks (3.11: _all_tasks) : WeakSet ─> data : set ─> references ─> Task
//!                                   _eager_tasks     : set ──────────────────────────────────────────────────┘
//!   Task ─ coroutine ─ frame ─ top of its stack ─> coroutine ─ … ─> future
//!        └ loop ─ _scheduled[0] ─ _when                             the first timer's hour: now - _when is the lag
//! ```
//!
//! Fields are found by the class of what they point to. Any pointer that leads nowhere, and any object that is not what it has
//! to be, ends the walk: no evidence is better than a wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::layout::{Layout, common};
use super::objects::{Heap, Object};
use crate::document::{Frame, Loop, Task, TaskState};
use crate::limits::{CHAIN_MAX, LOOPS_MAX, TASKS_MAX};
use crate::memory::{Lost, Memory, Pages};

/// What a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) tasks: Vec<Task>,
    pub(crate) loops: Vec<Loop>,
    /// All that the interpreter counts.
    pub(crate) counted: u64,
    /// Tasks that are not understood, such as those of compiled code.
    pub(crate) opaque: usize,
}

/// Walks from `sys.modules`. `now` is the monotonic clock, by which loops time themselves. `None`: it has not imported asyncio.
pub(crate) fn census<M: Memory>(
    pages: &Pages<M>,
    layout: Layout,
    modules: u64,
    now: Duration,
) -> Result<Option<Census>, Lost> {
    let walk = Walk { heap: Heap { pages, layout }, now };
    walk.census(modules)
}

struct Walk<'a, M> {
    heap: Heap<'a, M>,
    now: Duration,
}

/// A link of a chain of awaits.
enum Link {
    /// A coroutine or generator.
    Call(u64),
    /// Something else that ends the chain.
    End,
}

/// What the state of a frame says.
enum Standing {
    Created,
    Suspended,
    Running,
    Over,
}

impl<M: Memory> Walk<'_, M> {
    fn census(&self, modules: u64) -> Result<Option<Census>, Lost> {
        let heap = &self.heap;
        if heap.get(modules, "asyncio.tasks")?.is_none() {
            return Ok(None);
        }
        let mut found = BTreeSet::new();
        let mut census = Census::default();
        let weak = if heap.layout.minor == 11 { "_all_tasks" } else { "_scheduled_tasks" };
        if let Some(set) = heap.in_module(modules, "asyncio.tasks", weak)? {
            let data = match heap.class_name(set)?.as_str() {
                "WeakSet" => heap.attribute(set, "data")?.ok_or(Lost::Odd("a WeakSet without data"))?,
                _ => return Err(Lost::Odd("tasks that are in no WeakSet")),
            };
            let (references, counted) = heap.members(data, TASKS_MAX)?;
            census.counted += counted;
            for reference in references {
                // Its task may have ended a moment ago: then it refers to None.
                if let Some(task) = heap.field(reference, common::FIRST_FIELD)?
                    && task.class != "NoneType"
                {
                    found.insert(task.address);
                }
            }
        }
        if let Some(set) = heap.in_module(modules, "asyncio.tasks", "_eager_tasks")? {
            let (tasks, counted) = heap.members(set, TASKS_MAX)?;
            census.counted += counted;
            found.extend(tasks);
        }
        let mut loops = BTreeMap::new();
        for task in found {
            self.add(task, &mut census, &mut loops)?;
        }
        // By name, so that two captures can be compared by eye.
        census.tasks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(census))
    }

    fn add(&self, task: u64, census: &mut Census, loops: &mut BTreeMap<u64, usize>) -> Result<(), Lost> {
        let heap = &self.heap;
        let Some((offset, coroutine)) = heap.find_field(task, &["coroutine", "generator"])? else {
            census.opaque += 1;
            return Ok(());
        };
        let state = match self.standing(coroutine)? {
            Standing::Over => return Ok(()),
            Standing::Created => TaskState::Created,
            Standing::Suspended => TaskState::Waiting,
            Standing::Running => TaskState::Running,
        };
        let on_loop = self.on_loop(task, census, loops)?;
        let waits_on = match heap.field(task, offset - 8)? {
            Some(object) if state == TaskState::Waiting && object.class != "NoneType" => {
                Some(self.awaited(&object)?)
            }
            _ => None,
        };
        census.tasks.push(Task {
            name: self.name(task, offset + 8)?,
            state,
            on_loop,
            chain: self.chain(coroutine)?,
            waits_on,
        });
        Ok(())
    }

    /// A name that nobody has asked for yet is kept as a number (3.12).
    fn name(&self, task: u64, offset: u64) -> Result<String, Lost> {
        match self.heap.field(task, offset)? {
            Some(name) if name.class == "str" => self.heap.text(name.address),
            Some(name) if name.class == "int" => Ok(format!("Task-{}", self.heap.integer(name.address)?)),
            _ => Err(Lost::Odd("a task without a name")),
        }
    }

    fn awaited(&self, object: &Object) -> Result<String, Lost> {
        let short = object.class.rsplit('.').next().unwrap_or_default();
        if let Some((offset, _)) = self.heap.find_field(object.address, &["coroutine", "generator"])?
            && short.ends_with("Task")
        {
            return Ok(format!("task {}", self.name(object.address, offset + 8)?));
        }
        Ok(format!("{short} at {:#x}", object.address))
    }

    /// The loop of a task is the first field of it.
    fn on_loop(
        &self,
        task: u64,
        census: &mut Census,
        loops: &mut BTreeMap<u64, usize>,
    ) -> Result<usize, Lost> {
        let object = self.heap.field(task, common::FIRST_FIELD)?.ok_or(Lost::Odd("a task without a loop"))?;
        if let Some(known) = loops.get(&object.address) {
            return Ok(*known);
        }
        if census.loops.len() == LOOPS_MAX {
            return Err(Lost::TooMuch("8 loops"));
        }
        let position = census.loops.len();
        loops.insert(object.address, position);
        census.loops.push(self.look_at_loop(object));
        Ok(position)
    }

    /// Another kind of loop may keep its timers elsewhere: then its tasks are known and its lag is not.
    fn look_at_loop(&self, object: Object) -> Loop {
        let heap = &self.heap;
        let number = |name: &str| match heap.attribute(object.address, name) {
            Ok(Some(value)) => heap
                .class_name(value)
                .ok()
                .filter(|class| class == "int")
                .and_then(|_| heap.integer(value).ok()),
            _ => None,
        };
        let ready = match heap.attribute(object.address, "_ready") {
            Ok(Some(queue)) => heap.pages.u64(queue.saturating_add(common::SIZE)).ok(),
            _ => None,
        };
        let (lag, timers, unknown) = match self.lag(object.address) {
            Ok(Some((lag, timers))) => (lag, Some(timers), None),
            Ok(None) => (None, None, Some("this kind of loop keeps its timers elsewhere".to_owned())),
            Err(lost) => (None, None, Some(lost.to_string())),
        };
        let lag_unknown = unknown.or_else(|| lag.is_none().then(|| "it has no timer".to_owned()));
        Loop { class: object.class, lag_ms: lag, lag_unknown, timers, ready, thread: number("_thread_id") }
    }

    /// By how many milliseconds the first timer is late, and how many there are. `None`: no list of timers.
    fn lag(&self, event_loop: u64) -> Result<Option<(Option<f64>, u64)>, Lost> {
        let heap = &self.heap;
        let Some(list) = heap.attribute(event_loop, "_scheduled")? else { return Ok(None) };
        if heap.class_name(list)? != "list" {
            return Ok(None);
        }
        let (first, count) = heap.first_item(list)?;
        let Some(first) = first else { return Ok(Some((None, count))) };
        let (_, when) = heap.find_field(first, &["float"])?.ok_or(Lost::Odd("a timer without an hour"))?;
        let when = heap.float(when)?;
        if !when.is_finite() {
            return Err(Lost::Odd("a timer at no hour"));
        }
        Ok(Some((Some((self.now.as_secs_f64() - when) * 1_000.0), count)))
    }

    fn standing(&self, coroutine: u64) -> Result<Standing, Lost> {
        let state = self.heap.pages.u8(coroutine.saturating_add(self.heap.layout.frame_state))?.cast_signed();
        Ok(match (self.heap.layout.minor, state) {
            (11, -2) | (12.., -3) => Standing::Created,
            (11, -1) | (12.., -2 | -1) => Standing::Suspended,
            (_, 0) => Standing::Running,
            (_, 1 | 4) => Standing::Over,
            _ => return Err(Lost::Odd("a coroutine in no state")),
        })
    }

    /// From the outermost call inwards.
    fn chain(&self, coroutine: u64) -> Result<Vec<Frame>, Lost> {
        let mut chain = Vec::new();
        let mut next = Link::Call(coroutine);
        while let Link::Call(coroutine) = next {
            let standing = self.standing(coroutine)?;
            if matches!(standing, Standing::Over) || chain.len() == CHAIN_MAX {
                break;
            }
            let frame = coroutine.saturating_add(self.heap.layout.frame);
            chain.push(self.heap.call(frame)?);
            next = match standing {
                Standing::Suspended => self.awaits(frame)?,
                _ => Link::End,
            };
        }
        Ok(chain)
    }

    /// What a suspended frame awaits lies on the top of its stack.
    fn awaits(&self, frame: u64) -> Result<Link, Lost> {
        const DEPTH_MAX: u32 = 4_096;
        let top = self.heap.pages.u32(frame.saturating_add(common::FRAME_STACK_TOP))?;
        if top == 0 || top > DEPTH_MAX {
            return Ok(Link::End);
        }
        let place = frame.saturating_add(common::FRAME_VALUES + u64::from(top - 1) * 8);
        let Some(object) = self.heap.field(place, 0)? else { return Ok(Link::End) };
        Ok(match object.class.as_str() {
            "coroutine" | "generator" => Link::Call(object.address),
            // They wrap a coroutine, or an asynchronous generator that is asked for its next item, as their first field.
            class if class == "coroutine_wrapper" || class.starts_with("async_generator_") => {
                match self.heap.field(object.address, common::FIRST_FIELD)? {
                    Some(inner) if matches!(inner.class.as_str(), "coroutine" | "async_generator") => {
                        Link::Call(inner.address)
                    }
                    _ => Link::End,
                }
            }
            _ => Link::End,
        })
    }
}
