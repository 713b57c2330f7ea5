//! syncd keeps a destination store in step with a live source by reading the source's own audit log.
//! `docs/architecture.md` draws the modules and the arrows between them.

pub mod changelog;
pub mod scope;
pub mod store;
pub mod tail;
pub mod zone;
