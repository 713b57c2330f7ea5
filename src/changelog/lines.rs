//! Blocks of a log to lines of the change log, and what there was to count. Pure; uses all cores, and gives the same
//! whatever their number.

use super::memory::Memory;
use super::spool;
use crate::scope::{Effect, Scope, Scoped};
use crate::tail::{Block, Follows, Head};
use crate::zone::{self, Zone};
use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Timelike, Utc};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use syncd_parsers::dialect::{Clock, Delivery};
use syncd_parsers::records::{self, Parsed};
use syncd_parsers::spans::{Span, Spans};
use syncd_parsers::{Dialect, Entry, Op, RelPath};

/// How many set-aside records of one window are kept; all are counted.
pub const BAD_KEPT: usize = 1000;

/// What one core takes at a time, about.
const PIECE_BYTES: usize = 1 << 20;

/// From how many bytes of the change log on a piece is compressed by itself.
const FRAME_BYTES: usize = 64 << 10;

/// How far a time may be ahead of the clock before that is worth a word: clocks differ, and a log grows while it is read.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(1);

/// What a line means.
pub struct Meaning {
    pub dialect: &'static dyn Dialect,
    pub zone: Zone,
    pub scope: Scope,
    /// Changes before it are left out.
    pub since: Option<DateTime<Utc>>,
    /// The first change at or after it ends the reading of its file.
    pub until: Option<DateTime<Utc>>,
    /// Times after it do not say how far the log is known.
    pub now: Option<DateTime<Utc>>,
}

/// A log file, as far as its lines do not tell everything themselves.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its path in the log directory.
    pub log: String,
    /// When it was written last.
    pub modified: Option<DateTime<Utc>>,
}

/// What came of some lines.
#[derive(Default)]
pub struct Crop {
    /// Lines of the change log, in order.
    pub text: Vec<Text>,
    pub tally: Tally,
    /// The first of the records that were set aside.
    pub bad: Vec<Bad>,
    /// Where the line begins at which reading ends.
    pub stop: Option<u64>,
    /// The latest time of a record.
    pub last_time: Option<DateTime<Utc>>,
}

/// Some lines of the change log.
pub enum Text {
    Plain(Vec<u8>),
    /// A zstd frame of its own.
    Frame(Vec<u8>),
}

impl Text {
    /// Much is compressed where it was made, on all cores; little is left to be compressed with more of its kind.
    fn of(json: Vec<u8>) -> Self {
        if json.len() < FRAME_BYTES {
            return Self::Plain(json);
        }
        match spool::frame(&json) {
            Ok(frame) => Self::Frame(frame),
            Err(_) => Self::Plain(json), // then the spool fails, and says why
        }
    }
}

/// How much of a block was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Bytes whose lines are read.
    pub bytes: usize,
    /// How many of these, at the end, what follows may still give another meaning.
    pub open: usize,
}

/// How far a block is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub used: Used,
    /// Where the line begins at which reading ends.
    pub stop: Option<u64>,
}

/// Counts; see [`super::Manifest`] for what each means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub lines: u64,
    pub bad: u64,
    pub records: u64,
    pub early: u64,
    pub ignored: u64,
    pub outside: u64,
    pub odd: u64,
    /// Records that came twice.
    pub doubles: u64,
    /// Changes that are later than now.
    pub future: u64,
    pub counts: [u64; 6],
    pub first: Option<DateTime<Utc>>,
    pub last: Option<DateTime<Utc>>,
    /// When there were records; none that is still to come.
    pub spans: Spans<DateTime<Utc>>,
}

/// A line or a path that was set aside: a line of the side file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bad {
    pub log: String,
    pub offset: u64,
    pub column: usize,
    pub expected: String,
    /// The line, its beginning, or the path; what is not UTF-8 is replaced.
    pub text: String,
}

/// How much of a block to read now.
pub fn extent(meaning: &Meaning, origin: &Origin, block: &Block) -> Extent {
    let used = used(meaning.dialect, block);
    let stop = meaning.until.and_then(|until| meaning.stop(origin, block, used.bytes, until));
    let Some(stop) = stop else { return Extent { used, stop } };
    let bytes = usize::try_from(stop - block.offset).unwrap_or(0);
    Extent { used: Used { bytes, open: 0 }, stop: Some(stop) }
}

