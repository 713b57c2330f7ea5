//! Cuts a log into records and runs a dialect over them. Pure: a block of bytes in, entries and bad lines out; where
//! blocks come from and how far a log was read is the caller's to know. One module for each [`Framing`].
//!
//! What a record gives never depends on how the block was cut or in how many pieces it was read: each framing finds, from
//! any place, where the records around it begin.

mod events;
mod lines;
mod objects;

use crate::change::Entry;
use crate::dialect::{Dialect, Framing};
use crate::error::ParseError;
use crate::spans::Spans;
use chrono::NaiveDateTime;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// With how many following lines an incomplete one is joined.
pub const CONTINUATIONS_MAX: usize = 8;
/// Bytes of a record that is joined from several lines.
pub const JOINED_MAX: usize = 16 * 1024;
/// Bytes of a line; a longer one is bad, and cut at this length.
pub const LINE_MAX: usize = 1024 * 1024;
/// Bytes of a JSON object; of a longer one the first line is bad, and the next is looked at.
pub const OBJECT_MAX: usize = 8 * 1024 * 1024;
/// How deep the objects and arrays of a record may lie in each other.
pub const DEPTH_MAX: usize = 64;
/// How far, in bytes, the lines of one event may lie from its first.
pub const EVENT_REACH: usize = 64 * 1024;
/// Bytes of a file that is one record; a longer one is bad.
pub const FILE_MAX: usize = 64 * 1024 * 1024;
/// Bytes kept of a bad line.
pub const BAD_TEXT_MAX: usize = 4 * 1024;
/// How many bad lines one [`Parsed`] keeps; all are counted.
pub const BAD_KEPT_MAX: usize = 1000;
/// How many bytes are held back only so that the lines of a record, already read, stay together.
const HELD_MAX: usize = 4 * JOINED_MAX;

/// What may follow a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More lines, at any moment: a record that they could complete in another way is held back.
    More,
    /// More lines, but not for a while: a record that is complete in one way is not held back for others.
    Quiet,
    /// Nothing. The last line may lack its newline.
    Closed,
}

/// What some bytes of a log gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// With the offset of the line that each record begins with; in the order of these lines. One record
    /// may give several.
    pub entries: Vec<(u64, Entry)>,
    /// The ids of records that gave entries, with the offsets of these; only of dialects whose records have ids.
    pub ids: Vec<(u64, Box<[u8]>)>,
    /// In the order of lines; the first [`BAD_KEPT_MAX`].
    pub bad: Vec<Bad>,
    /// All that are bad.
    pub bad_lines: u64,
    /// Lines; of a log of objects or files what stands where a line would: records and what is bad.
    pub lines: u64,
    /// Records read whole, those included that change nothing.
    pub records: u64,
    /// The earliest time of a record, in the log's own zone.
    pub first_time: Option<NaiveDateTime>,
    /// The latest.
    pub last_time: Option<NaiveDateTime>,
    /// When there were records at all.
    pub spans: Spans<NaiveDateTime>,
}

/// A line that is no record, nor part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Where the line begins, in bytes of the log.
    pub offset: u64,
    /// Bytes from the start of the line.
    pub column: usize,
    pub expected: &'static str,
    /// Its first [`BAD_TEXT_MAX`] bytes.
    pub text: Vec<u8>,
}

/// Reads what of a block can be read now, and says how many bytes that was: whole records only. What is left comes first in
/// the next block. `base_offset` is where the block begins in its log.
pub fn parse_block(dialect: &dyn Dialect, block: &[u8], base_offset: u64, end: End, out: &mut Parsed) -> usize {
    let decided = decided(dialect, block, end);
    parse_range(dialect, block, 0..decided, base_offset, end, out);
    decided
}

/// How many bytes of a block hold records whose readings cannot change by what follows the block. At most
/// [`OBJECT_MAX`] bytes of objects are held back, or [`FILE_MAX`] of a file; of lines and events far less.
#[must_use]
pub fn decided(dialect: &dyn Dialect, block: &[u8], end: End) -> usize {
    match (end, dialect.framing()) {
        (End::Closed, _) => block.len(),
        (_, Framing::Lines) => lines::decided(dialect, block, end),
        (_, Framing::Objects) => objects::decided(block, end),
        (_, Framing::Events) => events::decided(dialect, block, end),
        (End::Quiet, Framing::Files) => block.len(),
        (End::More, Framing::Files) => {
            if block.len() > FILE_MAX {
                block.len()
            } else {
                0
            }
        }
    }
}

/// Reads the records that begin in one range of a block's decided part. The range begins where a line or a record
/// begins; what is before and after it is looked at, too. All ranges of [`split_for_parallel`], put together by
/// [`Parsed::append`], give what one range gives.
pub fn parse_range(
    dialect: &dyn Dialect,
    block: &[u8],
    range: Range<usize>,
    base_offset: u64,
    end: End,
    out: &mut Parsed,
) {
    let taker = Taker { dialect, base_offset, scratch: Vec::new(), out };
    match dialect.framing() {
        Framing::Lines => lines::read(block, range, end, taker),
        Framing::Objects => objects::read(block, range, end, taker),
        Framing::Events => events::read(block, range, end, taker),
        Framing::Files => read_file(block, range, taker),
    }
}

/// A file that goes on after a first block was taken for too long.
fn read_file(block: &[u8], range: Range<usize>, mut taker: Taker) {
    if taker.base_offset > 0 || range.start > 0 || range.is_empty() {
        return;
    }
    if block.len() > FILE_MAX {
        taker.out.lines += 1;
        taker.set_aside(0, block, &ParseError::malformed(FILE_MAX, "a shorter file"));
    } else {
        taker.take(0, block, 1);
    }
}

