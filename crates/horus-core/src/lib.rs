//! The judge: a pure state machine that decides what is done to a supervised program
