//! Servers that tests run stores against. Each test binary uses some of them.
#![allow(dead_code, reason = "no test binary uses all")]

pub mod buckets;
pub mod copied;
pub mod dice;
pub mod faults;
pub mod hdfs;
pub mod live;
pub mod minio;
pub mod parts;
pub mod proxy;
pub mod s3s;
pub mod soak;
pub mod walk;
