//! What syncd remembers between runs, in one directory that one process holds at a time. The only module that names
//! sled. It does not know what the values under its keys mean.

use crate::apply::Watch;
use crate::names::Line;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncd_parsers::RelPath;

/// The layout of what is stored. A directory of another version is refused.
const VERSION: u32 = 1;
/// The page that `syncd status` reads, also while another process holds the directory.
pub const STATUS_FILE: &str = "status.json";

/// The single values that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Version,
    /// Which source and destination this directory belongs to.
    Pair,
    Import,
    /// The last window that was applied.
    Applied,
    /// Set while a run is under way.
    Running,
    Verified,
    /// How many files the destination holds, about.
    Files,
    /// What is known of the log files that were read.
    Seen,
    /// From when on the log has been followed without a gap.
    LogSince,
    /// The last renames that were read, and the last paths that were removed.
    Lately,
    /// What is known of lines that were lost.
    Ledger,
    /// What a verification found that nobody explained yet.
    Findings,
    /// When a line last made a run look at everything, and whether one asks for it again.
    FullLook,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Pair => "pair",
            Self::Import => "import",
            Self::Applied => "applied",
            Self::Running => "running",
            Self::Verified => "verified",
            Self::Files => "files",
            Self::Seen => "seen",
            Self::LogSince => "log_since",
            Self::Lately => "lately",
            Self::Ledger => "ledger",
            Self::Findings => "findings",
            Self::FullLook => "full_look",
        }
    }
}

/// A path that could not be settled, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub reason: String,
    pub since: DateTime<Utc>,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
}

/// A file that is looked at again without a line, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub reason: Watch,
    pub since: DateTime<Utc>,
    /// When it was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<DateTime<Utc>>,
}

/// The state directory, held by this process until dropped.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    db: sled::Db,
    owed: sled::Tree,
    watched: sled::Tree,
    _held: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory {dir} is in use by process {pid}; end that process, or use another directory")]
    InUse { dir: PathBuf, pid: String },
    #[error("the state directory {dir} was written by version {found} of its layout, this program reads {VERSION}")]
    OtherVersion { dir: PathBuf, found: u32 },
    #[error("state directory {dir}: {what}")]
    Io {
        dir: PathBuf,
        what: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error("the state database")]
    Db(#[from] sled::Error),
    #[error("the state database holds something unreadable under {key:?}")]
    Value {
        key: String,
        #[source]
        cause: serde_json::Error,
    },
}

impl StateError {
    /// True if the directory is not ours to use, and a person has to decide.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::OtherVersion { .. })
    }
}

impl State {
    /// Opens the directory, and makes it if need be.
    ///
    /// # Errors
    ///
    /// Another process holds it, it is of another version, or it cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let io = |what| move |cause| StateError::Io { dir: dir.to_owned(), what, cause };
        fs::create_dir_all(dir).map_err(io("it could not be made"))?;
        let held = hold(dir).map_err(io("its lock could not be taken"))?;
        let held = held.map_err(|pid| StateError::InUse { dir: dir.to_owned(), pid })?;
        let db = open_db(&dir.join("db"))?;
        let (owed, watched) = (db.open_tree("owed")?, db.open_tree("watched")?);
        let state = Self { dir: dir.to_owned(), db, owed, watched, _held: held };
        match state.get::<u32>(Key::Version)? {
            Some(VERSION) => {}
            Some(found) => return Err(StateError::OtherVersion { dir: dir.to_owned(), found }),
            None => state.commit(&[set(Key::Version, &VERSION)])?,
        }
        Ok(state)
    }

    /// The value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or what it holds is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, StateError> {
        self.db.get(key.name())?.map(|value| decode(key.name(), &value)).transpose()
    }

    /// Sets and removes all or none; durable once it returns.
    ///
    /// # Errors
    ///
    /// The database cannot be written. Then nothing is known about what a later start will find: old or new.
    pub fn commit(&self, changes: &[Set]) -> Result<(), StateError> {
        let mut batch = sled::Batch::default();
        for Set(key, value) in changes {
            match value {
                Some(value) => batch.insert(key.name(), value.as_slice()),
                None => batch.remove(key.name()),
            }
        }
        self.owed.flush()?;
        self.watched.flush()?;
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }

    /// Notes a path as owed; what it was owed for before is replaced, the time since when is kept.
    /// Durable with the next commit.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn owe(&self, path: &RelPath, mut owed: Owed) -> Result<(), StateError> {
        if let Some(before) = self.owed.get(path.as_bytes())? {
            owed.since = decode::<Owed>("owed", &before)?.since;
        }
        self.owed.insert(path.as_bytes(), encode(&owed))?;
        Ok(())
    }

    /// Puts a file on the watch list; returns since when it is there. Durable with the next commit.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn watch(&self, path: &RelPath, mut watched: Watched) -> Result<DateTime<Utc>, StateError> {
        if let Some(before) = self.watched.get(path.as_bytes())? {
            watched.since = decode::<Watched>("watched", &before)?.since;
        }
        self.watched.insert(path.as_bytes(), encode(&watched))?;
        Ok(watched.since)
    }

    /// Takes a path off the owed ones. Durable with the next commit.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn not_owed(&self, path: &RelPath) -> Result<(), StateError> {
        Ok(self.owed.remove(path.as_bytes()).map(drop)?)
    }

    /// Takes a file off the watched ones. Durable with the next commit.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn not_watched(&self, path: &RelPath) -> Result<(), StateError> {
        Ok(self.watched.remove(path.as_bytes()).map(drop)?)
    }

    /// All owed paths, in the order of their bytes.
    pub fn owed(&self) -> impl Iterator<Item = Result<(RelPath, Owed), StateError>> {
        self.owed.iter().map(|item| entry("owed", item))
    }

    /// All watched files, in the order of their bytes.
    pub fn watched(&self) -> impl Iterator<Item = Result<(RelPath, Watched), StateError>> {
        self.watched.iter().map(|item| entry("watched", item))
    }

    /// Replaces the page that `syncd status` reads.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn write_status(&self, page: &impl Serialize) -> Result<(), StateError> {
        let io = |cause| StateError::Io { dir: self.dir.clone(), what: "the status page could not be written", cause };
        let aside = self.dir.join("status.json.new");
        fs::write(&aside, serde_json::to_vec_pretty(page).expect("a status page is plain data")).map_err(io)?;
        fs::rename(&aside, self.dir.join(STATUS_FILE)).map_err(io)
    }
}

