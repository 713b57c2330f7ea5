//! Blocks of lines to lines of the change log, and what there was to count. Pure; uses all cores, and gives the same whatever their number.

use crate::scope::{Effect, Scope, Scoped};
use crate::tail::Block;
use crate::zone::Zone;
use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use syncd_parsers::{Change, Dialect, Entry, Op, ParseError};

/// How many set-aside records of one window are kept; all are counted.
pub const BAD_KEPT: usize = 1000;

/// How much of a set-aside record is kept.
const BAD_TEXT_BYTES: usize = 2000;

/// What one core takes at a time, about.
const PIECE_BYTES: usize = 256 << 10;

/// What a line means.
pub struct Meaning {
    pub dialect: &'static dyn Dialect,
    pub zone: Zone,
    pub scope: Scope,
    /// Records before it are left out.
    pub since: Option<DateTime<Utc>>,
    /// The first record at or after it ends the reading of its file.
    pub until: Option<DateTime<Utc>>,
    /// Records after it do not say how far the log is known.
    pub now: Option<DateTime<Utc>>,
}

/// What came of some lines.
#[derive(Default)]
pub struct Crop {
    /// Lines of the change log.
    pub json: Vec<u8>,
    pub tally: Tally,
    /// The first of the records that were set aside.
    pub bad: Vec<Bad>,
    /// Where the record begins at which reading ends.
    pub stop: Option<u64>,
    /// Where the last record begins, and its time.
    pub last_begin: Option<u64>,
    pub last_time: Option<DateTime<Utc>>,
}

/// Counts; see [`super::Manifest`] for what each means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub lines: u64,
    pub bad: u64,
    pub early: u64,
    pub ignored: u64,
    pub outside: u64,
    pub odd: u64,
    /// Records that are later than now.
    pub future: u64,
    pub counts: BTreeMap<Op, u64>,
    pub first: Option<DateTime<Utc>>,
    pub last: Option<DateTime<Utc>>,
}

/// A record that was set aside: a line of the side file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bad {
    pub log: String,
    pub offset: u64,
    pub column: usize,
    pub expected: String,
    /// The record, or its beginning; what is not UTF-8 is replaced.
    pub text: String,
}

/// Reads a block of `log`. A first record of exactly `taken` bytes was read before, and is left out.
pub fn reap(meaning: &Meaning, log: &str, block: &Block, taken: u64) -> Crop {
    let begins = |line: &[u8]| meaning.dialect.begins(line);
    let skip = if first_record(&block.bytes, &begins) as u64 == taken { taken } else { 0 };
    let start = usize::try_from(skip).unwrap_or(0);
    let pieces = pieces(&block.bytes[start..], PIECE_BYTES, &begins);
    let crops: Vec<Crop> = pieces
        .into_par_iter()
        .map(|(at, piece)| Row { meaning, log, crop: Crop::default() }.reap(block.offset + skip + at as u64, piece))
        .collect();
    let mut all = Crop::default();
    for crop in crops {
        all.add(crop);
        if all.stop.is_some() {
            break;
        }
    }
    all
}

impl Crop {
    pub fn add(&mut self, other: Self) {
        self.json.extend_from_slice(&other.json);
        self.tally.add(&other.tally);
        keep(&mut self.bad, other.bad);
        self.stop = other.stop;
        self.last_begin = other.last_begin.or(self.last_begin);
        self.last_time = other.last_time.or(self.last_time);
    }
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.bad += other.bad;
        self.early += other.early;
        self.ignored += other.ignored;
        self.outside += other.outside;
        self.odd += other.odd;
        self.future += other.future;
        for (op, count) in &other.counts {
            *self.counts.entry(*op).or_default() += count;
        }
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }

    pub fn changes(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Adds set-aside records up to the limit.
pub fn keep(bad: &mut Vec<Bad>, more: Vec<Bad>) {
    let room = BAD_KEPT.saturating_sub(bad.len());
    bad.extend(more.into_iter().take(room));
}

/// One piece of a block on its way to a crop.
struct Row<'a> {
    meaning: &'a Meaning,
    log: &'a str,
    crop: Crop,
}

