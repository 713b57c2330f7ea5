//! Log files to blocks of lines, each line once: rotation, truncation, half-written lines, compression.
//! Knows no format; which lines belong together is its caller's to say.
//!
//! A file is known by its first bytes, not by its name: `audit.log` that became `audit.log.1` and then
//! `audit.log.1.gz` is one file, read on from where reading it ended. Offsets count uncompressed bytes.

mod objects;
mod open;
mod read;
mod survey;

pub use objects::{Consumed, late_objects, objects};
pub use read::{Block, Follows, Reader, Step};
pub use survey::{Beginning, Head, LogFile, Seen, Survey, beginnings, survey};

use crate::store::{ErrorKind, Store, StoreError};
use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;

/// How much of a file's beginning makes its fingerprint, at most.
pub const HEAD_BYTES: usize = 1024;

/// How much of a file is read at a time: enough that the cores seldom wait for each other at the end of a block.
pub const BLOCK_BYTES: usize = 16 << 20;

/// What the first bytes of a file are, up to the end of a line. It holds as long as the file only grows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Bytes from the beginning of the uncompressed file.
    pub len: u64,
    pub sha256: String,
}

/// How far a log file is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file's name in the log directory when it was last read.
    pub log: String,
    pub fingerprint: Fingerprint,
    /// Everything before it was read.
    pub offset: u64,
    /// How many of the bytes before `offset` what follows may still give another meaning: they are read
    /// again together with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open: u64,
    /// Read to its end when a younger file was there: nothing is missed when it is removed.
    pub closed: bool,
}

/// Lines that nobody will read any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub log: String,
    /// Everything before this offset was read.
    pub from: u64,
    pub reason: String,
}

/// Why the log directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("reading the audit logs")]
    Store(#[from] StoreError),
    #[error("{log}: damaged compressed data, after byte {offset} of the uncompressed log")]
    Damaged {
        log: String,
        offset: u64,
        #[source]
        cause: io::Error,
    },
}

/// Where every log file ends now: reading goes on from there, and everything before is left out. All files but the
/// one that was written last count as closed.
///
/// # Errors
///
/// The directory or a file in it cannot be read.
pub async fn positions(logs: &dyn Store) -> Result<Vec<Position>, TailError> {
    let survey = survey(logs, &[], &Seen::default(), &|_| true, &undated).await?;
    let newest = survey.newest().map(|file| file.path.clone());
    let mut positions = Vec::new();
    for file in &survey.files {
        let Some(offset) = read::last_line_end(logs, file).await? else { continue };
        let closed = newest.as_ref() != Some(&file.path);
        let (log, fingerprint) = (file.name.clone(), file.fingerprint.clone());
        positions.push(Position { log, fingerprint, offset, open: 0, closed });
    }
    Ok(positions)
}

impl Fingerprint {
    /// Of a file that begins with `head`: of at most [`HEAD_BYTES`] of it, up to the last newline
    /// there. `None` if it has no whole line yet.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(HEAD_BYTES)];
        match head.iter().rposition(|b| *b == b'\n') {
            Some(newline) => Some(Self::exact(&head[..=newline])),
            None if head.len() == HEAD_BYTES => Some(Self::exact(head)),
            None => None,
        }
    }

    /// The same, of the first line alone.
    fn of_first_line(head: &[u8]) -> Option<Self> {
        let line = head.iter().take(HEAD_BYTES).position(|b| *b == b'\n');
        line.map_or_else(|| Self::of(head), |newline| Some(Self::exact(&head[..=newline])))
    }

    /// True if a file that begins with `head` may be this one, grown.
    #[must_use]
    pub fn fits(&self, head: &[u8]) -> bool {
        usize::try_from(self.len).ok().and_then(|len| head.get(..len)).is_some_and(|start| sha256(start) == self.sha256)
    }

    fn exact(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// The SHA-256 of `bytes` in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn undated(_head: &Head) -> Option<NaiveDateTime> {
    None
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a look-up or a read says of a file that was renamed or removed since it was listed.
fn gone<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Changed) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_ends_with_a_line_within_the_first_kibibyte() {
        let long = "x".repeat(700) + "\n" + &"y".repeat(700) + "\n";
        for (head, len) in [("a\nb\nc", Some(4)), ("a", None), ("", None), ("\n", Some(1)), (long.as_str(), Some(701))]
        {
            assert_eq!(Fingerprint::of(head.as_bytes()).map(|of| of.len), len, "{head:.10}");
        }
    }

    #[test]
    fn a_first_line_longer_than_a_kibibyte_is_known_by_its_beginning() {
        assert_eq!(Fingerprint::of(&[b'x'; 2000]).map(|of| of.len), Some(1024));
        assert_eq!(Fingerprint::of(&[b'x'; 1023]), None);
    }

    #[test]
    fn a_file_keeps_its_fingerprint_as_long_as_it_only_grows() {
        let young = Fingerprint::of(b"a\nb").expect("a line");
        assert!(young.fits(b"a\n"));
        assert!(young.fits(b"a\nbc\nd\n"));
        assert!(!young.fits(b"a"));
        assert!(!young.fits(b"b\nb\n"));
    }
}
