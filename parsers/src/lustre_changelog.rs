//! What `lfs changelog` prints of one metadata target of Lustre. Which names a record gives; what its ids are called
//! is `ids.rs`. See docs/formats/lustre-changelog.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Resolve};
use crate::error::ParseError;
use crate::field::{self, READINGS_MAX};
use crate::ids::{self, Ids, Taught};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem, memrchr};

const ROOT: &[u8] = b"0x200000007:0x1:0x0";

/// The dialect `lustre-changelog`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LustreChangelog;

impl Dialect for LustreChangelog {
    fn name(&self) -> &'static str {
        "lustre-changelog"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "the path of a file or directory that is older than the log: everything is scanned where one changes",
            "record types that are not in the mask, and what happened while no user was registered",
            "a name with a newline: its line ends there, and the rest is a bad line",
            "a directory of another metadata target: each writes a log of its own",
        ]
    }

    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(5))
    }

    fn begins(&self, line: &[u8]) -> bool {
        Record::of(line).is_ok()
    }

    /// Ids are FIDs without their brackets, in the spelling of `ids.rs`.
    fn resolver(&self) -> Option<Box<dyn Resolve>> {
        Some(Box::new(Ids::new(ROOT)))
    }

    fn parse(&self, line: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let record = Record::of(line)?;
        record.name(out).map_err(|expected| ParseError::malformed(line.len() - record.rest.len(), expected))?;
        Ok(record.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        if let Ok(record) = Record::of(line) {
            record.push(Op::Rescan, ids::UNKNOWN.to_vec(), None, out);
        }
    }
}

/// `2 01CREAT 15:15:36.687592024 2018.01.09 0x0 t=[0x200000402:0x2:0x0]` and what follows it.
struct Record<'a> {
    kind: u32,
    time: NaiveDateTime,
    target: &'a [u8],
    /// `j=… ef=… u=… nid=… p=[…] name`.
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn of(line: &'a [u8]) -> Result<Self, ParseError> {
        let malformed = |rest: &[u8], expected| ParseError::malformed(line.len() - rest.len(), expected);
        let (index, rest) = word(line);
        let is_index = !index.is_empty() && index.iter().all(u8::is_ascii_digit);
        let kind = kind_of(word(rest).0).filter(|_| is_index).ok_or(malformed(line, "INDEX NNTYPE"))?;
        let rest = word(rest).1.trim_ascii_start();
        let ((time, rest), before) = (word(rest), rest);
        let time = field::time_of_day(time).ok().filter(|(left, _)| left.is_empty());
        let (_, time) = time.ok_or(malformed(before, "HH:MM:SS.nnnnnnnnn"))?;
        let ((date, rest), before) = (word(rest), rest);
        let date = date_of(date).ok_or(malformed(before, "YYYY.MM.DD"))?;
        let ((flags, rest), before) = (word(rest), rest);
        let rest = Some(rest).filter(|_| flags.starts_with(b"0x")).ok_or(malformed(before, "0xFLAGS"))?;
        let target = rest.strip_prefix(b"t=").and_then(fid);
        let (target, rest) = target.ok_or(malformed(rest, "t=[FID]"))?;
        Ok(Self { kind, time: date.and_time(time), target, rest })
    }

    fn push(&self, op: Op, path: Vec<u8>, to: Option<Vec<u8>>, out: &mut Vec<Entry>) {
        let user = field_of(self.rest, b" u=").and_then(|user| user.split(|byte| *byte == b':').next());
        let user = user.map(|user| String::from_utf8_lossy(user).into_owned());
        out.push(Entry { time: self.time, op, path, to, into: false, user });
    }

    fn name(&self, out: &mut Vec<Entry>) -> Result<(), &'static str> {
        match Kind::of(self.kind) {
            Kind::Ignored => Ok(()),
            Kind::Named(op, taught) => self.named(op, taught, out),
            Kind::Thing(op) => {
                self.push(op, ids::thing(self.target), None, out);
                Ok(())
            }
            Kind::Rename => self.renamed(out),
            Kind::Unknown => {
                self.push(Op::Rescan, ids::UNKNOWN.to_vec(), None, out);
                Ok(())
            }
        }
    }

    fn named(&self, op: Op, taught: Taught, out: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut readings = parents(self.rest);
        let (parent, name) = readings.next().ok_or("p=[FID] and a name")?;
        let path = match readings.next() {
            Some(_) => return self.name_nothing(out),
            None => spell(parent, name, taught, self.target).ok_or("a name")?,
        };
        self.push(op, path, None, out);
        Ok(())
    }

    /// `p=[FID] NEW s=[FID] sp=[FID] OLD`. Older servers write the old name alone, and the new one in a record of its
    /// own; which belong together cannot be told then.
    fn renamed(&self, out: &mut Vec<Entry>) -> Result<(), &'static str> {
        let parents: Vec<_> = parents(self.rest).take(READINGS_MAX).collect();
        let pairs = |(parent, text)| sources(text).map(move |source| (parent, source));
        let mut readings = parents.iter().copied().flat_map(pairs);
        let (Some((parent, source)), None) = (readings.next(), readings.next()) else { return self.name_nothing(out) };
        let spell = |parent, name| spell(parent, name, Taught::Only, source.moved).ok_or("a name");
        let (old, new) = (spell(source.parent, source.old)?, spell(parent, source.new)?);
        if !is_zero(self.target) {
            let replaced = ids::name(parent, base(source.new), Taught::Only, self.target, b"");
            self.push(Op::Delete, replaced, None, out);
        }
        self.push(Op::Rename, old, Some(new), out);
        Ok(())
    }

    /// The record can be read in several ways, or tells too little.
    fn name_nothing(&self, out: &mut Vec<Entry>) -> Result<(), &'static str> {
        self.push(Op::Rescan, ids::UNKNOWN.to_vec(), None, out);
        Ok(())
    }
}

