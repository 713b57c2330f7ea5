//! The page that tells how things stand, and the one sentence that sums it up. Reads, never decides.

use crate::changelog::Applied;
use crate::checkpoint::{Key, STATUS_FILE, State, StateError};
use crate::job::{Import, Pair, Verified};
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
    /// True if nothing is owed, the import is complete and the last run did not fail.
    pub healthy: bool,
    pub source: Option<String>,
    pub destination: Option<String>,
    pub import: Option<Import>,
    /// The last window applied; its `to` is the checkpoint.
    pub applied: Option<Applied>,
    /// From when on the log has been followed without a gap.
    pub log_since: Option<DateTime<Utc>>,
    pub verified: Option<Verified>,
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
        let mut page = Self {
            sentence: String::new(),
            healthy: false,
            source: pair.as_ref().map(|pair| pair.source.clone()),
            destination: pair.map(|pair| pair.destination),
            import: state.get(Key::Import)?,
            applied: state.get(Key::Applied)?,
            log_since: state.get(Key::LogSince)?,
            verified: state.get(Key::Verified)?,
            owed: owed.collect::<Result<_, _>>()?,
            owed_paths: state.owed().count() as u64,
            watched_files: state.watched().count() as u64,
            destination_files: state.get(Key::Files)?,
            cannot_tell: Vec::new(),
            last_run,
        };
        let blind = page.applied.as_ref().map_or(&[][..], Applied::cannot_tell);
        page.cannot_tell = blind.iter().map(|&sentence| sentence.to_owned()).collect();
        let failed = page.last_run.as_ref().is_some_and(|run| run.error.is_some());
        page.healthy = page.owed_paths == 0 && page.as_of().is_some() && !failed;
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
        match &self.verified {
            Some(verified) => sentence += &format!("; last full verification {}", verified.words()),
            None => sentence += "; never fully verified",
        }
        sentence
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
