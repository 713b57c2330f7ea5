//! syncd keeps a destination store in step with a live source by reading the source's own audit log.
//! `docs/architecture.md` draws the modules and the arrows between them.

pub mod apply;
pub mod changelog;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod job;
pub mod losses;
pub mod moves;
pub mod names;
pub mod publish;
pub mod report;
pub mod round;
pub mod scope;
pub mod settle;
pub mod spool;
pub mod status;
pub mod store;
pub mod tail;
pub mod transfer;
pub mod uri;
pub mod wake;
pub mod zone;
