//! The pieces that dialects of the `key=value` family share: times, the head of a record, where its
//! fields may begin, and in how many ways it can be read. What a command means is each dialect's own.

use crate::error::ParseError;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use memchr::{memchr, memchr_iter, memrchr};
use nom::IResult;
use nom::error::{Error, ErrorKind};

/// How far into a record `allowed=` may stand, in bytes: time, level, logger, host names.
const HEAD_MAX: usize = 512;
/// How many fields of one record are looked at; one that has as many is set aside. Nine lines of ordinary fields fit.
const MARKS_MAX: usize = 96;
/// How many of them need no allocation: more than any record has whose names look like names.
const MARKS_INLINE: usize = 12;
/// In how many ways one record may be read before it is set aside instead.
pub const READINGS_MAX: usize = 32;

/// `2020-07-09 18:29:24,689`, with a dot or a comma before the fraction, or none; `T` may stand for the space. Every line
/// of a log begins with one, so it is taken apart at once.
pub fn timestamp(input: &[u8]) -> IResult<&[u8], NaiveDateTime> {
    let (date, rest) = input.split_first_chunk().ok_or_else(|| no_time(input))?;
    let date = self::date(date).ok_or_else(|| no_time(input))?;
    time_of_day(rest).map(|(rest, time)| (rest, date.and_time(time)))
}

/// With the separator after it.
fn date(text: &[u8; 11]) -> Option<NaiveDate> {
    let [y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd, b' ' | b'T'] = *text else { return None };
    let year = i32::try_from(decimal(&[y, yy, yyy, yyyy])?).ok()?;
    NaiveDate::from_ymd_opt(year, decimal(&[m, mm])?, decimal(&[d, dd])?)
}

/// `18:29:24`, with a fraction of up to nine digits after a comma or a dot, or without.
pub fn time_of_day(input: &[u8]) -> IResult<&[u8], NaiveTime> {
    let (clock, after) = input.split_first_chunk().ok_or_else(|| no_time(input))?;
    let (nano, rest) = nanoseconds(after).unwrap_or((0, after));
    let time = self::clock(clock, nano).ok_or_else(|| no_time(input))?;
    Ok((rest, time))
}

fn clock(text: &[u8; 8], nano: u32) -> Option<NaiveTime> {
    let [h, hh, b':', m, mm, b':', s, ss] = *text else { return None };
    NaiveTime::from_hms_nano_opt(decimal(&[h, hh])?, decimal(&[m, mm])?, decimal(&[s, ss])?, nano)
}

/// A fraction of a second, and what follows it.
fn nanoseconds(input: &[u8]) -> Option<(u32, &[u8])> {
    let [b',' | b'.', digits @ ..] = input else { return None };
    let len = digits.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(len).filter(|_| len > 0)?;
    let missing = u32::try_from(9 - len).ok()?;
    Some((decimal(digits)? * 10_u32.pow(missing), rest))
}

fn no_time(input: &[u8]) -> nom::Err<Error<&[u8]>> {
    nom::Err::Error(Error::new(input, ErrorKind::Digit))
}

/// At most nine digits.
pub fn decimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// What stands before the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub time: NaiveDateTime,
    pub allowed: bool,
    pub separator: Separator,
    /// Where the first separator stands, in bytes from the start of the record.
    pub end: usize,
}

/// What stands between two fields. It is told by what follows `allowed=…`, which no client can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// One tab.
    Tab,
    /// One or more spaces: a copy that lost its tabs, or a dialect that never had them.
    Spaces,
}

/// Reads the time, whatever the logger put after it, and `allowed=`.
///
/// # Errors
///
/// No record begins here: always [`crate::error::ParseErrorKind::Malformed`].
pub fn head(record: &[u8]) -> Result<Head, ParseError> {
    let (rest, time) = timestamp(record).map_err(|_| ParseError::malformed(0, "a time, yyyy-MM-dd HH:mm:ss,SSS"))?;
    let after_time = record.len() - rest.len();
    let at = after_time + allowed_at(rest).ok_or(ParseError::malformed(after_time, "allowed="))?;
    let (allowed, rest) = boolean(&record[at..]).ok_or(ParseError::malformed(at, "true or false after allowed="))?;
    let separator = match rest.first() {
        Some(b'\t') | None => Separator::Tab,
        Some(b' ') => Separator::Spaces,
        Some(_) => return Err(ParseError::malformed(record.len() - rest.len(), "a tab or a space")),
    };
    Ok(Head { time, allowed, separator, end: record.len() - rest.len() })
}

/// Where the value of `allowed=` begins.
fn allowed_at(rest: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"allowed";
    let text = &rest[..rest.len().min(HEAD_MAX)];
    memchr_iter(b'=', text).find_map(|at| {
        let before = text[..at].strip_suffix(KEY)?;
        before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric()).then_some(at + 1)
    })
}