impl Row<'_> {
    fn reap(mut self, mut offset: u64, piece: &[u8]) -> Crop {
        let mut entries = Vec::new();
        for record in records(piece, &|line| self.meaning.dialect.begins(line)) {
            entries.clear();
            let parsed = self.meaning.dialect.parse(trimmed(record), &mut entries);
            if let Ok(time) = &parsed
                && self.meaning.until.is_some_and(|until| self.meaning.zone.earliest(*time) >= until)
            {
                self.crop.stop = Some(offset);
                break;
            }
            self.crop.tally.lines += 1;
            self.crop.last_begin = Some(offset);
            match parsed {
                Ok(time) => self.record(time, offset, record, &entries),
                Err(error) => self.set_aside(offset, record, &error),
            }
            offset += record.len() as u64;
        }
        self.crop
    }

    fn record(&mut self, time: NaiveDateTime, offset: u64, record: &[u8], entries: &[Entry]) {
        if self.meaning.since.is_some_and(|since| self.meaning.zone.latest(time) < since) {
            self.crop.tally.early += 1;
            return;
        }
        self.note_time(self.meaning.zone.earliest(time).trunc_subsecs(6));
        if entries.is_empty() {
            self.crop.tally.ignored += 1;
        }
        for entry in entries {
            self.entry(entry, offset, record);
        }
    }

    fn note_time(&mut self, time: DateTime<Utc>) {
        let tally = &mut self.crop.tally;
        tally.first = Some(tally.first.map_or(time, |first| first.min(time)));
        if self.meaning.now.is_some_and(|now| time > now) {
            tally.future += 1;
        } else {
            tally.last = tally.last.max(Some(time));
        }
        self.crop.last_time = Some(time);
    }

    fn entry(&mut self, entry: &Entry, offset: u64, record: &[u8]) {
        match self.meaning.scope.apply(entry) {
            Scoped::Inside(effect) => self.change(entry, effect, offset),
            Scoped::Outside => self.crop.tally.outside += 1,
            Scoped::Odd(reason) => {
                self.crop.tally.odd += 1;
                self.keep_text(offset, 0, &format!("a path that a store can hold, not {reason}"), record);
            }
        }
    }

    fn change(&mut self, entry: &Entry, effect: Effect, offset: u64) {
        let Effect { op, path, to, into } = effect;
        let time = self.meaning.zone.earliest(entry.time).trunc_subsecs(6);
        let change = Change { time, op, path, to, into, user: entry.user.clone(), log: self.log.to_owned(), offset };
        append(&mut self.crop.json, &change);
        *self.crop.tally.counts.entry(op).or_default() += 1;
    }

    fn set_aside(&mut self, offset: u64, record: &[u8], error: &ParseError) {
        self.crop.tally.bad += 1;
        self.keep_text(offset, error.column, error.expected, record);
    }

    fn keep_text(&mut self, offset: u64, column: usize, expected: &str, record: &[u8]) {
        let text = &trimmed(record)[..trimmed(record).len().min(BAD_TEXT_BYTES)];
        let text = String::from_utf8_lossy(text).into_owned();
        let (log, expected) = (self.log.to_owned(), expected.to_owned());
        keep(&mut self.crop.bad, vec![Bad { log, offset, column, expected, text }]);
    }
}

/// Appends `change` as a line of JSON.
pub fn append(json: &mut Vec<u8>, change: &Change) {
    let line = serde_json::to_vec(change).expect("a change has string keys only, and a vector takes all bytes");
    json.extend_from_slice(&line);
    json.push(b'\n');
}

fn trimmed(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// Cuts `bytes` into pieces of about `size` at the beginnings of records, each with its offset.
fn pieces<'a>(bytes: &'a [u8], size: usize, begins: &dyn Fn(&[u8]) -> bool) -> Vec<(usize, &'a [u8])> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let end = next_begin(bytes, start + size, begins);
        pieces.push((start, &bytes[start..end]));
        start = end;
    }
    pieces
}

/// The first beginning of a record after `from`, which may be in the middle of one; the end if there is none.
fn next_begin(bytes: &[u8], from: usize, begins: &dyn Fn(&[u8]) -> bool) -> usize {
    let mut at = from;
    while let Some(newline) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
        at += newline + 1;
        if at < bytes.len() && begins(line_at(bytes, at)) {
            return at;
        }
    }
    bytes.len()
}

/// The records in `bytes`, each with all its newlines.
fn records<'a>(bytes: &'a [u8], begins: &'a dyn Fn(&[u8]) -> bool) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (record, after) = rest.split_at(first_record(rest, begins));
        rest = after;
        (!record.is_empty()).then_some(record)
    })
}

/// How long the first record is, with its newlines.
fn first_record(bytes: &[u8], begins: &dyn Fn(&[u8]) -> bool) -> usize {
    next_begin(bytes, 0, begins)
}

/// The line that begins at `at`, without its newline.
fn line_at(bytes: &[u8], at: usize) -> &[u8] {
    let rest = &bytes[at..];
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(line: &[u8]) -> bool {
        line.first().is_some_and(u8::is_ascii_digit)
    }

    fn texts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        parts.map(|part| std::str::from_utf8(part).expect("text")).collect()
    }

    #[test]
    fn a_record_goes_on_until_the_next_one_begins() {
        let block = b"lost\n1 a\n2 b\n  c\n\n3 d";
        assert_eq!(texts(records(block, &digit)), ["lost\n", "1 a\n", "2 b\n  c\n\n", "3 d"]);
        assert!(texts(records(b"", &digit)).is_empty());
    }

    #[test]
    fn pieces_of_any_size_hold_the_same_records() {
        let block = b"1 a\n2 b\n  c\n3 d\n4 e\n  f\n  g\n5 h\n";
        let whole = texts(records(block, &digit));
        for size in 1..block.len() + 2 {
            let pieces = pieces(block, size, &digit);
            let cut: Vec<&str> = pieces.iter().flat_map(|(_, piece)| texts(records(piece, &digit))).collect();
            assert_eq!(cut, whole, "pieces of {size}");
            let offsets: Vec<usize> = pieces.iter().map(|(at, _)| *at).collect();
            let ends = pieces.iter().scan(0, |end, (_, piece)| Some(std::mem::replace(end, *end + piece.len())));
            assert_eq!(offsets, ends.collect::<Vec<_>>(), "pieces of {size} follow each other");
        }
    }

    #[test]
    fn set_aside_records_are_kept_up_to_the_limit() {
        let bad = Bad { log: String::new(), offset: 0, column: 0, expected: String::new(), text: String::new() };
        let mut kept = vec![bad.clone(); BAD_KEPT - 1];
        keep(&mut kept, vec![bad; 5]);
        assert_eq!(kept.len(), BAD_KEPT);
    }
}
