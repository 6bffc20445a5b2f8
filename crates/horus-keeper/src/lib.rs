//! The keeper: parent of all children, pump of their output
