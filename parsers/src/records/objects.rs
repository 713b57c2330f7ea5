//! Records that are JSON objects, one after another, in a list, or in the first member of a wrapper. Finds where each ends;
//! what it says is the dialect's.
//!
//! No state goes from one object to the next: what opens and closes a list or a wrapper is left out wherever it stands. Where
//! a line with `{` follows one that ended with `}`, one object has ended and another begins, whatever stood before: inside of
//! JSON that cannot be. So a damaged object costs its own lines, and reading may begin at any such border.

use super::{DEPTH_MAX, End, OBJECT_MAX, Taker, line_at};
use crate::error::ParseError;
use memchr::{memchr, memchr3, memrchr};
use std::ops::Range;

/// What the first member of a wrapper may be called.
const WRAPPERS: [&[u8]; 3] = [b"\"Records\"", b"\"records\"", b"\"Messages\""];
/// Bytes of what opens a wrapper, or follows its records.
const WRAPPING_MAX: usize = 4 * 1024;
const BROKEN: ParseError =
    ParseError { column: 0, expected: "a JSON object", kind: crate::error::ParseErrorKind::Malformed };

/// See [`super::decided`].
pub(super) fn decided(bytes: &[u8], end: End) -> usize {
    let mut at = border_before(bytes, bytes.len());
    loop {
        match step(bytes, at, end) {
            Step::Record(range) | Step::Bad(range) => at = range.end,
            Step::Open(at) => return at,
        }
    }
}

/// See [`super::parse_range`].
pub(super) fn read(bytes: &[u8], range: Range<usize>, end: End, mut taker: Taker) {
    let mut at = border_before(bytes, range.start);
    loop {
        let (found, is_whole) = match step(bytes, at, end) {
            Step::Open(_) => return,
            Step::Record(found) => (found, true),
            Step::Bad(found) => (found, false),
        };
        at = found.end;
        match (found.start, is_whole) {
            (start, _) if start >= range.end => return,
            (start, _) if start < range.start => {}
            (start, true) => taker.take(start, &bytes[found], 1),
            (start, false) => {
                taker.out.lines += 1;
                let text = bytes[found].trim_ascii_end();
                taker.give_up(start, text, &BROKEN);
                taker.give(start, text);
            }
        }
    }
}

/// The first border at or after a place; the end if there is none.
pub(super) fn border_after(bytes: &[u8], at: usize) -> usize {
    let mut from = at.saturating_sub(1);
    while let Some(newline) = memchr(b'\n', &bytes[from..]) {
        from += newline + 1;
        if is_border(bytes, from) {
            return from;
        }
    }
    bytes.len()
}

/// The last border at or before a place; the beginning is one.
fn border_before(bytes: &[u8], at: usize) -> usize {
    let mut to = (at + 1).min(bytes.len());
    while let Some(newline) = memrchr(b'\n', &bytes[..to]) {
        if newline < at && is_border(bytes, newline + 1) {
            return newline + 1;
        }
        to = newline;
    }
    0
}

/// True if a line begins here with `{`, and the one before ended with `}`.
fn is_border(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    bytes.get(at) == Some(&b'{') && before.is_some_and(|line| line.ends_with(b"}"))
}

/// What stands at a place between records.
enum Step {
    Record(Range<usize>),
    /// No object, or a damaged one: to the end of its first line.
    Bad(Range<usize>),
    /// Nothing to be read yet from here on, or nothing at all.
    Open(usize),
}

fn step(bytes: &[u8], mut at: usize, end: End) -> Step {
    loop {
        at += blank(&bytes[at..]);
        let skipped = match bytes.get(at) {
            None => return Step::Open(at),
            Some(b'{') => opening(&bytes[at..]),
            Some(b']') => closing(&bytes[at..]),
            Some(_) => return bad(bytes, at, end),
        };
        match skipped {
            Scan::Whole(len) => at += len,
            Scan::Open if end != End::Closed && bytes.len() - at <= WRAPPING_MAX => return Step::Open(at),
            Scan::Open | Scan::Broken if bytes[at] == b']' => at += 1,
            Scan::Open | Scan::Broken => return object(bytes, at, end),
        }
    }
}

fn object(bytes: &[u8], at: usize, end: End) -> Step {
    match object_len(bytes, at) {
        Scan::Whole(len) => Step::Record(at..at + len),
        Scan::Open if end != End::Closed && bytes.len() - at <= OBJECT_MAX => Step::Open(at),
        Scan::Broken => deep_len(bytes, at).map_or_else(|| bad(bytes, at, end), |len| Step::Bad(at..at + len)),
        Scan::Open => bad(bytes, at, end),
    }
}

