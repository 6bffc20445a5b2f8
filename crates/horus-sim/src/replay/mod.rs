//! A recording, lived again step by step, forwards and back.
//!
//! ```text
//!   Tape      the lines of a recording, and how far each is from the beginning
//!   Cursor    an engine that has taken the first so many of them
//!   Session   a cursor that can be put anywhere, with checkpoints behind it
//!   Prompt    words of a person in, an Answer out: data, which reads as text too
//! ```
//!
//! Step 1 is the birth of the engine; after step *n* it has taken *n* lines. An engine does not run backwards: to step
//! back is to go on from the last checkpoint before the wanted step. Nothing here knows a terminal, and nothing here
//! repeats the judge's words: inputs and events are shown as the data that they are, under the names of the format, so
//! that whatever the engine learns to say is shown without a change here.

mod answer;
mod breakpoint;
mod diff;
mod facts;
mod instruction;
mod load;
mod prompt;
mod session;
mod step;
mod tape;

pub use answer::{Answer, BreakpointView, Place, ServiceLine, clock};
pub use breakpoint::{BREAKPOINTS_MAX, Breakpoint};
pub use diff::{Change, SubjectDiff, diff};
pub use instruction::{Instruction, SCRIPT_INSTRUCTIONS_MAX, Target, script};
pub use load::{LoadError, load};
pub use prompt::{Prompt, PromptError};
pub use session::{CHECKPOINTS_MAX, Cost, Session, Stop};
pub use step::{CommandView, InputView, State, Step, Transition};
