//! syncd keeps a destination store in step with a live source by reading the source's own audit log.
//! `docs/architecture.md` draws the modules and the arrows between them.

pub mod apply;
pub mod checkpoint;
pub mod clock;
pub mod moves;
pub mod names;
pub mod publish;
pub mod report;
pub mod settle;
pub mod spool;
pub mod store;
pub mod transfer;
