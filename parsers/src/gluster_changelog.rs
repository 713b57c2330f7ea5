//! The changelog files of one GlusterFS brick, in their text encoding. Which names a file gives; what its ids are
//! called is `ids.rs`. See docs/formats/gluster-changelog.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing, Resolve};
use crate::error::ParseError;
use crate::ids::{self, Ids, Taught};
use chrono::{DateTime, NaiveDateTime, TimeDelta};
use memchr::memchr;

const ROOT: &[u8] = b"00000000-0000-0000-0000-000000000001";
const HEADER: &[u8] = b"GlusterFS Changelog | version: v";
/// Bytes of an id.
const GFID: usize = 36;

/// The dialect `gluster-changelog`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlusterChangelog;

impl Dialect for GlusterChangelog {
    fn name(&self) -> &'static str {
        "gluster-changelog"
    }

    fn framing(&self) -> Framing {
        Framing::Files
    }

    fn clock(&self) -> Clock {
        Clock::OfFile
    }

    /// A file appears when its interval ends; `changelog.rollover-time` is 15 seconds unless it was changed.
    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::minutes(1))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "the path of a file or directory that is older than the changelog: everything is scanned where one changes",
            "what happened while changelog.changelog was off, or while the brick was down",
            "who asked, and at what time within the interval of a file",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        line.starts_with(HEADER)
    }

    fn time_of_file(&self, name: &str) -> Option<NaiveDateTime> {
        let (_, seconds) = name.rsplit_once("CHANGELOG.")?;
        let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit());
        DateTime::from_timestamp(seconds.parse().ok().filter(|_| is_number)?, 0).map(|time| time.naive_utc())
    }

    /// Ids are GFIDs, in the spelling of `ids.rs`.
    fn resolver(&self) -> Option<Box<dyn Resolve>> {
        Some(Box::new(Ids::new(ROOT)))
    }

    /// What was done to names comes first, then what was done to files: the order in which an interval's file has them
    /// is not that in which it happened, and the names tell where the files are.
    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let mut reader = Reader { record, at: header(record)? };
        let before = out.len();
        let mut things: Vec<(Op, &[u8])> = Vec::new();
        while reader.at < record.len() {
            let result = reader.record(out, &mut things);
            result.inspect_err(|_| out.truncate(before))?;
        }
        things.dedup();
        out.extend(things.into_iter().map(|(op, id)| entry(op, ids::thing(id), None)));
        Ok(NaiveDateTime::default())
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        if self.begins(record) {
            out.push(entry(Op::Rescan, ids::UNKNOWN.to_vec(), None));
        }
    }
}

/// The time is that of the file, which is not known here.
fn entry(op: Op, path: Vec<u8>, to: Option<Vec<u8>>) -> Entry {
    Entry { time: NaiveDateTime::default(), op, path, to, into: false, user: None }
}

/// Where the records begin, after `GlusterFS Changelog | version: v1.2 | encoding : 2`.
fn header(record: &[u8]) -> Result<usize, ParseError> {
    let newline = memchr(b'\n', &record[..record.len().min(128)]).ok_or(ParseError::malformed(0, "a header"))?;
    let line = &record[..newline];
    if !line.starts_with(HEADER) {
        return Err(ParseError::malformed(0, "GlusterFS Changelog | version: v1.x"));
    }
    let is_text = line.trim_ascii_end().ends_with(b"| encoding : 2");
    is_text.then_some(newline + 1).ok_or(ParseError::malformed(HEADER.len(), "encoding : 2 (text)"))
}