/// Yes or no, and what follows it.
fn boolean(input: &[u8]) -> Option<(bool, &[u8])> {
    let yes = input.strip_prefix(b"true").map(|rest| (true, rest));
    yes.or_else(|| input.strip_prefix(b"false").map(|rest| (false, rest)))
}

/// The fields that matter to any dialect of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Ugi,
    Ip,
    Ns,
    Cmd,
    Src,
    Dst,
    Perm,
    /// The one field at the end whose text a client chooses.
    CallerContext,
}

/// The key that some text begins with, and its length with the `=`.
fn key(text: &[u8]) -> Option<(Key, usize)> {
    match text {
        [b's', b'r', b'c', b'=', ..] => Some((Key::Src, 4)),
        [b'd', b's', b't', b'=', ..] => Some((Key::Dst, 4)),
        [b'd', b'e', b's', b't', b'=', ..] => Some((Key::Dst, 5)),
        [b'p', b'e', b'r', b'm', b'=', ..] => Some((Key::Perm, 5)),
        [b'c', b'm', b'd', b'=', ..] => Some((Key::Cmd, 4)),
        [b'i', b'p', b'=', ..] => Some((Key::Ip, 3)),
        [b'u', b'g', b'i', b'=', ..] => Some((Key::Ugi, 4)),
        [b'n', b's', b'=', ..] => Some((Key::Ns, 3)),
        [b'c', ..] if text.starts_with(b"callerContext=") => Some((Key::CallerContext, 14)),
        _ => None,
    }
}

/// A place where a field may begin. A name that holds a separator and a key makes one, too.
#[derive(Debug, Clone, Copy)]
struct Mark {
    key: Key,
    /// Where the separator before it begins, the key, and the value.
    separator: usize,
    at: usize,
    value: usize,
}

const NO_MARK: Mark = Mark { key: Key::Perm, separator: 0, at: 0, value: 0 };

/// All places in one record where a field may begin, in order.
pub struct Marks<'a> {
    record: &'a [u8],
    separator: Separator,
    inline: [Mark; MARKS_INLINE],
    len: usize,
    /// All of them, once they are too many for `inline`.
    spilled: Vec<Mark>,
}

/// A command of a record, with the place where its `src` begins. Most records have one; a name may forge
/// another, and so may a record that a crash cut off and the next one ran into.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub command: &'a [u8],
    /// Index of its mark.
    src: usize,
}

/// How one request of a record stands among the others.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub allowed: bool,
    /// Another request follows on the line.
    pub may_be_cut: bool,
}

/// True of a record that can be read in one way alone, and whose command is wanted: one line, few enough fields, one command,
/// and `src`, `dst` and `perm` right behind it. Nearly all records are so; what else one may be, [`Marks`] finds out.
#[must_use]
pub fn is_plainly(record: &[u8], head: &Head, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    let mut tabs = memchr_iter(b'\t', &record[head.end..]).map(|at| head.end + at);
    let mut fields = tabs.by_ref().take(MARKS_MAX - 1).map(|tab| (tab, key(&record[tab + 1..]).map(|(key, _)| key)));
    let Some((cmd, _)) = fields.find(|(_, key)| *key == Some(Key::Cmd)) else { return false };
    let Some((src, Some(Key::Src))) = fields.next() else { return false };
    is_wanted(&record[cmd + "\tcmd=".len()..src])
        && [Key::Dst, Key::Perm].into_iter().all(|key| fields.next().is_some_and(|(_, found)| found == Some(key)))
        && !fields.any(|(_, key)| key == Some(Key::Cmd))
        && tabs.next().is_none()
        && head.separator == Separator::Tab
        && memchr(b'\n', record).is_none()
}

/// One way to read what follows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading<'a> {
    pub src: &'a [u8],
    pub dst: &'a [u8],
}

impl<'a> Marks<'a> {
    /// # Errors
    ///
    /// There are more than anyone but a forger writes.
    pub fn of(record: &'a [u8], head: &Head) -> Result<Self, ParseError> {
        let marks = Self::of_beginning(record, head);
        let is_whole = marks.len < MARKS_MAX;
        is_whole.then_some(marks).ok_or(ParseError::malformed(head.end, "fewer fields"))
    }

    /// The first of them, however many there are.
    #[must_use]
    pub fn of_beginning(record: &'a [u8], head: &Head) -> Self {
        let inline = [NO_MARK; MARKS_INLINE];
        let mut marks = Self { record, separator: head.separator, inline, len: 0, spilled: Vec::new() };
        match head.separator {
            Separator::Tab => {
                memchr_iter(b'\t', &record[head.end..]).for_each(|at| marks.mark(head.end + at, head.end + at + 1));
            }
            Separator::Spaces => marks.mark_after_spaces(head.end),
        }
        marks
    }

