//! The page that tells how things stand, and the one sentence that sums it up. Reads, never decides.

use crate::changelog::Applied;
use crate::checkpoint::{Key, STATUS_FILE, State, StateError};
use crate::job::{FullLook, Import, Pair, Verified};
use crate::losses::{Findings, Ledger};
use crate::report::{Report, duration, time};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use syncd_parsers::RelPath;

/// A log that may be as late is one that people should know of.
const LATENESS_SAID: Duration = Duration::from_secs(60);

/// How many owed paths the page names; it always counts all.
const OWED_SHOWN_MAX: usize = 1000;

/// Everything that `syncd status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    pub sentence: String,
    /// True if nothing is owed, the import is complete, no line seems to be missing and the last run did not fail.
    pub healthy: bool,
    pub source: Option<String>,
    pub destination: Option<String>,
    pub import: Option<Import>,
    /// The last window applied; its `to` is the checkpoint.
    pub applied: Option<Applied>,
    /// From when on the log has been followed without a gap.
    pub log_since: Option<DateTime<Utc>>,
    pub verified: Option<Verified>,
    #[serde(default)]
    pub log: Log,
    pub owed_paths: u64,
    pub watched_files: u64,
    /// About; `None` before an import.
    pub destination_files: Option<u64>,
    pub owed: Vec<OwedPath>,
    /// What may change at the source without a line in its log: a sentence each. Only a verification finds it.
    #[serde(default)]
    pub cannot_tell: Vec<String>,
    pub last_run: Option<LastRun>,
}

/// What is known of lines that were lost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Log {
    /// Why lines may be missing; the first ones.
    pub doubts: Vec<String>,
    pub doubts_count: u64,
    /// Paths at which the last verification found a difference that no line has named so far.
    pub unexplained_paths: u64,
    /// Of these, how many were not mended.
    pub differing_paths: u64,
    /// All that were ever found to have changed without a line.
    pub lost_paths: u64,
    /// Changes that had one, up to the last verification, and in all.
    pub measured_changes: u64,
    pub changes: u64,
    /// The share of what changed that had a line, between 0 and 1; `None` before the first verification.
    pub completeness: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwedPath {
    pub path: RelPath,
    pub reason: String,
    pub since: DateTime<Utc>,
}

/// How the last run ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastRun {
    pub at: DateTime<Utc>,
    pub report: Report,
    pub error: Option<String>,
}

impl Page {
    /// The page as the state directory has it now.
    ///
    /// # Errors
    ///
    /// The state cannot be read.
    pub fn of(state: &State, last_run: Option<LastRun>) -> Result<Self, StateError> {
        let pair: Option<Pair> = state.get(Key::Pair)?;
        let owed = state.owed().take(OWED_SHOWN_MAX);
        let owed = owed.map(|item| item.map(|(path, owed)| OwedPath { path, reason: owed.reason, since: owed.since }));
        let full: FullLook = state.get(Key::FullLook)?.unwrap_or_default();
        let full = full.due.map(|due| OwedPath { path: RelPath::root(), reason: due.reason, since: due.since });
        let owed_paths = u64::from(full.is_some()) + state.owed().count() as u64;
        let mut page = Self {
            sentence: String::new(),
            healthy: false,
            source: pair.as_ref().map(|pair| pair.source.clone()),
            destination: pair.map(|pair| pair.destination),
            import: state.get(Key::Import)?,
            applied: state.get(Key::Applied)?,
            log_since: state.get(Key::LogSince)?,
            verified: state.get(Key::Verified)?,
            log: Log::of(state)?,
            owed: full.into_iter().map(Ok).chain(owed).collect::<Result<_, StateError>>()?,
            owed_paths,
            watched_files: state.watched().count() as u64,
            destination_files: state.get(Key::Files)?,
            cannot_tell: Vec::new(),
            last_run,
        };
        let blind = page.applied.as_ref().map_or(&[][..], Applied::cannot_tell);
        page.cannot_tell = blind.iter().map(|&sentence| sentence.to_owned()).collect();
        let failed = page.last_run.as_ref().is_some_and(|run| run.error.is_some());
        page.healthy = page.is_certain() && page.as_of().is_some() && !failed;
        page.sentence = page.say();
        Ok(page)
    }

