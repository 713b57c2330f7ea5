//! The change log: audit logs of any dialect become windows `[from, to)` of normalised changes, each with a
//! manifest that says what was read, and that carries the digest of the manifest before it.
//! `docs/formats/change-log.md` describes the files. Knows no names to settle, and applies nothing.

mod lines;
mod make;
mod manifest;
mod memory;
mod read;
mod spool;

pub use make::{Begin, Made, MakeOptions, make};
pub use manifest::{Data, Gap, LogRange, Manifest, WindowName};
pub use read::{Applied, after, chain, changes, manifest};

use crate::store::StoreError;
use crate::tail::TailError;
use crate::zone::Zone;
use std::fmt;
use syncd_parsers::detect::{Known, Undetected};

/// Why there is no window, or no trust in one.
#[derive(Debug, thiserror::Error)]
pub enum ChangelogError {
    #[error("change log directory")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error("temporary file of the change log")]
    Spool(#[from] std::io::Error),
    #[error("no audit log in the log directory: it does not exist, is empty, or holds no file that looks like a log")]
    NoLogs,
    #[error("none of the {files} files in the log directory has a whole line yet")]
    NoLines { files: usize },
    #[error("{log} {why}; if that is an audit log, name its dialect with --dialect, else keep it elsewhere")]
    NoDialect { log: String, why: Undetected },
    #[error(
        "{one} is of the dialect {first}, {log} of {second}: keep them in directories of their own, or name one with --dialect"
    )]
    TwoDialects { one: String, first: &'static str, log: String, second: &'static str },
    #[error(
        "the windows before are of the dialect {name}, which is not known here: name another with --dialect; known are {}",
        Known
    )]
    OtherDialect { name: String },
    #[error(
        "logs of the dialect {dialect} carry their times in UTC: leave --log-timezone {given} out, or name another --dialect"
    )]
    ZoneOfUtc { dialect: &'static str, given: Zone },
    #[error("{log} is of the dialect {likely}, not {dialect}: name it with --dialect {likely}, or keep it elsewhere")]
    OtherLog { log: String, dialect: &'static str, likely: &'static str },
    #[error(transparent)]
    MostlyBad(Box<MostlyBad>),
    #[error(
        "audit log lines are missing: {}; what changed meanwhile nobody knows. With --accept-gap the gap is recorded and \
         everything below the audit root is looked at again", Listed(.0)
    )]
    Gap(Vec<Gap>),
    #[error(
        "the windows in this directory are of the audit root {chain}, not {given}: take another change log directory"
    )]
    OtherRoot { chain: String, given: String },
    #[error("the chain of windows is broken: {what}; {advice}")]
    BrokenChain { what: String, advice: &'static str },
}

/// A log file of which most lines are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{bad} of {lines} lines of {log} are not of the dialect {dialect}; the first at byte {offset}, column {column}: \
     expected {expected}, there is {text:?}{}", hint(likely.as_deref())
)]
pub struct MostlyBad {
    pub log: String,
    pub dialect: String,
    pub bad: u64,
    pub lines: u64,
    /// Where the first of the bad lines begins.
    pub offset: u64,
    pub column: usize,
    pub expected: String,
    /// The beginning of that line.
    pub text: String,
    /// The dialect that the file looks like.
    pub likely: Option<String>,
}

impl ChangelogError {
    /// True if lines or windows are missing, and a person has to decide.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Gap(_) | Self::BrokenChain { .. } | Self::OtherRoot { .. })
    }
}

fn hint(likely: Option<&str>) -> String {
    likely.map_or(String::new(), |likely| format!("; it looks like --dialect {likely}"))
}

struct Listed<'a>(&'a [Gap]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Gap::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}
