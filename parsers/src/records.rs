//! Puts lines together into records and runs a dialect over them. Pure: a block of bytes in, entries
//! and bad lines out; where blocks come from and how far a log was read is the caller's to know.
//!
//! Logs that escape nothing break a name with a newline over several lines, and what follows may look
//! like a record of its own. So each line that begins a record is read by itself, and if it is incomplete
//! also joined with the next few lines, in every length; each reading counts. What a line gives depends
//! on itself and the lines after it alone, so a block may be read in pieces and in any order.

use crate::change::Entry;
use crate::dialect::Dialect;
use crate::error::{ParseError, ParseErrorKind};
use chrono::NaiveDateTime;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// With how many following lines an incomplete one is joined.
pub const CONTINUATIONS_MAX: usize = 8;
/// Bytes of a record that is joined from several lines.
pub const JOINED_MAX: usize = 16 * 1024;
/// Bytes of a line; a longer one is bad, and cut at this length.
pub const LINE_MAX: usize = 1024 * 1024;
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
    /// In the order of lines; the first [`BAD_KEPT_MAX`].
    pub bad: Vec<Bad>,
    /// All that are bad.
    pub bad_lines: u64,
    pub lines: u64,
    /// Records read whole, those included that change nothing.
    pub records: u64,
    /// The earliest time of a record, in the log's own zone.
    pub first_time: Option<NaiveDateTime>,
    /// The latest.
    pub last_time: Option<NaiveDateTime>,
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

/// Reads what of a block can be read now, and says how many bytes that was: whole lines only. What is
/// left, at most [`CONTINUATIONS_MAX`] lines and a part of one, comes first in the next block.
/// `base_offset` is where the block begins in its log.
pub fn parse_block(dialect: &dyn Dialect, block: &[u8], base_offset: u64, end: End, out: &mut Parsed) -> usize {
    let decided = decided(dialect, block, end);
    parse_range(dialect, block, 0..decided, base_offset, end, out);
    decided
}

/// How many bytes of a block hold lines whose readings cannot change by what follows the block.
#[must_use]
pub fn decided(dialect: &dyn Dialect, block: &[u8], end: End) -> usize {
    Block { dialect, bytes: block, end }.decided()
}

/// Reads the lines that begin in one range of a block's decided part. The range begins where a line
/// begins; the lines before and after it are looked at, too. All ranges of [`split_for_parallel`], put together by
/// [`Parsed::append`], give what one range gives.
pub fn parse_range(
    dialect: &dyn Dialect,
    block: &[u8],
    range: Range<usize>,
    base_offset: u64,
    end: End,
    out: &mut Parsed,
) {
    let block = Block { dialect, bytes: block, end };
    let mut reader =
        Reader { block, base_offset, covered: block.covered_before(range.start), scratch: Vec::new(), out };
    block.lines(range.start).take_while(|line| line.start < range.end).for_each(|line| reader.read(line));
}

