//! Where a process stands, read from outside: what each thread waits for, the line of Python it is in, the task that runs on
//! the loop, and the names of native frames.
//!
//! ```text
//!   /proc ──────────── threads, sockets, limits, pressure     1 ms, also without any right to trace
//!   process_vm_readv ─┬ python::stacks  (py-spy, non-blocking)
//!                     ├ python::tasks   asyncio: who awaits whom, who runs now, how late the loop is
//!                     └ native          framehop over a copy of the stack, from the registers that /proc tells
//!                          │
//!                          └──> Document: one phrase, then everything; what could not be seen, and why
//! ```
//!
//! The target is never stopped, signalled or written to. It therefore moves while it is read, and it may lie: it is somebody
//! else's memory. Every reader here distrusts each pointer, counts what it reads and gives up with a reason, and the whole
//! belongs into a short-lived process under [`limits`] that may die of it. Rejected: doing this inside of the daemon (a parser
//! of foreign memory has no business there), and a stop by ptrace (it makes `epoll_wait` return `EINTR`: evidence that heals
//! or harms is none). Values of local variables are not read at all: they hold secrets.
#![forbid(unsafe_code)]

pub mod document;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;

mod kernel;
mod memory;
mod native;
mod phrase;
mod python;
mod render;
mod work;

pub use document::Document;
pub use work::{capture, capture_about};