/// What a type of record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ignored,
    /// A name was made or removed.
    Named(Op, Taught),
    /// Something changed that has this id.
    Thing(Op),
    Rename,
    /// Anything may have changed.
    Unknown,
}

impl Kind {
    fn of(number: u32) -> Self {
        match number {
            // CREAT, SLINK, MKNOD
            1 | 4 | 5 => Self::Named(Op::Write, Taught::Only),
            // MKDIR
            2 => Self::Named(Op::Mkdir, Taught::Only),
            // HLINK
            3 => Self::Named(Op::Write, Taught::OneMore),
            // UNLNK, RMDIR
            6 | 7 => Self::Named(Op::Delete, Taught::Only),
            8 => Self::Rename,
            // CLOSE, LYOUT, TRUNC, MTIME, FLRW, RESYNC
            11 | 12 | 13 | 17 | 21 | 22 => Self::Thing(Op::Write),
            // SATTR, XATTR, CTIME
            14 | 15 | 18 => Self::Thing(Op::Attr),
            // OPEN, HSM, ATIME, MIGRT, GXATR, NOPEN
            10 | 16 | 19 | 20 | 23 | 24 => Self::Ignored,
            // MARK says that recording stopped or began; RNMTO is the half of an old rename.
            _ => Self::Unknown,
        }
    }
}

/// `01` of `01CREAT`; a type of fewer letters has spaces after it.
fn kind_of(text: &[u8]) -> Option<u32> {
    let (number, letters) = text.split_at_checked(2)?;
    let is_kind = (2..=6).contains(&letters.len()) && letters.iter().all(u8::is_ascii_uppercase);
    field::decimal(number).filter(|_| is_kind)
}

/// `2018.01.09`.
fn date_of(text: &[u8]) -> Option<NaiveDate> {
    let [y, yy, yyy, yyyy, b'.', m, mm, b'.', d, dd] = *text else { return None };
    let year = i32::try_from(field::decimal(&[y, yy, yyy, yyyy])?).ok()?;
    NaiveDate::from_ymd_opt(year, field::decimal(&[m, mm])?, field::decimal(&[d, dd])?)
}

/// Up to the next space, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b' ', text) {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (text, b""),
    }
}

/// The id of `[0x200000402:0x2:0x0]` at the beginning, and what follows it.
fn fid(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"[")?;
    let end = memchr(b']', &text[..text.len().min(64)])?;
    let id = &text[..end];
    let is_part = |part: &[u8]| {
        let digits = part.strip_prefix(b"0x").unwrap_or(part);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)
    };
    let is_fid = id.split(|byte| *byte == b':').count() == 3 && id.split(|byte| *byte == b':').all(is_part);
    is_fid.then_some((id, &text[end + 1..]))
}

/// `0:0x0:0x0`: none.
fn is_zero(id: &[u8]) -> bool {
    id.iter().all(|byte| matches!(byte, b'0' | b'x' | b':'))
}

/// The text of a field without spaces.
fn field_of<'a>(rest: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(rest, key)? + key.len();
    Some(word(&rest[at..]).0)
}

/// Each `p=[FID] NAME`. A name, or the name of a job, may look like one.
fn parents(rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    memmem::find_iter(rest, b" p=[").filter_map(|at| {
        let (parent, name) = fid(&rest[at + 3..])?;
        Some((parent, name.strip_prefix(b" ")?))
    })
}

/// What a rename says of the old name.
#[derive(Clone, Copy)]
struct Source<'a> {
    new: &'a [u8],
    moved: &'a [u8],
    parent: &'a [u8],
    old: &'a [u8],
}

/// Each `NEW s=[FID] sp=[FID] OLD`.
fn sources(text: &[u8]) -> impl Iterator<Item = Source<'_>> {
    memmem::find_iter(text, b" s=[").filter_map(|at| {
        let (moved, rest) = fid(&text[at + 3..])?;
        let (parent, old) = fid(rest.strip_prefix(b" sp=")?)?;
        Some(Source { new: &text[..at], moved, parent, old: old.strip_prefix(b" ")? })
    })
}

/// The last name of what may be a path.
fn base(name: &[u8]) -> &[u8] {
    &name[memrchr(b'/', name).map_or(0, |slash| slash + 1)..]
}

/// Some versions print the path in place of the name. None if there is no name.
fn spell(parent: &[u8], name: &[u8], taught: Taught, id: &[u8]) -> Option<Vec<u8>> {
    let path = if name.starts_with(b"/") { name } else { b"" };
    let is_name = !base(name).is_empty() && memchr(0, name).is_none();
    is_name.then(|| ids::name(parent, base(name), taught, id, path))
}