/// About equal pieces of the decided part of a block, each beginning where a line begins. None is
/// empty, and there may be fewer than asked for.
#[must_use]
pub fn split_for_parallel(decided: &[u8], pieces: usize) -> Vec<Range<usize>> {
    let pieces = pieces.max(1);
    let border = |piece: usize| match piece {
        0 => 0,
        piece => start_after(decided, decided.len() / pieces * piece),
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
        let room = BAD_KEPT_MAX.saturating_sub(self.bad.len());
        self.bad.extend(later.bad.into_iter().take(room));
        self.bad_lines += later.bad_lines;
        self.lines += later.lines;
        self.records += later.records;
        later.first_time.into_iter().chain(later.last_time).for_each(|time| self.see(time));
    }

    fn see(&mut self, time: NaiveDateTime) {
        self.first_time = Some(self.first_time.map_or(time, |first| first.min(time)));
        self.last_time = Some(self.last_time.map_or(time, |last| last.max(time)));
    }

    fn set_aside(&mut self, bad: impl FnOnce() -> Bad) {
        self.bad_lines += 1;
        if self.bad.len() < BAD_KEPT_MAX {
            self.bad.push(bad());
        }
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

#[derive(Clone, Copy)]
struct Block<'a> {
    dialect: &'a dyn Dialect,
    bytes: &'a [u8],
    end: End,
}

impl<'a> Block<'a> {
    fn text(&self, line: Line) -> &'a [u8] {
        &self.bytes[line.start..line.end]
    }

    /// The line that begins here; `None` if there is none, or its end is still to come.
    fn line_at(&self, start: usize) -> Option<Line> {
        let rest = &self.bytes[start..];
        let window = &rest[..rest.len().min(LINE_MAX + 1)];
        let whole = |end: usize, next: usize| Some(Line { start, end, next, is_cut: false });
        match memchr(b'\n', window) {
            Some(newline) => whole(start + newline, start + newline + 1),
            None if window.len() > LINE_MAX => {
                let end = start + LINE_MAX;
                Some(Line { start, end, next: end, is_cut: true })
            }
            None if self.end == End::Closed && !rest.is_empty() => whole(self.bytes.len(), self.bytes.len()),
            None => None,
        }
    }

    fn lines(self, start: usize) -> impl Iterator<Item = Line> + 'a {
        std::iter::successors(self.line_at(start), move |line| self.line_at(line.next))
    }

    /// The lines just before a place where one begins, as far as a record that begins in them could reach, in order.
    fn lines_before(&self, at: usize) -> impl Iterator<Item = Line> {
        let starts = std::iter::successors(self.line_before(at), |start| self.line_before(*start));
        let near = starts.take(CONTINUATIONS_MAX).take_while(|start| at - start <= JOINED_MAX);
        let first = near.last().unwrap_or(at);
        self.lines(first).take_while(move |line| line.start < at)
    }

    /// Where the line begins that ends just before a place; `None` if that is too far for a joined record.
    fn line_before(&self, at: usize) -> Option<usize> {
        let newline = at.checked_sub(1)?;
        let earliest = newline.saturating_sub(JOINED_MAX);
        match memrchr(b'\n', &self.bytes[earliest..newline]) {
            Some(before) => Some(earliest + before + 1),
            None => (earliest == 0).then_some(0),
        }
    }

    /// The joins of a line with those after it that are tried.
    fn joins(self, line: Line) -> impl Iterator<Item = Line> + 'a {
        let following = self.lines(line.next).take(CONTINUATIONS_MAX);
        following.take_while(move |last| !last.is_cut && last.end - line.start <= JOINED_MAX)
    }

    fn is_incomplete(&self, line: Line, scratch: &mut Vec<Entry>) -> bool {
        scratch.clear();
        let result = self.dialect.parse(self.text(line), scratch);
        !line.is_cut && result.is_err_and(|error| error.kind == ParseErrorKind::Incomplete)
    }

    /// Reads every join of an incomplete line. Returns where the longest ends that a line completes
    /// which begins no record by itself.
    fn join(&self, line: Line, entries: &mut Vec<Entry>) -> Option<(usize, NaiveDateTime)> {
        let mut reach = None;
        for last in self.joins(line) {
            let joined = self.dialect.parse(&self.bytes[line.start..last.end], entries);
            if let Ok(time) = joined
                && !self.dialect.begins(self.text(last))
            {
                reach = Some((last.next, time));
            }
        }
        reach
    }

    /// Up to where the lines are covered by records that begin before a place.
    fn covered_before(&self, at: usize) -> usize {
        let mut scratch = Vec::new();
        let reach = |line| {
            let is_incomplete = self.is_incomplete(line, &mut scratch);
            is_incomplete.then(|| self.join(line, &mut scratch)).flatten().map(|(reach, _)| reach)
        };
        self.lines_before(at).filter_map(reach).max().unwrap_or(0)
    }

    fn decided(&self) -> usize {
        if self.end == End::Closed {
            return self.bytes.len();
        }
        let whole = self.end_of_lines();
        let mut scratch = Vec::new();
        let first_open = self.lines_before(whole).find(|line| self.is_open(*line, &mut scratch));
        first_open.map_or(whole, |line| self.border_before(line.start, whole))
    }

    fn end_of_lines(&self) -> usize {
        let start = memrchr(b'\n', self.bytes).map_or(0, |newline| newline + 1);
        self.lines(start).last().map_or(start, |line| line.next)
    }

    /// Whether lines that are still to come could give this one another reading.
    fn is_open(&self, line: Line, scratch: &mut Vec<Entry>) -> bool {
        if !self.is_incomplete(line, scratch) {
            return false;
        }
        let has_room = self.bytes.len() - line.start <= JOINED_MAX;
        let lacks_lines = self.lines(line.next).take(CONTINUATIONS_MAX).count() < CONTINUATIONS_MAX;
        let is_settled = self.end == End::Quiet && self.join(line, scratch).is_some();
        has_room && lacks_lines && !is_settled
    }

    /// The last place up to `at` that no record reaches across. Lines could be made to reach across each
    /// other without end: then `at`, and a line may later be called bad that was part of a record.
    fn border_before(&self, at: usize, whole: usize) -> usize {
        let mut border = at;
        let mut scratch = Vec::new();
        let mut crosses = |line: &Line, border: usize| {
            self.is_incomplete(*line, &mut scratch)
                && self.join(*line, &mut scratch).is_some_and(|(reach, _)| reach > border)
        };
        while let Some(line) = self.lines_before(border).find(|line| crosses(line, border)) {
            if whole - line.start > HELD_MAX {
                return at;
            }
            border = line.start;
        }
        border
    }
}

