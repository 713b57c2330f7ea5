//! Which dialect some bytes of a log are of; if none, what was seen and what was expected. Whose bytes these are is the
//! caller's to say.

use crate::dialect::{Dialect, Framing, all};
use crate::records::{self, Bad, End, Parsed};
use std::fmt;

/// How much of a file tells.
pub const SAMPLE_BYTES: usize = 64 * 1024;
/// How many characters of a line are shown.
const SHOWN_MAX: usize = 160;

/// Some bytes from the beginning of a log.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub bytes: &'a [u8],
    /// Nothing follows them.
    pub is_whole: bool,
}

/// Why some bytes are of no known dialect. Prints what was seen, as the end of a sentence that names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undetected {
    #[error("has no whole line yet")]
    Empty,
    #[error("is no text, and of no dialect that is not: the byte at {at} is {byte:#04x}; known are {}", Known)]
    Binary { at: usize, byte: u8 },
    #[error("is of no known dialect: its first line is {line:?}; known are {}", Known)]
    Unknown { line: String },
    #[error("resembles the dialect {dialect}, but is none: in column {column} of {line:?} was expected {expected}")]
    Resembles { dialect: &'static str, column: usize, expected: &'static str, line: String },
    #[error("mixes dialects: most of it is of {most}, but {line:?} is of {other}")]
    Mixed { most: &'static str, other: &'static str, line: String },
    #[error("may be of the dialect {one} or of {other}, which read it differently")]
    Ambiguous { one: &'static str, other: &'static str },
}

/// The dialect that reads a sample: at least half of its lines, and what it does not read is not of another. Of two that
/// read it alike the stricter.
///
/// # Errors
///
/// There is none, or no single one.
pub fn detect(sample: Sample) -> Result<&'static dyn Dialect, Undetected> {
    let readings: Vec<Reading> = all().iter().map(|dialect| Reading::of(*dialect, sample)).collect();
    let best = readings.iter().max_by_key(|reading| reading.rank());
    let Some(best) = best.filter(|best| best.parsed.records > 0 && best.parsed.records >= best.parsed.bad_lines) else {
        return Err(unknown(sample, &readings));
    };
    if let Some(mixed) = mixed(best, &readings) {
        return Err(mixed);
    }
    let is_rival = |other: &&Reading| other.rank() == best.rank() && other.parsed.entries != best.parsed.entries;
    let rival = readings.iter().find(is_rival).map(|rival| rival.dialect.name());
    rival.map_or(Ok(best.dialect), |one| Err(Undetected::Ambiguous { one, other: best.dialect.name() }))
}

/// What one dialect makes of a sample.
struct Reading {
    dialect: &'static dyn Dialect,
    parsed: Parsed,
}

impl Reading {
    fn of(dialect: &'static dyn Dialect, sample: Sample) -> Self {
        let mut parsed = Parsed::default();
        let Sample { bytes, is_whole } = sample;
        match (is_whole, dialect.framing()) {
            (false, Framing::Files) if dialect.begins(bytes) => parsed.records = 1,
            (false, Framing::Files) => {}
            (false, _) => _ = records::parse_block(dialect, bytes, 0, End::Quiet, &mut parsed),
            (true, _) => _ = records::parse_block(dialect, bytes, 0, End::Closed, &mut parsed),
        }
        Self { dialect, parsed }
    }

    /// The most records, then the fewest bad lines; who finds no change in them may only not understand them.
    fn rank(&self) -> (u64, std::cmp::Reverse<u64>, bool) {
        (self.parsed.records, std::cmp::Reverse(self.parsed.bad_lines), !self.parsed.entries.is_empty())
    }

    /// What looks like a record of this dialect and is none.
    fn resemblance(&self) -> Option<(&Bad, &'static str)> {
        let first = self.parsed.bad.first().filter(|bad| self.dialect.begins(&bad.text));
        first.map(|bad| (bad, self.dialect.name()))
    }
}

