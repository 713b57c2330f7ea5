//! Audit-log dialects: the bytes of one record in, changes out. No files, no clock, no async, no store.

pub mod change;
pub mod detect;
pub mod dialect;
pub mod error;
mod field;
pub mod hdfs;
pub mod jindofs;
pub mod path;
pub mod records;
mod sink;
pub mod spans;

pub use change::{Change, Entry, Op};
pub use dialect::Dialect;
pub use error::{ParseError, ParseErrorKind};
pub use path::{PathError, RelPath};