    /// The page as it was written last, by whatever process holds the directory.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(dir.join(STATUS_FILE))?)?)
    }

    /// Nothing is owed, and nothing speaks for lines that are missing.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.owed_paths == 0 && self.log.doubts_count == 0 && self.log.differing_paths == 0
    }

    /// Up to when the destination is known to equal the source.
    fn as_of(&self) -> Option<DateTime<Utc>> {
        let import = self.import.as_ref().filter(|import| import.finished.is_some())?;
        Some(self.applied.as_ref().map_or(import.started, |applied| applied.to))
    }

    /// What could still come of the time before that is known.
    fn awaited(&self) -> Option<String> {
        let late = Duration::from_secs(self.applied.as_ref()?.lateness_seconds);
        (late >= LATENESS_SAID).then(|| {
            let late = duration(late);
            format!("; its log may be {late} late, and what it says of later times is applied already")
        })
    }

    fn say(&self) -> String {
        let Some(as_of) = self.as_of() else {
            return "the import has not finished: the destination is not yet a copy of the source".to_owned();
        };
        let mut sentence = format!("destination equals source as of {}", time(as_of));
        sentence += &match (self.owed_paths, self.watched_files) {
            (0, 0) => String::new(),
            (0, watched) => format!(", except {} still being written or just changed", count(watched, "file")),
            (owed, 0) => format!(", except {}", count(owed, "owed path")),
            (owed, watched) => format!(
                ", except {} and {} still being written or just changed",
                count(owed, "owed path"),
                count(watched, "file")
            ),
        };
        sentence += &self.awaited().unwrap_or_default();
        match self.log_since {
            Some(since) => sentence += &format!("; the log had no gap since {}", time(since)),
            None => sentence += "; no log has been applied yet",
        }
        sentence += &self.log.doubt_words();
        match &self.verified {
            Some(verified) => sentence += &format!("; last full verification {}", verified.words()),
            None => sentence += "; never fully verified",
        }
        sentence + &self.log.loss_words()
    }
}

impl Log {
    fn of(state: &State) -> Result<Self, StateError> {
        let ledger: Ledger = state.get(Key::Ledger)?.unwrap_or_default();
        let findings: Findings = state.get(Key::Findings)?.unwrap_or_default();
        Ok(Self {
            doubts: ledger.doubts.iter().map(|doubt| doubt.what.clone()).collect(),
            doubts_count: ledger.doubts.len() as u64 + ledger.more_doubts,
            unexplained_paths: findings.unexplained(),
            differing_paths: findings.differing(),
            lost_paths: ledger.lost_paths,
            measured_changes: ledger.measured_changes.unwrap_or_default(),
            changes: ledger.changes,
            completeness: ledger.completeness(),
        })
    }

    fn doubt_words(&self) -> String {
        let Some(first) = self.doubts.first() else { return String::new() };
        let more = match self.doubts_count - 1 {
            0 => String::new(),
            more => format!(" (and {})", count(more, "more reason")),
        };
        format!(", but lines may be missing: {first}{more}")
    }

    fn loss_words(&self) -> String {
        let mut words = match (self.unexplained_paths, self.differing_paths) {
            (0, _) => String::new(),
            (found, 0) => format!(", which mended {} that no line had named so far", count(found, "path")),
            (found, _) => format!(", {found} of them named by no line so far"),
        };
        if self.lost_paths > 0 {
            let percent = (self.completeness.unwrap_or(0.0) * 10_000.0).floor() / 100.0;
            words += &format!(
                "; {} changed without a line: the log is {percent:.2} % complete",
                count(self.lost_paths, "path")
            );
        }
        words
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