/// About equal pieces of the decided part of a block, each beginning where a record may. None is empty, and there may be
/// fewer than asked for.
#[must_use]
pub fn split_for_parallel(dialect: &dyn Dialect, decided: &[u8], pieces: usize) -> Vec<Range<usize>> {
    let pieces = pieces.max(1);
    let border = |piece: usize| match (piece, dialect.framing()) {
        (0, _) => 0,
        (_, Framing::Files) => decided.len(),
        (_, Framing::Objects) => objects::border_after(decided, decided.len() / pieces * piece),
        (_, Framing::Lines | Framing::Events) => start_after(decided, decided.len() / pieces * piece),
    };
    let mut borders: Vec<usize> = (0..pieces).map(border).chain([decided.len()]).collect();
    borders.dedup();
    borders.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Where the first line begins that begins at or after a place.
fn start_after(bytes: &[u8], at: usize) -> usize {
    let before = at.saturating_sub(1);
    memchr(b'\n', &bytes[before..]).map_or(bytes.len(), |newline| before + newline + 1)
}

impl Parsed {
    /// Adds what came after.
    pub fn append(&mut self, mut later: Self) {
        self.entries.append(&mut later.entries);
        self.ids.append(&mut later.ids);
        let room = BAD_KEPT_MAX.saturating_sub(self.bad.len());
        self.bad.extend(later.bad.into_iter().take(room));
        self.bad_lines += later.bad_lines;
        self.lines += later.lines;
        self.records += later.records;
        later.first_time.into_iter().chain(later.last_time).for_each(|time| self.see(time));
        self.spans.append(&later.spans);
    }

    fn see(&mut self, time: NaiveDateTime) {
        self.first_time = Some(self.first_time.map_or(time, |first| first.min(time)));
        self.last_time = Some(self.last_time.map_or(time, |last| last.max(time)));
        self.spans.add(time);
    }

    fn set_aside(&mut self, bad: impl FnOnce() -> Bad) {
        self.bad_lines += 1;
        if self.bad.len() < BAD_KEPT_MAX {
            self.bad.push(bad());
        }
    }
}

/// Runs a dialect over the records of one block, and keeps what it says.
struct Taker<'a, 'o> {
    dialect: &'a dyn Dialect,
    base_offset: u64,
    /// What the current record gives.
    scratch: Vec<Entry>,
    out: &'o mut Parsed,
}

impl Taker<'_, '_> {
    /// What stands for itself, in so many lines: a record, or bad.
    fn take(&mut self, at: usize, record: &[u8], lines: u64) {
        self.out.lines += lines;
        match self.dialect.parse(record, &mut self.scratch) {
            Ok(time) => self.count(time),
            Err(error) => self.give_up(at, record, &error),
        }
        self.give(at, record);
    }

    fn count(&mut self, time: NaiveDateTime) {
        self.out.records += 1;
        self.out.see(time);
    }

    fn give_up(&mut self, at: usize, text: &[u8], error: &ParseError) {
        self.set_aside(at, text, error);
        self.dialect.salvage(text, &mut self.scratch);
    }

    fn set_aside(&mut self, at: usize, text: &[u8], error: &ParseError) {
        self.out.set_aside(|| Bad {
            offset: self.base_offset + at as u64,
            column: error.column,
            expected: error.expected,
            text: text[..text.len().min(BAD_TEXT_MAX)].to_vec(),
        });
    }

    /// Hands over the entries of the record that begins here.
    fn give(&mut self, at: usize, record: &[u8]) {
        if self.scratch.is_empty() {
            return;
        }
        let offset = self.base_offset + at as u64;
        self.out.ids.extend(self.dialect.id(record).map(|id| (offset, id.into())));
        self.out.entries.extend(self.scratch.drain(..).map(|entry| (offset, entry)));
    }
}

/// One line of a block, as a range of its bytes.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: usize,
    /// Without its newline.
    end: usize,
    /// Where the next line begins.
    next: usize,
    /// Not the whole line: it is longer than [`LINE_MAX`].
    is_cut: bool,
}

/// The line that begins here; `None` if there is none, or its end is still to come.
fn line_at(bytes: &[u8], start: usize, end: End) -> Option<Line> {
    let rest = &bytes[start..];
    let window = &rest[..rest.len().min(LINE_MAX + 1)];
    let whole = |end: usize, next: usize| Some(Line { start, end, next, is_cut: false });
    match memchr(b'\n', window) {
        Some(newline) => whole(start + newline, start + newline + 1),
        None if window.len() > LINE_MAX => {
            let end = start + LINE_MAX;
            Some(Line { start, end, next: end, is_cut: true })
        }
        None if end == End::Closed && !rest.is_empty() => whole(bytes.len(), bytes.len()),
        None => None,
    }
}

/// The lines from a place on where one begins.
fn lines_from(bytes: &[u8], start: usize, end: End) -> impl Iterator<Item = Line> {
    std::iter::successors(line_at(bytes, start, end), move |line| line_at(bytes, line.next, end))
}

/// Where the whole lines end; those that are cut for their length are whole.
fn end_of_lines(bytes: &[u8], end: End) -> usize {
    let start = memrchr(b'\n', bytes).map_or(0, |newline| newline + 1);
    lines_from(bytes, start, end).last().map_or(start, |line| line.next)
}
