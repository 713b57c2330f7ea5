//! What a run did: counters whose names end in their unit, and one event for each path that it touched.

use crate::names::Line;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncd_parsers::{Op, RelPath};

/// Counters of one run, added to by many tasks.
#[derive(Debug, Default)]
pub struct Tally {
    pub settled_paths: AtomicU64,
    pub copied_files: AtomicU64,
    pub copied_bytes: AtomicU64,
    pub created_files: AtomicU64,
    pub left_paths: AtomicU64,
    pub compared_files: AtomicU64,
    pub compared_bytes: AtomicU64,
    pub by_size_and_time_files: AtomicU64,
    pub made_dirs: AtomicU64,
    pub made_links: AtomicU64,
    pub attrs_paths: AtomicU64,
    pub moved_paths: AtomicU64,
    pub removed_files: AtomicU64,
    pub removed_dirs: AtomicU64,
    pub differing_paths: AtomicU64,
    pub retried_calls: AtomicU64,
    pub owed_paths: AtomicU64,
    pub watched_files: AtomicU64,
}

/// Adds to one counter.
pub fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

macro_rules! report {
    ($($(#[$doc:meta])* $field:ident),+ $(,)?) => {
        /// The counters of one finished run.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Report { $($(#[$doc])* pub $field: u64),+ }

        impl Tally {
            #[must_use]
            pub fn report(&self) -> Report {
                Report { $($field: self.$field.load(Ordering::Relaxed)),+ }
            }
        }

        impl std::ops::AddAssign for Report {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

report! {
    /// Paths that were compared with the source.
    settled_paths,
    copied_files,
    copied_bytes,
    /// Files copied to where the destination had none.
    created_files,
    /// Paths that only the destination has, and an import leaves alone.
    left_paths,
    /// Files whose bytes were read on both sides, since size and time were no evidence.
    compared_files,
    compared_bytes,
    /// Files taken for equal by size and time.
    by_size_and_time_files,
    made_dirs,
    made_links,
    /// Paths whose mode, owner or times were set without touching content.
    attrs_paths,
    /// Files and directories renamed at the destination instead of copied.
    moved_paths,
    removed_files,
    removed_dirs,
    /// Paths found different by a run that only looks.
    differing_paths,
    /// Operations made again after a passing fault.
    retried_calls,
    owed_paths,
    /// Files that will be looked at again without a line: still open, or changed a moment ago.
    watched_files,
}

/// What was done at a path, or (in a run that only looks) what would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "did")]
pub enum Did {
    Move { from: RelPath },
    Copy { bytes: u64 },
    Compare { bytes: u64 },
    SetAttrs,
    MakeDir,
    MakeLink,
    Remove,
    Owe { reason: String },
    Watch { reason: String },
}

/// One path that a run touched, and the log line that led to it.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    pub path: &'a RelPath,
    pub did: Did,
    /// `None` where no line did: an import, a verification, a path owed or watched from before.
    pub why: Option<&'a Line>,
}

#[derive(Serialize)]
struct EventJson<'a> {
    path: &'a RelPath,
    #[serde(flatten)]
    did: &'a Did,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<LineJson<'a>>,
}

#[derive(Serialize)]
struct LineJson<'a> {
    log: &'a str,
    offset: u64,
    time: String,
    op: Op,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl Event<'_> {
    /// One JSON object, without a newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let because = self.why.map(|line| LineJson {
            log: &line.log,
            offset: line.offset,
            time: line.time.to_rfc3339_opts(SecondsFormat::Millis, true),
            op: line.op,
            user: line.user.as_deref(),
        });
        let json = EventJson { path: self.path, did: &self.did, because };
        serde_json::to_string(&json).expect("paths, words and numbers are always JSON")
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path;
        match &self.did {
            Did::Move { from } => write!(f, "move    {path}  (from {from})"),
            Did::Copy { bytes } => write!(f, "copy    {path}  ({bytes} bytes)"),
            Did::Compare { bytes } => write!(f, "compare {path}  ({bytes} bytes, the same)"),
            Did::SetAttrs => write!(f, "attrs   {path}"),
            Did::MakeDir => write!(f, "mkdir   {path}"),
            Did::MakeLink => write!(f, "link    {path}"),
            Did::Remove => write!(f, "remove  {path}"),
            Did::Owe { reason } => write!(f, "owe     {path}  ({reason})"),
            Did::Watch { reason } => write!(f, "watch   {path}  ({reason})"),
        }?;
        match self.why {
            Some(line) => write!(f, "  <- {line}"),
            None => Ok(()),
        }
    }
}

/// `rename by etl at 10:02:11.345Z, hdfs-audit.log:88213`.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Write => "write",
            Op::Mkdir => "mkdir",
            Op::Rename => "rename",
            Op::Delete => "delete",
            Op::Attr => "attr",
            Op::Rescan => "rescan",
        };
        write!(f, "{op}")?;
        if let Some(user) = &self.user {
            write!(f, " by {}", user.escape_debug())?;
        }
        let time = self.time.to_rfc3339_opts(SecondsFormat::Millis, true);
        write!(f, " at {time}, {}:{}", self.log.escape_debug(), self.offset)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.settled_paths, "paths settled"),
            (self.moved_paths, "moved"),
            (self.copied_files, "files copied"),
            (self.compared_files, "compared byte by byte"),
            (self.made_dirs, "directories made"),
            (self.made_links, "links made"),
            (self.attrs_paths, "attributes set"),
            (self.removed_files, "files removed"),
            (self.removed_dirs, "directories removed"),
            (self.left_paths, "paths that only the destination has left alone"),
            (self.differing_paths, "differences"),
            (self.retried_calls, "tries repeated"),
            (self.watched_files, "watched"),
            (self.owed_paths, "owed"),
        ];
        let said: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if said.is_empty() {
            return f.write_str("nothing to do");
        }
        write!(f, "{}", said.join(", "))?;
        if self.copied_bytes > 0 { write!(f, " ({})", bytes(self.copied_bytes)) } else { Ok(()) }
    }
}

/// Bytes for people: `1.5 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A duration for people, to the millisecond below a minute and the second above.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let whole = if duration.as_secs() < 60 {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(whole).to_string()
}

/// A time for people and machines, to the second where there is nothing below it.
#[must_use]
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
