//! Audit-log dialects: the bytes of one record in, changes out. No files, no clock, no async, no store.

pub mod change;
pub mod dialect;
pub mod error;
pub mod path;

pub use change::{Change, Entry, Op};
pub use dialect::Dialect;
pub use error::ParseError;
pub use path::{PathError, RelPath};