struct Reader<'a> {
    record: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, expected: &'static str) -> ParseError {
        ParseError::malformed(self.at, expected)
    }

    /// Up to the next zero byte.
    fn token(&mut self, expected: &'static str) -> Result<&'a [u8], ParseError> {
        let rest = &self.record[self.at..];
        let end = memchr(0, rest).ok_or(self.malformed(expected))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn record(&mut self, out: &mut Vec<Entry>, things: &mut Vec<(Op, &'a [u8])>) -> Result<(), ParseError> {
        let start = self.at;
        let token = self.token("a record that ends with a zero byte")?;
        let Some((kind, id)) = token.split_first().filter(|(_, id)| is_gfid(id)) else {
            return Err(ParseError::malformed(start, "D, M or E and a GFID"));
        };
        match kind {
            b'D' => things.push((Op::Write, id)),
            b'M' => things.push((self.metadata()?, id)),
            b'E' => self.entry(id, out)?,
            _ => return Err(ParseError::malformed(start, "D, M or E and a GFID")),
        }
        Ok(())
    }

    fn metadata(&mut self) -> Result<Op, ParseError> {
        match self.number()? {
            TRUNCATE | FTRUNCATE => Ok(Op::Write),
            _ => Ok(Op::Attr),
        }
    }

    fn number(&mut self) -> Result<u32, ParseError> {
        let at = self.at;
        let token = self.token("the number of an operation")?;
        let number = std::str::from_utf8(token).ok().and_then(|text| text.parse().ok());
        number.ok_or(ParseError::malformed(at, "the number of an operation"))
    }

    fn entry(&mut self, id: &[u8], out: &mut Vec<Entry>) -> Result<(), ParseError> {
        let at = self.at;
        let (op, taught) = match self.number()? {
            MKDIR => (Op::Mkdir, Taught::Only),
            MKNOD | CREATE | SYMLINK => (Op::Write, Taught::Only),
            LINK => (Op::Write, Taught::OneMore),
            UNLINK | RMDIR => (Op::Delete, Taught::Only),
            RENAME => return self.rename(id, out),
            _ => return Err(ParseError::malformed(at, "an operation on names")),
        };
        let (parent, name) = self.name()?;
        let path = if op == Op::Delete { self.deleted_path()? } else { Vec::new() };
        out.push(entry(op, ids::name(parent, name, taught, id, &path), None));
        Ok(())
    }

    fn rename(&mut self, id: &[u8], out: &mut Vec<Entry>) -> Result<(), ParseError> {
        let (old_parent, old) = self.name()?;
        let (new_parent, new) = self.name()?;
        let spell = |parent, name| ids::name(parent, name, Taught::Only, id, b"");
        out.push(entry(Op::Rename, spell(old_parent, old), Some(spell(new_parent, new))));
        Ok(())
    }

    /// `GFID/NAME`, after mode, owner and group where a version has them.
    fn name(&mut self) -> Result<(&'a [u8], &'a [u8]), ParseError> {
        let at = self.at;
        for _ in 0..4 {
            let token = self.token("a directory's GFID and a name")?;
            match token.split_at_checked(GFID) {
                Some((parent, [b'/', name @ ..])) if is_gfid(parent) && !name.is_empty() => return Ok((parent, name)),
                _ if token.iter().all(u8::is_ascii_digit) => (),
                _ => break,
            }
        }
        Err(ParseError::malformed(at, "a directory's GFID and a name"))
    }

    /// Since v1.2 a path follows what was deleted; it is empty unless `changelog.capture-del-path` is on.
    fn deleted_path(&mut self) -> Result<Vec<u8>, ParseError> {
        let rest = &self.record[self.at..];
        let is_record = matches!(rest.first(), Some(b'D' | b'M' | b'E')) && rest.get(1..=GFID).is_some_and(is_gfid);
        if rest.is_empty() || is_record {
            return Ok(Vec::new());
        }
        let path = self.token("the path of what was deleted")?;
        let has_slash = path.starts_with(b"/");
        Ok(if path.is_empty() || has_slash { path.to_vec() } else { [b"/", path].concat() })
    }
}

const MKNOD: u32 = 3;
const MKDIR: u32 = 4;
const UNLINK: u32 = 5;
const RMDIR: u32 = 6;
const SYMLINK: u32 = 7;
const RENAME: u32 = 8;
const LINK: u32 = 9;
const TRUNCATE: u32 = 10;
const CREATE: u32 = 23;
const FTRUNCATE: u32 = 24;

/// `0b99ef11-4b79-4cd0-9730-b5a0e8c4a8c0`.
fn is_gfid(text: &[u8]) -> bool {
    let is_place = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == GFID && text.iter().enumerate().all(is_place)
}