/// The length of an object that lies too deep and ends on its own line: what follows it on the line is not its fault.
fn deep_len(bytes: &[u8], start: usize) -> Option<usize> {
    let window = &bytes[..bytes.len().min(start + OBJECT_MAX)];
    let line = &window[..memchr(b'\n', &window[start..]).map_or(window.len(), |newline| start + newline)];
    match len_within(line, start, usize::MAX) {
        Scan::Whole(len) => Some(len),
        Scan::Open | Scan::Broken => None,
    }
}

fn bad(bytes: &[u8], at: usize, end: End) -> Step {
    line_at(bytes, at, end).map_or(Step::Open(at), |line| Step::Bad(at..line.next))
}

/// How long something is that may reach beyond what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    Whole(usize),
    /// So far it could be one.
    Open,
    /// It is none.
    Broken,
}

/// What stands between records: white space, commas, the beginning of a list, a byte order mark.
fn blank(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match bytes.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[') => 1,
            Some(0xEF) if bytes[at..].starts_with(b"\xEF\xBB\xBF") => 3,
            _ => return at,
        };
    }
}

/// `{"Records":[`
fn opening(bytes: &[u8]) -> Scan {
    let mut text = Text { bytes: &bytes[..bytes.len().min(WRAPPING_MAX)], at: 1 };
    text.skip_space();
    let rest = &text.bytes[text.at..];
    let Some(name) = WRAPPERS.iter().find(|name| rest.starts_with(name)) else {
        let may_be = WRAPPERS.iter().any(|name| name.starts_with(rest));
        return if may_be { Scan::Open } else { Scan::Broken };
    };
    text.at += name.len();
    text.each(b":[")
}

/// `]}`, or `]` and the members of a wrapper that follow its records: `],"more":false}`.
fn closing(bytes: &[u8]) -> Scan {
    let mut text = Text { bytes: &bytes[..bytes.len().min(WRAPPING_MAX)], at: 1 };
    loop {
        text.skip_space();
        match text.bytes.get(text.at) {
            None => return Scan::Open,
            Some(b'}') => return Scan::Whole(text.at + 1),
            Some(b',') => text.at += 1,
            Some(_) => return Scan::Broken,
        }
        match text.member() {
            Scan::Whole(_) => {}
            other => return other,
        }
    }
}

/// A place in some JSON.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn skip_space(&mut self) {
        self.at += self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    /// These bytes, with white space before any of them.
    fn each(&mut self, expected: &[u8]) -> Scan {
        for byte in expected {
            self.skip_space();
            match self.bytes.get(self.at) {
                None => return Scan::Open,
                Some(found) if found == byte => self.at += 1,
                Some(_) => return Scan::Broken,
            }
        }
        Scan::Whole(self.at)
    }

    /// A name and a value that is neither list nor object.
    fn member(&mut self) -> Scan {
        match (self.each(b"\""), self.string(), self.each(b":")) {
            (Scan::Whole(_), Scan::Whole(_), Scan::Whole(_)) => {}
            (first, second, third) => return worst([first, second, third]),
        }
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return self.string();
        }
        let is_of_a_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let len = self.bytes[self.at..].iter().take_while(is_of_a_word).count();
        self.at += len;
        match (len, self.at == self.bytes.len()) {
            (_, true) => Scan::Open,
            (0, false) => Scan::Broken,
            (_, false) => Scan::Whole(self.at),
        }
    }

    /// To the end of a string that has begun.
    fn string(&mut self) -> Scan {
        let end = string_end(self.bytes, self.at);
        if let Scan::Whole(end) = end {
            self.at = end;
        }
        end
    }
}

/// The first that is not whole.
fn worst(scans: [Scan; 3]) -> Scan {
    scans.into_iter().find(|scan| !matches!(scan, Scan::Whole(_))).unwrap_or(Scan::Broken)
}

/// The place after the quote that ends a string; a string has no line break in it.
fn string_end(bytes: &[u8], mut at: usize) -> Scan {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr3(b'"', b'\\', b'\n', rest)) {
        at += found;
        match bytes[at] {
            b'"' => return Scan::Whole(at + 1),
            b'\\' if bytes.get(at + 1) != Some(&b'\n') => at += 2,
            _ => return Scan::Broken,
        }
    }
    Scan::Open
}

/// The length of the object that begins here, going by its quotes and brackets alone.
fn object_len(bytes: &[u8], start: usize) -> Scan {
    len_within(&bytes[..bytes.len().min(start + OBJECT_MAX)], start, DEPTH_MAX)
}

fn len_within(window: &[u8], start: usize, depth_max: usize) -> Scan {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = window.get(at) {
        at += 1;
        match byte {
            b'"' => match string_end(window, at) {
                Scan::Whole(end) => at = end,
                other => return other,
            },
            b'{' | b'[' if depth == depth_max => return Scan::Broken,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Scan::Whole(at - start),
            b'}' | b']' => depth -= 1,
            b'\n' if is_border(window, at) => return Scan::Broken,
            _ => {}
        }
    }
    Scan::Open
}
