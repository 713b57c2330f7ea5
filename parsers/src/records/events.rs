//! Records whose lines stand apart: all lines of one event, with lines of others between them. Finds the lines; which event
//! one is of the dialect tells.
//!
//! A line whose event was not seen in the [`EVENT_REACH`] bytes before it is the first of a record, which takes every line
//! of the event as far after it. Whatever else is of that event is too far off, and bad. So what a place belongs to shows
//! within twice that reach.

use super::{EVENT_REACH, End, LINE_MAX, Line, Taker, end_of_lines, lines_from};
use crate::dialect::Dialect;
use crate::error::{ParseError, ParseErrorKind};
use memchr::memchr;
use std::collections::HashMap;
use std::ops::Range;

/// How many bytes are held back only so that events whose lines mingle stay together.
const HELD_MAX: usize = 4 * EVENT_REACH;

/// See [`super::decided`].
pub(super) fn decided(dialect: &dyn Dialect, bytes: &[u8], end: End) -> usize {
    let whole = end_of_lines(bytes, end);
    let items = items(dialect, bytes, start_from(bytes, whole.saturating_sub(HELD_MAX))..whole, end);
    let is_open = |item: &&Item| match item.kind {
        Kind::Event => whole - item.first.start <= EVENT_REACH && !is_settled(dialect, bytes, item, end),
        Kind::Alone | Kind::Stray => false,
    };
    let Some(open) = items.iter().find(is_open) else { return whole };
    border_before(&items, open.first.start, whole)
}

/// See [`super::parse_range`].
pub(super) fn read(bytes: &[u8], range: Range<usize>, end: End, mut taker: Taker) {
    for item in items(taker.dialect, bytes, range, end) {
        let at = item.first.start;
        match item.kind {
            Kind::Event | Kind::Alone => taker.take(at, &item.text(bytes), item.lines),
            Kind::Stray => {
                taker.out.lines += 1;
                let error = match item.first.is_cut {
                    true => ParseError::malformed(LINE_MAX, "a shorter line"),
                    false => ParseError::malformed(0, "a line near the others of its event"),
                };
                taker.set_aside(at, &bytes[at..item.first.end], &error);
            }
        }
    }
}

/// What begins with one line.
struct Item {
    kind: Kind,
    first: Line,
    /// The lines after the first, those that follow each other in one.
    more: Vec<Range<usize>>,
    lines: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    /// A line of no event.
    Alone,
    /// A line too far from its event, or too long.
    Stray,
}

impl Item {
    fn of(kind: Kind, first: Line) -> Self {
        Self { kind, first, more: Vec::new(), lines: 1 }
    }

    fn add(&mut self, line: Line) {
        self.lines += 1;
        let end = self.more.last().map_or(self.first.end, |last| last.end);
        match self.more.last_mut() {
            Some(last) if end + 1 == line.start => last.end = line.end,
            _ => self.more.push(line.start..line.end),
        }
    }

    fn end(&self) -> usize {
        self.more.last().map_or(self.first.end, |last| last.end)
    }

    /// Its lines with the newlines between them; without a copy where they follow each other.
    fn text<'a>(&self, bytes: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let first = &bytes[self.first.start..self.first.end];
        match self.more.as_slice() {
            [] => first.into(),
            [more] if more.start == self.first.next => bytes[self.first.start..more.end].into(),
            more => {
                let more = more.iter().map(|lines| &bytes[lines.clone()]);
                std::iter::once(first).chain(more).collect::<Vec<_>>().join(&b'\n').into()
            }
        }
    }
}

/// What begins in a range, in order.
fn items(dialect: &dyn Dialect, bytes: &[u8], range: Range<usize>, end: End) -> Vec<Item> {
    let mut items = Vec::new();
    let mut seen: HashMap<&[u8], Seen> = HashMap::new();
    let from = start_from(bytes, range.start.saturating_sub(2 * EVENT_REACH));
    let until = range.end.saturating_add(EVENT_REACH);
    for line in lines_from(bytes, from, end).take_while(|line| line.start < until) {
        let is_inside = range.contains(&line.start);
        let event = dialect.event(&bytes[line.start..line.end]).filter(|_| !line.is_cut);
        let Some(event) = event else {
            let kind = if line.is_cut { Kind::Stray } else { Kind::Alone };
            items.extend(is_inside.then(|| Item::of(kind, line)));
            continue;
        };
        let near = |at: usize| line.start - at <= EVENT_REACH;
        match seen.get_mut(event).filter(|seen| near(seen.last)) {
            None => {
                let item = is_inside.then_some(items.len());
                items.extend(is_inside.then(|| Item::of(Kind::Event, line)));
                seen.insert(event, Seen { first: line.start, last: line.start, item });
            }
            Some(seen) => {
                seen.last = line.start;
                match (seen.item, near(seen.first)) {
                    (Some(item), true) => items[item].add(line),
                    (None, true) => {}
                    (_, false) => items.extend(is_inside.then(|| Item::of(Kind::Stray, line))),
                }
            }
        }
    }
    items
}

/// Where an event was met.
struct Seen {
    first: usize,
    last: usize,
    /// Which item it is; `None` if it begins elsewhere.
    item: Option<usize>,
}

/// On a log that is quiet for now, an event that is complete is read.
fn is_settled(dialect: &dyn Dialect, bytes: &[u8], item: &Item, end: End) -> bool {
    let is_incomplete = || {
        let result = dialect.parse(&item.text(bytes), &mut Vec::new());
        result.is_err_and(|error| error.kind == ParseErrorKind::Incomplete)
    };
    end == End::Quiet && !is_incomplete()
}

/// The last place up to `at` that no event reaches across. Events could mingle without end: then `at`, and lines may later
/// be taken for events of their own.
fn border_before(items: &[Item], at: usize, whole: usize) -> usize {
    let mut border = at;
    for item in items.iter().rev() {
        if item.first.start < border && item.end() > border {
            border = item.first.start;
        }
    }
    if whole - border > HELD_MAX - 2 * EVENT_REACH { at } else { border }
}

/// Where a line begins, at a place or after it.
fn start_from(bytes: &[u8], at: usize) -> usize {
    if at == 0 {
        return 0;
    }
    memchr(b'\n', &bytes[at - 1..]).map_or(bytes.len(), |newline| at + newline)
}