    fn mark_after_spaces(&mut self, from: usize) {
        let mut at = from;
        while let Some(space) = memchr(b' ', &self.record[at..]) {
            let separator = at + space;
            at = separator + self.record[separator..].iter().take_while(|byte| **byte == b' ').count();
            self.mark(separator, at);
        }
    }

    fn mark(&mut self, separator: usize, at: usize) {
        if let Some((key, len)) = key(&self.record[at..])
            && self.len < MARKS_MAX
        {
            self.push(Mark { key, separator, at, value: at + len });
        }
    }

    fn push(&mut self, mark: Mark) {
        match self.inline.get_mut(self.len) {
            Some(place) => *place = mark,
            None if self.spilled.is_empty() => self.spilled = [&self.inline[..], &[mark]].concat(),
            None => self.spilled.push(mark),
        }
        self.len += 1;
    }

    fn all(&self) -> &[Mark] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }

    fn first(&self, key: Key) -> Option<usize> {
        self.all().iter().position(|mark| mark.key == key)
    }

    /// The text of the first field with this key, up to whatever field is next; `None` if there is none.
    #[must_use]
    pub fn text(&self, key: Key) -> Option<&'a [u8]> {
        let index = self.first(key)?;
        let end = self.all().get(index + 1).map_or(self.record.len(), |next| next.separator);
        Some(&self.record[self.all()[index].value..end])
    }

    /// The first command there is.
    #[must_use]
    pub fn first_request(&self) -> Option<Request<'a>> {
        self.requests().next()
    }

    /// The commands of the record's first line; of later lines only if the first has none. (A later line
    /// that begins a record is read as a record by itself.)
    fn requests(&self) -> impl Iterator<Item = Request<'a>> {
        let first = self.first(Key::Cmd).unwrap_or(self.len);
        let end = memchr(b'\n', self.record).unwrap_or(self.record.len());
        let is_eligible = move |index: &usize| *index == first || self.all()[*index].separator < end;
        (first..self.len).filter(is_eligible).filter_map(|index| self.request(index))
    }

    /// Reads every request. One that can be read explains the record; if none can, the last error says why.
    ///
    /// Several on one line: a name or a user that looks like fields, or a record that a crash cut off and the
    /// next one ran into. Whose `allowed=` is whose cannot be told then, so all count as allowed.
    ///
    /// # Errors
    ///
    /// There is no request (the record is incomplete), or none can be read.
    pub fn read_requests(
        &self,
        allowed: bool,
        mut read: impl FnMut(&Request<'a>, Standing) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        let mut requests = self.requests().peekable();
        let mut standing = Standing { allowed, may_be_cut: false };
        let mut result = Err(ParseError::incomplete(self.record.len(), "cmd= and src="));
        while let Some(request) = requests.next() {
            standing.may_be_cut = requests.peek().is_some();
            standing.allowed |= standing.may_be_cut;
            let this = read(&request, standing);
            result = if result.is_ok() { result } else { this };
        }
        result
    }

    /// The command at a mark, if it is one: the very next field is `src`.
    fn request(&self, index: usize) -> Option<Request<'a>> {
        let (cmd, src) = (self.all()[index], self.all().get(index + 1)?);
        let command = &self.record[cmd.value..src.separator];
        let is_command =
            cmd.key == Key::Cmd && src.key == Key::Src && !command.iter().any(|b| matches!(b, b'\t' | b'\n'));
        is_command.then_some(Request { command, src: index + 1 })
    }

    /// Where its `src` begins, in bytes from the start of the record.
    #[must_use]
    pub fn column(&self, request: &Request) -> usize {
        self.all()[request.src].value
    }

    /// The error of a request that has no reading.
    #[must_use]
    pub fn incomplete(&self) -> ParseError {
        ParseError::incomplete(self.record.len(), "dst= and perm=")
    }

    /// Every way to read the request: `src` ends at any `dst=` after it, `dst` at any `perm=` after that
    /// which can end the record. None if the record is incomplete.
    pub fn readings(&self, request: &Request<'a>) -> impl Iterator<Item = Reading<'a>> {
        let src = request.src;
        let later = move |from: usize, key| (from + 1..self.len).filter(move |index| self.all()[*index].key == key);
        later(src, Key::Dst).flat_map(move |dst| {
            later(dst, Key::Perm).filter(|perm| self.can_end(*perm)).flat_map(move |perm| {
                self.values(src, dst).flat_map(move |src| self.values(dst, perm).map(move |dst| Reading { src, dst }))
            })
        })
    }

    /// How `src` and `dst` begin, each up to the next tab or newline, for a record that cannot be read whole.
    #[must_use]
    pub fn beginnings(&self, request: &Request<'a>) -> (&'a [u8], Option<&'a [u8]>) {
        let until_border = |from: usize| {
            let rest = &self.record[from..];
            &rest[..memchr::memchr2(b'\t', b'\n', rest).unwrap_or(rest.len())]
        };
        let mut own = (request.src + 1..self.len).take_while(|index| self.all()[*index].key != Key::Cmd);
        let dst = own.find(|index| self.all()[*index].key == Key::Dst);
        (until_border(self.all()[request.src].value), dst.map(|index| until_border(self.all()[index].value)))
    }

    /// Whether a record can end after this `perm`: no line ends in what follows, except in the caller's own text.
    fn can_end(&self, perm: usize) -> bool {
        let Some(newline) = memrchr(b'\n', self.record) else { return true };
        let free_text = self.all()[perm..].iter().find(|mark| mark.key == Key::CallerContext);
        let end = free_text.map_or(self.record.len(), |mark| mark.at);
        newline < self.all()[perm].at || memchr(b'\n', &self.record[self.all()[perm].at..end]).is_none()
    }

    /// The value of one field, up to another. Where a tab became several spaces, those of the name's own
    /// end cannot be told from those of the separator: then with none of them, and with what is more than
    /// the first separator had.
    fn values(&self, field: usize, next: usize) -> impl Iterator<Item = &'a [u8]> {
        let (field, next) = (self.all()[field], self.all()[next]);
        let width = self.all()[0].at - self.all()[0].separator;
        let own = next.at.saturating_sub(width);
        let second = (self.separator == Separator::Spaces && own > next.separator).then_some(own);
        std::iter::once(next.separator).chain(second).map(move |end| &self.record[field.value..end])
    }
}