/// A key with its new value, or with none.
pub struct Set(Key, Option<Vec<u8>>);

/// Sets a key.
pub fn set(key: Key, value: &impl Serialize) -> Set {
    Set(key, Some(encode(value)))
}

/// Removes a key.
#[must_use]
pub fn unset(key: Key) -> Set {
    Set(key, None)
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what is kept is plain data")
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|cause| StateError::Value { key: key.to_owned(), cause })
}

fn entry<T: DeserializeOwned>(
    key: &str,
    item: sled::Result<(sled::IVec, sled::IVec)>,
) -> Result<(RelPath, T), StateError> {
    let (path, value) = item?;
    let path = RelPath::new(&*path)
        .map_err(|error| StateError::Value { key: key.to_owned(), cause: serde::de::Error::custom(error) })?;
    Ok((path, decode(key, &value)?))
}

/// sled lets go of its own lock only some time after it was dropped. Since we hold ours, nobody else can have it for long.
fn open_db(path: &Path) -> sled::Result<sled::Db> {
    const TRIES: usize = 100;
    let config = sled::Config::new().path(path).cache_capacity(16 << 20);
    let is_locked = |error: &sled::Error| matches!(error, sled::Error::Io(io) if io.to_string().contains("lock"));
    for _ in 1..TRIES {
        match config.open() {
            Err(error) if is_locked(&error) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
    config.open()
}

/// Takes the lock and writes our pid into it; the other's pid if it is taken.
fn hold(dir: &Path) -> std::io::Result<Result<File, String>> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("lock"))?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        return Ok(Err(pid.trim().to_owned()));
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect(text)
    }

    fn owed(reason: &str, seconds: i64) -> Owed {
        let since = DateTime::from_timestamp(seconds, 0).expect("a small number");
        Owed { reason: reason.into(), since, tried: None, line: None }
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(dir.path()).expect("opens");
        state.owe(&path("a"), owed("first", 1)).expect("notes");
        state.owe(&path("a"), owed("second", 2)).expect("notes");
        state.commit(&[set(Key::Files, &7), set(Key::Running, &true)]).expect("commits");
        state.commit(&[unset(Key::Running)]).expect("commits");
        drop(state);
        let state = State::open(dir.path()).expect("opens again");
        assert_eq!(state.get::<u64>(Key::Files).expect("reads"), Some(7));
        assert_eq!(state.get::<bool>(Key::Running).expect("reads"), None);
        let all: Vec<_> = state.owed().map(|item| item.expect("reads")).collect();
        assert_eq!(all, [(path("a"), owed("second", 1))], "the newest reason, and since when");
    }

    #[test]
    fn a_second_process_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = State::open(dir.path()).expect("opens");
        let error = State::open(dir.path()).expect_err("is held").to_string();
        assert!(error.contains(&format!("process {};", std::process::id())), "{error}");
    }

    #[test]
    fn a_directory_of_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        State::open(dir.path()).expect("opens").commit(&[set(Key::Version, &99)]).expect("commits");
        let error = State::open(dir.path()).expect_err("is newer").to_string();
        assert!(error.contains("version 99"), "{error}");
    }
}