/// Reads so much of a block.
pub fn reap(meaning: &Meaning, origin: &Origin, memory: &mut Memory, block: &Block, extent: Extent) -> Crop {
    Crop { stop: extent.stop, ..meaning.reap(origin, memory, block, extent.used.bytes) }
}

impl Meaning {
    fn reap(&self, origin: &Origin, memory: &mut Memory, block: &Block, bytes: usize) -> Crop {
        let row = || Row::new(self, &origin.log);
        let crops: Vec<Crop> = if memory.is_needed() {
            let mut parsed = self.parse(origin, block, bytes, |parsed| (parsed, 0));
            parsed.iter_mut().for_each(|(parsed, doubles)| *doubles = memory.pass(parsed));
            parsed.into_par_iter().map(|(parsed, doubles)| row().reap(&parsed, doubles)).collect()
        } else {
            self.parse(origin, block, bytes, |parsed| row().reap(&parsed, 0))
        };
        let mut all = Crop::default();
        crops.into_iter().for_each(|crop| all.add(crop));
        all
    }

    /// Runs the dialect over a block on all cores.
    fn parse<T: Send>(
        &self,
        origin: &Origin,
        block: &Block,
        bytes: usize,
        then: impl Fn(Parsed) -> T + Sync + Send,
    ) -> Vec<T> {
        let ranges = records::split_for_parallel(self.dialect, &block.bytes[..bytes], bytes / PIECE_BYTES + 1);
        let parse = |range: Range<usize>| {
            let mut parsed = Parsed::default();
            records::parse_range(self.dialect, &block.bytes, range, block.offset, end(block.follows), &mut parsed);
            self.set_times(origin, &mut parsed);
            then(parsed)
        };
        ranges.into_par_iter().map(parse).collect()
    }

    /// Where the first record begins that is of `until` or later. Where records of any time may follow, there is no such place.
    fn stop(&self, origin: &Origin, block: &Block, bytes: usize, until: DateTime<Utc>) -> Option<u64> {
        let is_later = |(_, entry): &&(u64, Entry)| self.utc(entry.time) >= until;
        let first = |parsed: Parsed| parsed.entries.iter().find(is_later).map(|(offset, _)| *offset);
        let is_in_order = matches!(self.dialect.delivery(), Delivery::Appended(_));
        is_in_order.then(|| self.parse(origin, block, bytes, first)).into_iter().flatten().flatten().next()
    }

    /// Completes the times that the log itself does not tell.
    fn set_times(&self, origin: &Origin, parsed: &mut Parsed) {
        if matches!(self.dialect.clock(), Clock::Utc | Clock::Local) {
            return;
        }
        parsed.entries.iter_mut().for_each(|(_, entry)| entry.time = self.complete(origin, entry.time));
        let mut spans = Spans::default();
        for span in parsed.spans.iter() {
            let (from, to) = (self.complete(origin, span.from), self.complete(origin, span.to));
            spans.join(Span { from: from.min(to), to });
        }
        parsed.spans = spans;
        let bounds = [parsed.first_time, parsed.last_time].map(|time| time.map(|time| self.complete(origin, time)));
        // What was first without its year may be last with it.
        let times = || bounds.into_iter().flatten().chain(parsed.entries.iter().map(|(_, entry)| entry.time));
        (parsed.first_time, parsed.last_time) = (times().min(), times().max());
    }

    /// The time of a record, with what only its file tells.
    pub fn complete(&self, origin: &Origin, time: NaiveDateTime) -> NaiveDateTime {
        match self.dialect.clock() {
            Clock::Utc | Clock::Local => time,
            Clock::OfFile => self.time_of_file(&origin.log).unwrap_or(time),
            Clock::LocalWithoutYear => match origin.modified.or(self.now) {
                Some(modified) => zone::with_year(time, self.zone.local(modified)),
                None => time,
            },
        }
    }

    /// The time of the first record in the beginning of a file that has one.
    pub fn born(&self, head: &Head) -> Option<NaiveDateTime> {
        let mut parsed = Parsed::default();
        records::parse_block(self.dialect, head.bytes, 0, records::End::Quiet, &mut parsed);
        let origin = Origin { log: head.name.to_owned(), modified: head.modified };
        parsed.first_time.map(|time| self.complete(&origin, time))
    }

