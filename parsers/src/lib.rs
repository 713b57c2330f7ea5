//! Audit-log dialects: the bytes of one record in, changes out. No files, no clock, no async, no store.

pub mod azure_storage;
pub mod ceph_rgw;
pub mod change;
pub mod cloudtrail;
pub mod cos_access;
pub mod detect;
pub mod dialect;
mod effect;
pub mod error;
mod field;
pub mod gcs_audit;
pub mod gcs_usage;
pub mod hdfs;
pub mod jindofs;
mod json;
pub mod minio;
mod object;
pub mod oss_access;
pub mod path;
pub mod records;
pub mod s3_access;
pub mod s3_event;
mod sink;
mod time;
mod url;

pub use change::{Change, Entry, Op};
pub use dialect::Dialect;
pub use error::{ParseError, ParseErrorKind};
pub use path::{PathError, RelPath};