/// Reads the lines of one range, in order.
struct Reader<'a, 'o> {
    block: Block<'a>,
    base_offset: u64,
    /// Lines that begin before this place are part of a record, if they are none themselves.
    covered: usize,
    /// What the current record gives.
    scratch: Vec<Entry>,
    out: &'o mut Parsed,
}

impl Reader<'_, '_> {
    fn read(&mut self, line: Line) {
        self.out.lines += 1;
        let text = self.block.text(line);
        match self.block.dialect.parse(text, &mut self.scratch) {
            Ok(time) if !line.is_cut => self.take_record(time),
            Err(error) if !self.block.dialect.begins(text) => self.take_other(line, &error),
            Err(error) if error.kind == ParseErrorKind::Incomplete && !line.is_cut => {
                self.take_incomplete(line, &error)
            }
            Err(error) => self.give_up(line, &error),
            Ok(_) => self.give_up(line, &ParseError::malformed(LINE_MAX, "a shorter line")),
        }
        let offset = self.base_offset + line.start as u64;
        self.out.entries.extend(self.scratch.drain(..).map(|entry| (offset, entry)));
    }

    fn take_record(&mut self, time: NaiveDateTime) {
        self.out.records += 1;
        self.out.see(time);
    }

    /// A line that begins no record: part of one, or bad.
    fn take_other(&mut self, line: Line, error: &ParseError) {
        if line.start >= self.covered {
            self.set_aside(line, error);
        }
    }

    fn take_incomplete(&mut self, line: Line, error: &ParseError) {
        let reach = self.block.join(line, &mut self.scratch);
        let next = self.block.line_at(line.next);
        match reach {
            Some((reach, time)) => {
                self.covered = self.covered.max(reach);
                self.take_record(time);
                // The next line may be part of the name, or a record that follows one that was cut off.
                if next.is_some_and(|next| self.block.dialect.begins(self.block.text(next))) {
                    self.block.dialect.salvage(self.block.text(line), &mut self.scratch);
                }
            }
            None => self.give_up(line, error),
        }
        remove_doubles(&mut self.scratch);
    }

