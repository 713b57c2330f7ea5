//! The trait that every audit-log format implements, and the list of all of them.

use crate::azure_storage::AzureStorage;
use crate::ceph_rgw::CephRgw;
use crate::change::Entry;
use crate::cloudtrail::CloudTrail;
use crate::cos_access::CosAccess;
use crate::error::ParseError;
use crate::gcs_audit::GcsAudit;
use crate::gcs_usage::GcsUsage;
use crate::gluster_changelog::GlusterChangelog;
use crate::hdfs::{Hdfs, Names};
use crate::jindofs::JindoFs;
use crate::linux_auditd::LinuxAuditd;
use crate::lustre_changelog::LustreChangelog;
use crate::minio::MinIo;
use crate::oss_access::OssAccess;
use crate::ozone::Ozone;
use crate::s3_access::S3Access;
use crate::s3_event::S3Event;
use crate::samba_full_audit::{self, SambaFullAudit};
use chrono::{NaiveDateTime, TimeDelta};

/// How a log is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One record a line. A format that does not escape newlines may spread one over several lines;
    /// [`Dialect::begins`] tells where records may begin.
    Lines,
    /// JSON objects one after another, with any white space or none between them. An object whose first member is an
    /// array called `Records`, `records` or `Messages` is a wrapper: the elements of that array are the records.
    Objects,
    /// Lines with the same [`Dialect::event`] are one record: they are handed over together, in the order of the log,
    /// with the newlines between them. Lines of other events may stand between.
    Events,
    /// One file is one record.
    Files,
}

/// What the times of a log are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// UTC; so are times with an offset, which the dialect takes off.
    Utc,
    /// Of the server's zone, which the log does not name.
    Local,
    /// The same, and without a year: the dialect puts [`Clock::NO_YEAR`], and whoever knows when the file was written
    /// finds the right one.
    LocalWithoutYear,
    /// Records carry none: the name of their file does, in UTC, see [`Dialect::time_of_file`].
    OfFile,
}

impl Clock {
    /// What stands for the year where a log has none: one with a 29th of February.
    pub const NO_YEAR: i32 = 4;
}

/// In what order a log comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One writer appends, about in the order of time: a later record is not older by more than this.
    Appended(TimeDelta),
    /// Objects that are whole when they appear, each with records of any time: usually of no more than this before.
    /// Records may come twice.
    Objects(TimeDelta),
}

/// Turns ids into paths, as far as the log itself tells what they are called. Sees the entries of one log in order.
pub trait Resolve: Send {
    /// Appends what `entry`, as the dialect gave it, means: with paths, or as a rescan.
    fn resolve(&mut self, entry: Entry, out: &mut Vec<Entry>);
}

/// One audit-log format. Sees one *record* at a time, as [`crate::records`] puts it together.
pub trait Dialect: Send + Sync {
    /// The name used in configuration and under `testdata/logs/`, for example `hdfs`.
    fn name(&self) -> &'static str;

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn clock(&self) -> Clock {
        Clock::Local
    }

    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(1))
    }

    /// What may change without a record that says where, for people: one sentence each.
    fn cannot_tell(&self) -> &'static [&'static str] {
        &[]
    }

    /// True if a record may begin with this line. Where it is false the line can only go on with
    /// the record before it. With other framings than lines: true if this looks like a record.
    fn begins(&self, line: &[u8]) -> bool;

    /// For [`Framing::Lines`]: true of a line that only names the columns of those below it. It is neither a record nor bad.
    fn is_heading(&self, _line: &[u8]) -> bool {
        false
    }

    /// For [`Framing::Events`]: which event a line belongs to.
    fn event<'a>(&self, _line: &'a [u8]) -> Option<&'a [u8]> {
        None
    }

    /// The id that a record carries of its own, so that one that is delivered twice is known.
    fn id<'a>(&self, _record: &'a [u8]) -> Option<&'a [u8]> {
        None
    }

    /// For [`Clock::OfFile`]: the time that a file's name tells.
    fn time_of_file(&self, _name: &str) -> Option<NaiveDateTime> {
        None
    }

    /// `None` where paths need no resolving.
    fn resolver(&self) -> Option<Box<dyn Resolve>> {
        None
    }

    /// Appends the entries that one complete record gives: none if it records no change (a read, a
    /// refused request), several if one request touched several paths, or if what is written can be
    /// read in more than one way (then every reading is given, since a name only makes syncd look).
    ///
    /// Returns the time of the record.
    ///
    /// # Errors
    ///
    /// The record is not of this format, or more lines are needed to complete it (the error's kind
    /// tells). `out` is then as it was.
    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError>;

    /// Appends what can still be said of a line that begins a record and cannot be read to its end:
    /// rescans of the directories that its readable part names. None if it names none, or changes nothing.
    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>);
}

/// The stricter of two that read the same lines comes later.
static ALL: [&dyn Dialect; 17] = [
    &Hdfs { names: Names::Either },
    &JindoFs,
    &S3Access,
    &CloudTrail,
    &S3Event,
    &MinIo,
    &CephRgw,
    &OssAccess,
    &CosAccess,
    &GcsAudit,
    &GcsUsage,
    &AzureStorage,
    &Ozone,
    &SambaFullAudit { names: samba_full_audit::Names::Absolute },
    &LinuxAuditd,
    &GlusterChangelog,
    &LustreChangelog,
];

/// One spelling of a dialect, for those who know theirs: no name is then given in two readings.
static SPELLINGS: [&dyn Dialect; 3] = [
    &Hdfs { names: Names::Escaped },
    &Hdfs { names: Names::Raw },
    &SambaFullAudit { names: samba_full_audit::Names::Relative },
];

/// Every dialect there is.
#[must_use]
pub fn all() -> &'static [&'static dyn Dialect] {
    &ALL
}

/// The dialect with this name; `hdfs-escaped` and `hdfs-raw` are `hdfs` with its names in one spelling.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    ALL.into_iter().chain(SPELLINGS).find(|dialect| dialect.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_found_by_its_name() {
        for dialect in all() {
            assert_eq!(by_name(dialect.name()).map(Dialect::name), Some(dialect.name()));
        }
        assert!(by_name("s3").is_none());
    }
}