    /// The time that the name of a file tells, whatever it is packed in.
    pub fn time_of_file(&self, log: &str) -> Option<NaiveDateTime> {
        let name = log.rsplit('/').next().unwrap_or(log);
        self.dialect.time_of_file(name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name))
    }

    fn utc(&self, time: NaiveDateTime) -> DateTime<Utc> {
        self.zone.earliest(time).trunc_subsecs(6)
    }
}

/// A record that is complete in one way is read at the end of a file, though more lines may complete it in another, too:
/// a log may be idle for long. When they come, it is read again.
fn used(dialect: &dyn Dialect, block: &Block) -> Used {
    let decided = |end| records::decided(dialect, &block.bytes, end);
    let bytes = decided(end(block.follows));
    let settled = if block.follows == Follows::More { bytes } else { decided(records::End::More) };
    Used { bytes, open: bytes - settled.min(bytes) }
}

fn end(follows: Follows) -> records::End {
    match follows {
        Follows::More => records::End::More,
        Follows::Growth => records::End::Quiet,
        Follows::Nothing => records::End::Closed,
    }
}

impl Crop {
    pub fn add(&mut self, other: Self) {
        self.text.extend(other.text);
        self.tally.add(&other.tally);
        keep(&mut self.bad, other.bad);
        self.stop = self.stop.or(other.stop);
        self.last_time = self.last_time.max(other.last_time);
    }
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.bad += other.bad;
        self.records += other.records;
        self.early += other.early;
        self.ignored += other.ignored;
        self.outside += other.outside;
        self.odd += other.odd;
        self.doubles += other.doubles;
        self.future += other.future;
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
        self.spans.append(&other.spans);
    }

    /// True if a record was a change, wherever and whenever it was.
    pub fn says_something(&self) -> bool {
        self.changes() + self.early + self.outside + self.odd > 0
    }

    pub fn changes(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Changes by operation, those that there are.
    pub fn by_op(&self) -> BTreeMap<Op, u64> {
        const OPS: [Op; 6] = [Op::Write, Op::Mkdir, Op::Rename, Op::Delete, Op::Attr, Op::Rescan];
        OPS.into_iter().map(|op| (op, self.counts[op as usize])).filter(|(_, count)| *count > 0).collect()
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
    json: Vec<u8>,
    clock: Clockwork,
}

impl<'a> Row<'a> {
    fn new(meaning: &'a Meaning, log: &'a str) -> Self {
        Self { meaning, log, crop: Crop::default(), json: Vec::new(), clock: Clockwork::default() }
    }

    /// Of the records, so many had been there before.
    fn reap(mut self, parsed: &Parsed, doubles: u64) -> Crop {
        let tally = &mut self.crop.tally;
        (tally.lines, tally.bad, tally.records) = (parsed.lines, parsed.bad_lines, parsed.records);
        tally.doubles = doubles;
        tally.first = parsed.first_time.map(|time| self.meaning.utc(time));
        self.note_last(parsed);
        self.note_spans(parsed);
        self.crop.bad = parsed.bad.iter().take(BAD_KEPT).map(|bad| self.bad(bad)).collect();
        let mut with_changes = 0;
        let mut before = None;
        for (offset, entry) in &parsed.entries {
            with_changes += u64::from(before.replace(offset) != Some(offset));
            self.entry(entry, *offset);
        }
        self.crop.tally.ignored = parsed.records.saturating_sub(with_changes + doubles);
        self.crop.text.extend((!self.json.is_empty()).then(|| Text::of(self.json)));
        self.crop
    }

    /// How far the log is known: as far as its latest time, unless that is forged, or of a wrong clock.
    fn note_last(&mut self, parsed: &Parsed) {
        let latest = parsed.last_time.map(|time| self.meaning.utc(time));
        self.crop.last_time = latest;
        self.crop.tally.last = latest;
        let Some(now) = self.meaning.now.filter(|now| latest.is_some_and(|latest| latest > *now)) else { return };
        let times = || parsed.entries.iter().map(|(_, entry)| self.meaning.utc(entry.time));
        self.crop.tally.last = times().filter(|time| *time <= now).max();
        self.crop.tally.future = times().filter(|time| *time > now + AHEAD_MAX).count() as u64;
    }

    /// Of a doubled hour both readings count: where the clocks are set back the log was not silent.
    fn note_spans(&mut self, parsed: &Parsed) {
        let Meaning { zone, now, .. } = self.meaning;
        for span in parsed.spans.iter() {
            let (from, to) = (zone.earliest(span.from), zone.latest(span.to));
            let to = now.map_or(to, |now| to.min(now));
            if from <= to {
                self.crop.tally.spans.join(Span { from: from.trunc_subsecs(6), to: to.trunc_subsecs(6) });
            }
        }
    }

    fn entry(&mut self, entry: &Entry, offset: u64) {
        if self.meaning.since.is_some_and(|since| self.meaning.zone.latest(entry.time) < since) {
            self.crop.tally.early += 1;
            return;
        }
        match self.meaning.scope.apply(entry) {
            Scoped::Inside(effect) => self.change(entry, effect, offset),
            Scoped::Outside => self.crop.tally.outside += 1,
            Scoped::Odd(reason) => self.odd(entry, reason, offset),
        }
    }

    fn change(&mut self, entry: &Entry, effect: Effect, offset: u64) {
        let Effect { op, path, to, into } = effect;
        let time = self.clock.spell(self.meaning, entry.time);
        append(
            &mut self.json,
            &Line { time, op, path: &path, to, into, user: entry.user.as_deref(), log: self.log, offset },
        );
        self.crop.tally.counts[op as usize] += 1;
    }

    fn odd(&mut self, entry: &Entry, reason: &str, offset: u64) {
        self.crop.tally.odd += 1;
        let (log, expected) = (self.log.to_owned(), format!("a path that a store can hold, not {reason}"));
        let text = String::from_utf8_lossy(&entry.path).into_owned();
        keep(&mut self.crop.bad, vec![Bad { log, offset, column: 0, expected, text }]);
    }

    fn bad(&self, bad: &records::Bad) -> Bad {
        let text = String::from_utf8_lossy(&bad.text).into_owned();
        let (log, expected) = (self.log.to_owned(), bad.expected.to_owned());
        Bad { log, offset: bad.offset, column: bad.column, expected, text }
    }
}

/// Spells times as the change log has them. Neighbouring lines are of about the same time: what two in one minute have in
/// common is found out once.
#[derive(Default)]
struct Clockwork {
    /// Of the log's clock, without its seconds.
    minute: Option<NaiveDateTime>,
    ahead: TimeDelta,
    text: String,
}

impl Clockwork {
    fn spell(&mut self, meaning: &Meaning, time: NaiveDateTime) -> &str {
        let minute = time.with_second(0).and_then(|time| time.with_nanosecond(0));
        if minute.is_none() || minute != self.minute {
            let utc = meaning.utc(time);
            self.ahead = time.trunc_subsecs(6) - utc.naive_utc();
            self.minute = minute;
            self.text = (time.trunc_subsecs(6) - self.ahead).format("%Y-%m-%dT%H:%M:").to_string();
        }
        self.text.truncate(self.text.rfind(':').map_or(0, |colon| colon + 1));
        let (seconds, micros) = (time.second(), time.nanosecond() % 1_000_000_000 / 1000);
        _ = write!(self.text, "{seconds:02}.{micros:06}Z"); // a string takes everything
        &self.text
    }
}

/// A change as a line, without a copy of its parts.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    op: Op,
    path: &'a RelPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<RelPath>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    into: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    log: &'a str,
    offset: u64,
}

/// Appends a change as a line of JSON.
pub fn append(json: &mut Vec<u8>, change: &impl Serialize) {
    serde_json::to_writer(&mut *json, change).expect("a change has string keys only, and a vector takes all bytes");
    json.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_spelled_as_in_every_other_place() {
        for (zone, dialect) in [("UTC", "hdfs"), ("Europe/Berlin", "hdfs"), ("-03:30", "hdfs")] {
            let meaning = Meaning {
                dialect: syncd_parsers::dialect::by_name(dialect).expect("known"),
                zone: zone.parse().expect("a zone"),
                scope: crate::scope::Scope::new("/").expect("a root"),
                since: None,
                until: None,
                now: None,
            };
            let mut clock = Clockwork::default();
            for time in [
                "2022-10-30T01:59:59.999999999",
                "2022-10-30T02:00:00",
                "2022-10-30T02:30:15.250",
                "2022-10-30T03:00:00.000001",
                "2022-10-30T03:00:59.5",
                "2022-03-27T02:30:00.5",
            ] {
                let time: NaiveDateTime = time.parse().expect("a time");
                let utc = super::super::manifest::spelled(meaning.utc(time));
                assert_eq!(clock.spell(&meaning, time), utc, "{time} in {zone}");
            }
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
