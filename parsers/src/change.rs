//! The normalised record: what a line says (`Entry`, in the words of its own log) and what it means
//! for a tree (`Change`, relative to one root and in UTC), with the JSON-lines form of the change log.

use crate::path::RelPath;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a change did, in the words of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Created, overwritten, appended to, truncated, concatenated.
    Write,
    Mkdir,
    /// Has a second path, where it went.
    Rename,
    Delete,
    /// Owner, mode, times, ACLs: everything but content.
    Attr,
    /// Something changed at or below the path; the log does not say what.
    Rescan,
}

/// One change as a dialect found it: paths as the log spells them after unescaping (absolute, raw
/// bytes), time in the log's own zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of the log's clock; the zone is the reader's to know.
    pub time: NaiveDateTime,
    pub op: Op,
    pub path: Vec<u8>,
    /// Only for a rename.
    pub to: Option<Vec<u8>>,
    /// For a rename: `to` may be a directory that the source went into.
    pub into: bool,
    /// Who asked, where the log says so.
    pub user: Option<String>,
}

/// One change below one root: a line of the change log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// UTC, microseconds.
    #[serde(with = "micros")]
    pub time: DateTime<Utc>,
    pub op: Op,
    pub path: RelPath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RelPath>,
    /// For a rename: `to` may be a directory that the source went into.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub into: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The log file that the line stands in, by its name in the log directory when it was read.
    pub log: String,
    /// Where the line begins, in bytes of the uncompressed log.
    pub offset: u64,
}

mod micros {
    use crate::time;
    use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        deserializer.deserialize_str(TimeVisitor)
    }

    struct TimeVisitor;

    impl Visitor<'_> for TimeVisitor {
        type Value = DateTime<Utc>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time as in RFC 3339")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<DateTime<Utc>, E> {
            let plain = time::rfc3339(text.as_bytes()).map(|time| time.and_utc());
            let other = || DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(E::custom);
            Ok(plain.map_or_else(other, Ok)?.trunc_subsecs(6))
        }
    }
}