fn unknown(sample: Sample, readings: &[Reading]) -> Undetected {
    let nearest = readings.iter().rev().filter_map(Reading::resemblance).max_by_key(|(bad, _)| bad.column);
    if let Some((bad, dialect)) = nearest {
        let Bad { column, expected, .. } = *bad;
        return Undetected::Resembles { dialect, column, expected, line: shown(&bad.text) };
    }
    let is_binary = |byte: &u8| *byte < 0x20 && !byte.is_ascii_whitespace();
    if let Some(at) = sample.bytes.iter().position(is_binary) {
        return Undetected::Binary { at, byte: sample.bytes[at] };
    }
    let line = sample.bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    line.map_or(Undetected::Empty, |line| Undetected::Unknown { line: shown(line) })
}

/// Another dialect that reads a tenth or more of what the best one does not.
fn mixed(best: &Reading, readings: &[Reading]) -> Option<Undetected> {
    if best.parsed.bad_lines == 0 {
        return None;
    }
    let rest = best.parsed.bad.iter().map(|bad| bad.text.as_slice()).collect::<Vec<_>>().join(&b'\n');
    let total = best.parsed.records + best.parsed.bad_lines;
    let others = readings.iter().filter(|reading| reading.dialect.name() != best.dialect.name());
    let mut others = others.map(|other| Reading::of(other.dialect, Sample { bytes: &rest, is_whole: true }));
    let other = others.find(|other| other.parsed.records > 0 && other.parsed.records * 10 >= total)?;
    let (most, line) = (best.dialect.name(), shown(&best.parsed.bad.first()?.text));
    Some(Undetected::Mixed { most, other: other.dialect.name(), line })
}

/// The beginning of a line, for people; what is not text is replaced.
#[must_use]
pub fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

/// Prints the names of all dialects.
pub struct Known;

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = all().iter().map(|dialect| dialect.name()).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HDFS: &str =
        "2026-11-21 03:51:07,555 INFO FSNamesystem.audit: allowed=true\tugi=u (auth:SIMPLE)\tip=/1\tcmd=";

    fn found(text: &str) -> String {
        match detect(Sample { bytes: text.as_bytes(), is_whole: true }) {
            Ok(dialect) => dialect.name().to_owned(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn what_no_dialect_reads_is_said_as_it_was_seen() {
        let known = Known.to_string();
        assert_eq!(found(""), "has no whole line yet");
        assert_eq!(
            found("\nsome notes\nof mine\n"),
            format!("is of no known dialect: its first line is \"some notes\"; known are {known}")
        );
        let binary = found("\x7fELF\x02\x01");
        assert!(binary.starts_with("is no text, and of no dialect that is not: the byte at 4 is 0x02"), "{binary}");
    }

    #[test]
    fn what_only_looks_like_a_dialect_is_said_with_what_is_wrong() {
        let imitation = found(&format!("{HDFS}delete\tsource=/a\tdst=null\tperm=null\n").repeat(3));
        assert!(imitation.starts_with("resembles the dialect hdfs, but is none: in column "), "{imitation}");
        assert!(imitation.contains("was expected"), "{imitation}");
    }

    #[test]
    fn a_log_of_two_dialects_is_of_none() {
        let hdfs = format!("{HDFS}delete\tsrc=/a\tdst=null\tperm=null\n");
        let jindofs = "2020-07-09 18:29:24.689 allowed=true ugi=hadoop (auth:SIMPLE) ip=127.0.0.1 ns=test-block \
                       cmd=CreateFileletRequest src=jfs://test-block/test/x dst=null perm=::rwxrwxr-x\n";
        assert_eq!(found(&hdfs), "hdfs");
        assert_eq!(found(jindofs), "jindofs");
        let mixed = found(&(hdfs.repeat(2) + jindofs));
        assert!(mixed.starts_with("mixes dialects: most of it is of hdfs, but"), "{mixed}");
        assert!(mixed.ends_with("is of jindofs"), "{mixed}");
        assert_eq!(found(&(hdfs.repeat(2) + "noise\n")), "hdfs", "a bad line is no dialect");
    }

    #[test]
    fn the_end_of_a_sample_is_not_taken_for_the_end_of_a_line() {
        let log = format!("{HDFS}delete\tsrc=/a\tdst=null\tperm=null\n").repeat(2);
        let bytes = &log.as_bytes()[..log.len() - 30];
        assert_eq!(detect(Sample { bytes, is_whole: false }).map(Dialect::name), Ok("hdfs"));
    }
}
