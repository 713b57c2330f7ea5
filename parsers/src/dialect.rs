//! The trait that every audit-log format implements, and the list of all of them.

use crate::change::Entry;
use crate::error::ParseError;
use crate::hdfs::{Hdfs, Names};
use crate::jindofs::JindoFs;
use crate::records::{self, End, Parsed};
use chrono::NaiveDateTime;

/// One audit-log format.
///
/// A dialect sees one *record* at a time: usually one line, without its newline. A format that does
/// not escape newlines may spread one record over several lines; [`Dialect::begins`] tells where
/// records may begin, and [`crate::records`] puts them together.
pub trait Dialect: Send + Sync {
    /// The name used in configuration and under `testdata/logs/`, for example `hdfs`.
    fn name(&self) -> &'static str;

    /// True if a record may begin with this line. Where it is false the line can only go on with
    /// the record before it.
    fn begins(&self, line: &[u8]) -> bool;

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
static ALL: [&dyn Dialect; 2] = [&Hdfs { names: Names::Either }, &JindoFs];

/// One spelling of a dialect, for those who know theirs: no name is then given in two readings.
static SPELLINGS: [&dyn Dialect; 2] = [&Hdfs { names: Names::Escaped }, &Hdfs { names: Names::Raw }];

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

/// The name of the dialect that reads most lines of a sample, if it reads at least half of them.
#[must_use]
pub fn likely(sample: &[u8]) -> Option<&'static str> {
    let count = |dialect: &&dyn Dialect| {
        let mut parsed = Parsed::default();
        records::parse_block(*dialect, sample, 0, End::Closed, &mut parsed);
        (parsed.records, parsed.bad_lines, dialect.name())
    };
    let best = ALL.iter().map(count).max_by_key(|(records, _, _)| *records)?;
    (best.0 > 0 && best.0 >= best.1).then_some(best.2)
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

    #[test]
    fn no_dialect_is_likely_of_what_none_can_read() {
        assert_eq!(likely(b""), None);
        assert_eq!(likely(b"Nov 21 03:51:07 host sshd[1]: hello\n"), None);
    }
}
