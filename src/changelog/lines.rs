//! Blocks of a log to lines of the change log, and what there was to count. Pure; uses all cores, and gives the same
//! whatever their number.

use crate::scope::{Effect, Scope, Scoped};
use crate::tail::{Block, Follows};
use crate::zone::Zone;
use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use syncd_parsers::records::{self, Parsed};
use syncd_parsers::spans::{Span, Spans};
use syncd_parsers::{Change, Dialect, Entry, Op};

/// How many set-aside records of one window are kept; all are counted.
pub const BAD_KEPT: usize = 1000;

/// What one core takes at a time, about.
const PIECE_BYTES: usize = 256 << 10;

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

/// What came of some lines.
#[derive(Default)]
pub struct Crop {
    /// Lines of the change log.
    pub json: Vec<u8>,
    pub tally: Tally,
    /// The first of the records that were set aside.
    pub bad: Vec<Bad>,
    /// Where the line begins at which reading ends.
    pub stop: Option<u64>,
    /// The latest time of a record.
    pub last_time: Option<DateTime<Utc>>,
}

/// How much of a block was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Bytes whose lines are read.
    pub bytes: usize,
    /// How many of these, at the end, what follows may still give another meaning.
    pub open: usize,
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
    /// Changes that are later than now.
    pub future: u64,
    pub counts: BTreeMap<Op, u64>,
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

/// Reads what can be read now of a block of `log`.
pub fn reap(meaning: &Meaning, log: &str, block: &Block) -> (Crop, Used) {
    let used = used(meaning.dialect, block);
    let crop = reap_up_to(meaning, log, block, used.bytes);
    let Some(stop) = crop.stop else { return (crop, used) };
    // Once more, so that nothing after that line is counted.
    let bytes = usize::try_from(stop - block.offset).unwrap_or(0);
    (Crop { stop: Some(stop), ..reap_up_to(meaning, log, block, bytes) }, Used { bytes, open: 0 })
}

fn reap_up_to(meaning: &Meaning, log: &str, block: &Block, bytes: usize) -> Crop {
    let ranges = records::split_for_parallel(meaning.dialect, &block.bytes[..bytes], bytes / PIECE_BYTES + 1);
    let reap = |range: Range<usize>| {
        let mut parsed = Parsed::default();
        records::parse_range(meaning.dialect, &block.bytes, range, block.offset, end(block.follows), &mut parsed);
        Row { meaning, log, crop: Crop::default() }.reap(&parsed)
    };
    let crops: Vec<Crop> = ranges.into_par_iter().map(reap).collect();
    let mut all = Crop::default();
    crops.into_iter().for_each(|crop| all.add(crop));
    all
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
        self.json.extend_from_slice(&other.json);
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
        self.future += other.future;
        for (op, count) in &other.counts {
            *self.counts.entry(*op).or_default() += count;
        }
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
        self.spans.append(&other.spans);
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
    fn reap(mut self, parsed: &Parsed) -> Crop {
        let tally = &mut self.crop.tally;
        (tally.lines, tally.bad, tally.records) = (parsed.lines, parsed.bad_lines, parsed.records);
        tally.first = parsed.first_time.map(|time| self.meaning.utc(time));
        self.note_last(parsed);
        self.note_spans(parsed);
        self.crop.bad = parsed.bad.iter().take(BAD_KEPT).map(|bad| self.bad(bad)).collect();
        let mut with_changes = 0;
        let mut before = None;
        for (offset, entry) in &parsed.entries {
            if self.meaning.until.is_some_and(|until| self.meaning.utc(entry.time) >= until) {
                self.crop.stop = Some(*offset);
                break;
            }
            with_changes += u64::from(before.replace(offset) != Some(offset));
            self.entry(entry, *offset);
        }
        self.crop.tally.ignored = parsed.records.saturating_sub(with_changes);
        self.crop
    }

    /// How far the log is known: as far as its latest time, unless that is forged, or of a wrong clock.
    fn note_last(&mut self, parsed: &Parsed) {
        let credible = |time: &DateTime<Utc>| self.meaning.now.is_none_or(|now| *time <= now);
        let times = || parsed.entries.iter().map(|(_, entry)| self.meaning.utc(entry.time));
        let latest = parsed.last_time.map(|time| self.meaning.utc(time));
        let last = latest.filter(credible).or_else(|| times().filter(credible).max());
        let strange = |time: &DateTime<Utc>| self.meaning.now.is_some_and(|now| *time > now + AHEAD_MAX);
        self.crop.tally.future = times().filter(strange).count() as u64;
        self.crop.last_time = latest;
        self.crop.tally.last = last;
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
        let (time, user, log) = (self.meaning.utc(entry.time), entry.user.clone(), self.log.to_owned());
        append(&mut self.crop.json, &Change { time, op, path, to, into, user, log, offset });
        *self.crop.tally.counts.entry(op).or_default() += 1;
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

impl Meaning {
    fn utc(&self, time: NaiveDateTime) -> DateTime<Utc> {
        self.zone.earliest(time).trunc_subsecs(6)
    }
}

/// Appends `change` as a line of JSON.
pub fn append(json: &mut Vec<u8>, change: &Change) {
    let line = serde_json::to_vec(change).expect("a change has string keys only, and a vector takes all bytes");
    json.extend_from_slice(&line);
    json.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_aside_records_are_kept_up_to_the_limit() {
        let bad = Bad { log: String::new(), offset: 0, column: 0, expected: String::new(), text: String::new() };
        let mut kept = vec![bad.clone(); BAD_KEPT - 1];
        keep(&mut kept, vec![bad; 5]);
        assert_eq!(kept.len(), BAD_KEPT);
    }
}