/// The directory of a path that begins with a slash; that of the root is the root.
#[must_use]
pub fn parent(path: &[u8]) -> &[u8] {
    match memrchr(b'/', path) {
        None | Some(0) => b"/",
        Some(end) => &path[..end],
    }
}

/// Who asked, without how they proved it: `etl` of `etl (auth:PROXY) via hive (auth:KERBEROS)`.
#[must_use]
pub fn user(ugi: &[u8]) -> Option<String> {
    let end = memchr_iter(b' ', ugi).find(|at| ugi[*at..].starts_with(b" (auth:")).unwrap_or(ugi.len());
    (end > 0).then(|| String::from_utf8_lossy(&ugi[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_of(text: &str) -> Option<String> {
        timestamp(text.as_bytes()).ok().map(|(_, time)| time.to_string())
    }

    #[test]
    fn a_time_may_have_a_comma_a_dot_or_no_fraction() {
        for text in ["2020-07-09 18:29:24,689", "2020-07-09 18:29:24.689 INFO", "2020-07-09T18:29:24.689000"] {
            assert_eq!(time_of(text).as_deref(), Some("2020-07-09 18:29:24.689"), "{text}");
        }
        assert_eq!(time_of("2020-07-09 18:29:24 x").as_deref(), Some("2020-07-09 18:29:24"));
    }

    #[test]
    fn what_no_clock_shows_is_no_time() {
        for text in ["", "2020-13-09 18:29:24,689", "2020-02-30 18:29:24,689", "2020-07-09 24:00:00", "20-07-09 1:2:3"]
        {
            assert_eq!(time_of(text), None, "{text}");
        }
    }

    #[test]
    fn the_head_skips_what_a_logger_puts_before_allowed() {
        for middle in [" ", " INFO FSNamesystem.audit: ", " INFO org.apache.X.audit: ", " nn1 x=y disallowed=true "] {
            let record = format!("2020-07-09 18:29:24,689{middle}allowed=false\tugi=a");
            let head = head(record.as_bytes()).expect("a head");
            assert!(!head.allowed && head.separator == Separator::Tab, "{middle}");
            assert_eq!(&record.as_bytes()[head.end..], b"\tugi=a");
        }
    }

    #[test]
    fn a_head_without_a_yes_or_no_is_refused() {
        for record in ["2020-07-09 18:29:24,689 allowed=maybe\t", "2020-07-09 18:29:24,689 x", "allowed=true\t"] {
            assert!(head(record.as_bytes()).is_err(), "{record}");
        }
    }

    #[test]
    fn the_directory_of_a_first_name_is_the_root() {
        assert_eq!(parent(b"/a/b"), b"/a");
        assert_eq!(parent(b"/a"), b"/");
        assert_eq!(parent(b"/"), b"/");
    }
}
