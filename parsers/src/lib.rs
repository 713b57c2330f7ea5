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
pub mod gluster_changelog;
pub mod hdfs;
mod ids;
pub mod jindofs;
mod json;
pub mod linux_auditd;
pub mod lustre_changelog;
pub mod minio;
mod object;
pub mod oss_access;
pub mod ozone;
pub mod path;
pub mod records;
pub mod s3_access;
pub mod s3_event;
pub mod samba_full_audit;
mod sink;
mod syscalls;
mod time;
mod url;

pub use change::{Change, Entry, Op};
pub use dialect::Dialect;
pub use error::{ParseError, ParseErrorKind};
pub use path::{PathError, RelPath};
