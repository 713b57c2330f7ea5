//! Records that are lines. Logs that escape nothing break a name with a newline over several lines, and what follows may
//! look like a record of its own. So each line that begins a record is read by itself, and if it is incomplete also joined
//! with the next few lines, in every length; each reading counts. What a line gives depends on itself and the lines after
//! it alone, so a block may be read in pieces and in any order.

use super::{CONTINUATIONS_MAX, End, HELD_MAX, JOINED_MAX, LINE_MAX, Line, Taker, end_of_lines, line_at, lines_from};
use crate::change::Entry;
use crate::dialect::Dialect;
use crate::error::{ParseError, ParseErrorKind};
use chrono::NaiveDateTime;
use memchr::memrchr;
use std::ops::Range;

/// See [`super::decided`].
pub(super) fn decided(dialect: &dyn Dialect, bytes: &[u8], end: End) -> usize {
    Block { dialect, bytes, end }.decided()
}

/// See [`super::parse_range`].
pub(super) fn read(bytes: &[u8], range: Range<usize>, end: End, taker: Taker) {
    let block = Block { dialect: taker.dialect, bytes, end };
    let mut reader = Reader { block, covered: block.covered_before(range.start), taker };
    block.lines(range.start).take_while(|line| line.start < range.end).for_each(|line| reader.read(line));
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

    fn lines(self, start: usize) -> impl Iterator<Item = Line> + 'a {
        lines_from(self.bytes, start, self.end)
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
        let whole = end_of_lines(self.bytes, self.end);
        let mut scratch = Vec::new();
        let first_open = self.lines_before(whole).find(|line| self.is_open(*line, &mut scratch));
        first_open.map_or(whole, |line| self.border_before(line.start, whole))
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
    /// Lines that begin before this place are part of a record, if they are none themselves.
    covered: usize,
    taker: Taker<'a, 'o>,
}

impl Reader<'_, '_> {
    fn read(&mut self, line: Line) {
        self.taker.out.lines += 1;
        let (dialect, text) = (self.block.dialect, self.block.text(line));
        match dialect.parse(text, &mut self.taker.scratch) {
            Ok(time) if !line.is_cut => self.taker.count(time),
            Err(error) if !dialect.begins(text) => self.take_other(line, &error),
            Err(error) if error.kind == ParseErrorKind::Incomplete && !line.is_cut => {
                self.take_incomplete(line, &error)
            }
            Err(error) => self.taker.give_up(line.start, text, &error),
            Ok(_) => self.taker.give_up(line.start, text, &ParseError::malformed(LINE_MAX, "a shorter line")),
        }
        self.taker.give(line.start, text);
    }

    /// A line that begins no record: part of one, or bad.
    fn take_other(&mut self, line: Line, error: &ParseError) {
        let text = self.block.text(line);
        if line.start >= self.covered && !self.block.dialect.is_heading(text) {
            self.taker.set_aside(line.start, text, error);
        }
    }

    fn take_incomplete(&mut self, line: Line, error: &ParseError) {
        let text = self.block.text(line);
        let reach = self.block.join(line, &mut self.taker.scratch);
        let next = line_at(self.block.bytes, line.next, self.block.end);
        match reach {
            Some((reach, time)) => {
                self.covered = self.covered.max(reach);
                self.taker.count(time);
                // The next line may be part of the name, or a record that follows one that was cut off.
                if next.is_some_and(|next| self.block.dialect.begins(self.block.text(next))) {
                    self.block.dialect.salvage(text, &mut self.taker.scratch);
                }
            }
            None => self.taker.give_up(line.start, text, error),
        }
        remove_doubles(&mut self.taker.scratch);
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
    use super::super::*;
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
            let ranges = split_for_parallel(&DIALECT, log.as_bytes(), pieces);
            let mut at = 0;
            for range in &ranges {
                assert!(range.start == at && !range.is_empty(), "{ranges:?}");
                assert!(at == 0 || log.as_bytes()[at - 1] == b'\n');
                at = range.end;
            }
            assert!(at == log.len() && ranges.len() <= pieces.max(1));
        }
        assert!(split_for_parallel(&DIALECT, b"", 4).is_empty());
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