    fn give_up(&mut self, line: Line, error: &ParseError) {
        self.set_aside(line, error);
        self.block.dialect.salvage(self.block.text(line), &mut self.scratch);
    }

    fn set_aside(&mut self, line: Line, error: &ParseError) {
        let text = self.block.text(line);
        self.out.set_aside(|| Bad {
            offset: self.base_offset + line.start as u64,
            column: error.column,
            expected: error.expected,
            text: text[..text.len().min(BAD_TEXT_MAX)].to_vec(),
        });
    }
}

/// Longer joins repeat readings of shorter ones. There are few.
fn remove_doubles(entries: &mut Vec<Entry>) {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        if !kept.contains(&entry) {
            kept.push(entry);
        }
    }
    *entries = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Op;
    use crate::hdfs::Hdfs;

    const HEAD: &str = "2026-11-21 03:51:07,555 x: allowed=true\tugi=u (auth:SIMPLE)\tip=/1\tcmd=";
    const DIALECT: Hdfs = Hdfs { names: crate::hdfs::Names::Either };

    fn delete(path: &str) -> String {
        format!("{HEAD}delete\tsrc={path}\tdst=null\tperm=null\n")
    }

    fn read(block: &str, end: End) -> (Parsed, usize) {
        let mut parsed = Parsed::default();
        let consumed = parse_block(&DIALECT, block.as_bytes(), 0, end, &mut parsed);
        (parsed, consumed)
    }

    #[test]
    fn a_complete_line_is_not_held_back() {
        let log = delete("/a");
        let (parsed, consumed) = read(&log, End::More);
        assert_eq!((parsed.entries.len(), consumed), (1, log.len()));
    }

    #[test]
    fn a_line_without_its_newline_waits_for_it() {
        let log = delete("/a") + delete("/b").trim_end();
        let (parsed, consumed) = read(&log, End::More);
        assert_eq!((parsed.entries.len(), consumed), (1, delete("/a").len()));
        assert_eq!(read(&log, End::Closed).0.entries.len(), 2);
    }

    #[test]
    fn an_incomplete_record_waits_for_as_many_lines_as_could_be_part_of_it() {
        let mut log = delete("/before") + &delete("/a\nb");
        let held = delete("/before").len();
        for others in 1..CONTINUATIONS_MAX {
            assert_eq!(read(&log, End::More).1, held, "with {others} more lines");
            log += &delete("/other");
        }
        let (parsed, consumed) = read(&log, End::More);
        assert_eq!(consumed, log.len());
        assert!(parsed.entries.iter().any(|(_, entry)| entry.path == b"/a\nb"));
        assert_eq!(parsed.bad_lines, 0);
    }

    #[test]
    fn a_record_too_long_to_be_joined_is_not_waited_for() {
        let log = format!("{HEAD}delete\tsrc=/d/{}\n", "x".repeat(JOINED_MAX));
        let (parsed, consumed) = read(&log, End::More);
        assert_eq!((parsed.bad_lines, consumed), (1, log.len()));
        assert_eq!((parsed.entries[0].1.op, &*parsed.entries[0].1.path), (Op::Rescan, &b"/d"[..]));
    }

    #[test]
    fn on_a_quiet_log_a_record_that_is_complete_in_one_way_is_read() {
        let log = delete("/a\nb");
        let (parsed, consumed) = read(&log, End::Quiet);
        assert_eq!((parsed.entries.len(), parsed.bad_lines, consumed), (1, 0, log.len()));
    }

    #[test]
    fn on_a_quiet_log_a_record_that_nothing_completes_waits() {
        let log = format!("{HEAD}delete\tsrc=/d/half\n");
        assert_eq!(read(&log, End::Quiet), (Parsed::default(), 0));
    }

    #[test]
    fn a_line_beyond_the_limit_is_bad_in_pieces_and_the_next_is_read() {
        let log = "x".repeat(LINE_MAX * 2 + 5) + "\n" + &delete("/a");
        for end in [End::More, End::Closed] {
            let (parsed, consumed) = read(&log, end);
            assert_eq!((parsed.bad_lines, parsed.entries.len(), consumed), (3, 1, log.len()));
            assert!(parsed.bad.iter().all(|bad| bad.text.len() <= BAD_TEXT_MAX));
        }
    }

    #[test]
    fn a_line_of_just_the_limit_is_read() {
        let filler = LINE_MAX - (delete("/").len() - 1);
        let (parsed, _) = read(&delete(&format!("/{}", "x".repeat(filler))), End::More);
        assert_eq!((parsed.bad_lines, parsed.entries.len()), (0, 1));
        let (parsed, _) = read(&delete(&format!("/{}", "x".repeat(filler + 1))), End::More);
        assert!(parsed.bad_lines > 0);
    }

    #[test]
    fn an_unterminated_line_beyond_the_limit_is_not_kept() {
        let log = "x".repeat(LINE_MAX + 1);
        assert_eq!(read(&log, End::More).1, LINE_MAX);
    }

    #[test]
    fn bad_lines_are_all_counted_and_the_first_are_kept() {
        let (mut parsed, _) = read(&"?\n".repeat(BAD_KEPT_MAX + 1), End::More);
        assert_eq!((parsed.bad.len(), parsed.bad_lines), (BAD_KEPT_MAX, BAD_KEPT_MAX as u64 + 1));
        parsed.append(read("?\n", End::More).0);
        assert_eq!((parsed.bad.len(), parsed.bad_lines), (BAD_KEPT_MAX, BAD_KEPT_MAX as u64 + 2));
    }

    #[test]
    fn records_that_reach_across_each_other_stay_together_but_not_without_end() {
        let pair = format!("{HEAD}delete\tsrc=/a\nx\tdst=null\tperm=null\n");
        assert_eq!(read(&pair.repeat(20), End::More).1, 0);
        let chain = pair.repeat(HELD_MAX / pair.len() + 20);
        let (parsed, consumed) = read(&chain, End::More);
        assert!(chain.len() - consumed < CONTINUATIONS_MAX * pair.len(), "held {}", chain.len() - consumed);
        assert_eq!(parsed.bad_lines, 0);
    }

    #[test]
    fn offsets_count_from_the_beginning_of_the_log() {
        let mut parsed = Parsed::default();
        let log = delete("/a") + "?\n" + &delete("/b");
        parse_block(&DIALECT, log.as_bytes(), 1000, End::More, &mut parsed);
        let first = delete("/a").len() as u64;
        assert_eq!(parsed.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [1000, 1002 + first]);
        assert_eq!(parsed.bad[0].offset, 1000 + first);
    }

    #[test]
    fn pieces_cover_the_block_and_begin_where_lines_begin() {
        let log = (delete("/a") + "\n" + &delete("/b\nc")).repeat(20);
        for pieces in (0..50).chain([log.len(), log.len() + 1]) {
            let ranges = split_for_parallel(log.as_bytes(), pieces);
            let mut at = 0;
            for range in &ranges {
                assert!(range.start == at && !range.is_empty(), "{ranges:?}");
                assert!(at == 0 || log.as_bytes()[at - 1] == b'\n');
                at = range.end;
            }
            assert!(at == log.len() && ranges.len() <= pieces.max(1));
        }
        assert!(split_for_parallel(b"", 4).is_empty());
    }

    #[test]
    fn the_times_of_a_block_are_its_earliest_and_latest_in_whatever_order() {
        let log = delete("/b") + &delete("/a").replace("07,555", "05,001") + &delete("/c").replace("07,555", "06,000");
        let (parsed, _) = read(&log, End::More);
        let text = |time: Option<NaiveDateTime>| time.expect("a time").to_string();
        assert_eq!(text(parsed.first_time), "2026-11-21 03:51:05.001");
        assert_eq!(text(parsed.last_time), "2026-11-21 03:51:07.555");
    }
}
