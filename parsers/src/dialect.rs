//! The trait that every audit-log format implements, and the list of all of them.

use crate::change::Entry;
use crate::error::ParseError;
use chrono::NaiveDateTime;

/// One audit-log format.
///
/// A dialect sees one *record* at a time: usually one line, without its newline. A format that does
/// not escape newlines may spread one record over several lines; [`Dialect::begins`] tells where
/// records may begin, and [`crate::records::Records`] puts them together.
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
    /// The record is not of this format. `out` is then as it was.
    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError>;
}
