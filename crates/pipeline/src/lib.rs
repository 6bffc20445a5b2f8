//! A content pipeline that publishes exactly once per slot, however often and wherever it is killed.
//!
//! ```text
//!   topics.toml ─▶ rotation ─▶ slot gets a topic
//!                                   │  queued                    every arrow: one transaction in the journal
//!                     gather        ▼
//!                 synthesise    Research ─▶ Draft (generator tiers; the last one cannot fail)
//!                     format        ▼
//!                    deliver    article + validators ─▶ page      the bytes to publish are now fixed
//!                 distribute        ▼
//!                               intent ─▶ OUT/content/SLOT-TITLE.md ─▶ index, feed ─▶ marker
//! ```
//!
//! The incident behind it: a run was marked as done before its work was; after the crash the retry was skipped, and
//! nobody noticed. Here the marker comes last, the effect is one rename that can be repeated, and the output folder is
//! asked before it is written to. The guide is `docs/guides/pipeline.md`.
//!
//! | module | its question |
//! | --- | --- |
//! | [`slot`] | which publication is due? |
//! | [`topic`] | what may be written about, and is every claim sourced? |
//! | [`item`] | how far is it? |
//! | [`generator`], [`render`], [`article`] | what does it say, and how is that escaped? |
//! | [`validate`], [`secrets`] | may a stranger read it? |
//! | [`journal`], [`folder`] | what is known, and what is true? |
//! | [`work`] | what is the next step? |
//! | [`service`], [`web`] | is it alive, and who may look? |

#![forbid(unsafe_code)]

pub mod article;
mod disk;
pub mod folder;
pub mod generator;
pub mod item;
pub mod journal;
pub mod render;
pub mod secrets;
pub mod service;
pub mod slot;
pub mod stop_at;
pub mod topic;
pub mod validate;
pub mod web;
pub mod work;
