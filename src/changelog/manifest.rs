//! What a window says of itself, and how its files are called.

use crate::tail::{self, Consumed, Fingerprint, Position};
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use syncd_parsers::Op;
use syncd_parsers::spans::Spans;

/// The form of the manifests that this program writes and reads.
pub const VERSION: u32 = 1;

const NAME_TIME: &str = "%Y%m%dT%H%M%S%.6fZ";

/// One window of the change log. Holds nothing that depends on when or where it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// From 1 on, without holes.
    pub seq: u64,
    #[serde(with = "micros")]
    pub from: DateTime<Utc>,
    /// The low-watermark: every change before it has its line in this window or an earlier one.
    #[serde(with = "micros")]
    pub to: DateTime<Utc>,
    pub dialect: String,
    pub time_zone: String,
    pub audit_root: String,
    /// Changes by operation.
    pub counts: BTreeMap<Op, u64>,
    /// Lines read, of any kind.
    pub lines: u64,
    /// Of these, set aside as not of the dialect.
    pub bad: u64,
    /// Records that change nothing: reads, refusals.
    pub ignored: u64,
    /// Changes older than the time that reading began with.
    pub early: u64,
    /// Changes elsewhere than below the audit root.
    pub outside: u64,
    /// Changes of paths that no store can hold, set aside.
    pub odd: u64,
    /// Records that were delivered more than once; they count once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub doubles: u64,
    #[serde(with = "micros::option")]
    pub first_record: Option<DateTime<Utc>>,
    #[serde(with = "micros::option")]
    pub last_record: Option<DateTime<Utc>>,
    /// When there were records, of any kind and in any of the logs.
    #[serde(default, skip_serializing_if = "Spans::is_empty")]
    pub spans: Spans<DateTime<Utc>>,
    /// Why lines may be missing, or times wrong, without anybody knowing: one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// What was read of the audit logs, in the order of reading.
    pub logs: Vec<LogRange>,
    /// Where reading goes on, by name of the log.
    pub positions: Vec<Position>,
    /// Of logs that come as whole objects, those that were read.
    #[serde(default, skip_serializing_if = "Consumed::is_empty")]
    pub consumed: Consumed,
    /// Records may still come that are older than the newest by so much: `to` is so much earlier.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lateness_seconds: u64,
    /// Lines that are lost, and were known to be when the window was made.
    pub gaps: Vec<Gap>,
    /// The data begins with a `rescan` of the audit root, since lines are lost.
    pub rescan_all: bool,
    pub data: Data,
    /// The file with the records that were set aside, if there are any; it may hold fewer than there were.
    pub bad_file: Option<String>,
    /// The SHA-256 of the manifest before this one, as it is stored; `None` for the first.
    pub previous: Option<String>,
}

/// A range of bytes of an audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    pub log: String,
    pub fingerprint: Fingerprint,
    /// Half-open, in uncompressed bytes.
    pub from: u64,
    pub to: u64,
}

/// The file with the changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    pub name: String,
    pub sha256: String,
    pub bytes: u64,
    pub changes: u64,
}

/// Lines that nobody will read any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where one log ends too early; neither, if time itself is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    pub reason: String,
}

/// What a window's files are called, but for their endings: `00000001-20220601T120000.000000Z-20220601T130000.000000Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowName {
    pub seq: u64,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

impl Manifest {
    #[must_use]
    pub fn name(&self) -> WindowName {
        WindowName { seq: self.seq, from: self.from, to: self.to }
    }
}

impl WindowName {
    const MANIFEST: &str = ".manifest.json";

    /// The window whose manifest a file is, going by its name.
    #[must_use]
    pub fn of_manifest(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(Self::MANIFEST)?.splitn(3, '-');
        let seq = parts.next()?.parse().ok()?;
        let mut time = || Some(NaiveDateTime::parse_from_str(parts.next()?, "%Y%m%dT%H%M%S%.fZ").ok()?.and_utc());
        let (from, to) = (time()?, time()?);
        let name = Self { seq, from, to };
        (name.to_string() + Self::MANIFEST == file).then_some(name)
    }

    pub(super) fn manifest(&self) -> String {
        format!("{self}{}", Self::MANIFEST)
    }

    pub(super) fn data(&self) -> String {
        format!("{self}.changes.jsonl.zst")
    }

    pub(super) fn bad(&self) -> String {
        format!("{self}.bad.jsonl")
    }
}

impl fmt::Display for WindowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{}-{}", self.seq, self.from.format(NAME_TIME), self.to.format(NAME_TIME))
    }
}

impl From<tail::Gap> for Gap {
    fn from(gap: tail::Gap) -> Self {
        Self { log: Some(gap.log), offset: Some(gap.from), reason: gap.reason }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(log), Some(offset)) = (&self.log, self.offset) {
            write!(f, "{log} after byte {offset}: ")?;
        }
        f.write_str(&self.reason)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A time as manifests and messages write it: UTC, microseconds.
pub fn spelled(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

mod micros {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::spelled(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        DateTime::deserialize(deserializer)
    }

    pub mod option {
        use super::{DateTime, Deserialize, Deserializer, Serializer, Utc};

        pub fn serialize<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_known_by_the_name_of_its_manifest() {
        let name = WindowName {
            seq: 7,
            from: "2022-06-01T12:00:00Z".parse().expect("a time"),
            to: "2022-06-01T13:00:00.25Z".parse().expect("a time"),
        };
        let text = "00000007-20220601T120000.000000Z-20220601T130000.250000Z";
        assert_eq!(name.to_string(), text);
        assert_eq!(WindowName::of_manifest(&format!("{text}.manifest.json")), Some(name));
    }

    #[test]
    fn other_files_are_no_manifests() {
        let text = "00000007-20220601T120000.000000Z-20220601T130000.250000Z";
        for other in [text, &format!("{text}.changes.jsonl.zst"), "7-x-y.manifest.json", "x.manifest.json"] {
            assert_eq!(WindowName::of_manifest(other), None, "{other}");
        }
        let loose = "7-20220601T120000Z-20220601T130000Z.manifest.json";
        assert_eq!(WindowName::of_manifest(loose), None, "one window has one name");
    }
}
