//! The namespace audit log of JindoFS, of which one line is public. Which names a record gives; fields
//! and times are `field.rs`. See docs/formats/jindofs.md.

use crate::change::{Entry, Op};
use crate::dialect::Dialect;
use crate::error::ParseError;
use crate::field::{self, Key, Marks, READINGS_MAX, Reading, Request};
use crate::sink::Sink;
use chrono::NaiveDateTime;
use memchr::{memchr, memchr2, memmem};

/// The dialect `jindofs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct JindoFs;

impl Dialect for JindoFs {
    fn name(&self) -> &'static str {
        "jindofs"
    }

    fn begins(&self, line: &[u8]) -> bool {
        field::head(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = field::head(record)?;
        let marks = Marks::of(record, &head);
        if marks.overflowed {
            return Err(ParseError::malformed(head.end, "fewer fields"));
        }
        let before = out.len();
        let result = parse_fields(record, head.allowed, &marks, &mut Sink::new(&head, &marks, out));
        result.inspect_err(|_| out.truncate(before)).map(|()| head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = field::head(line) else { return };
        let marks = Marks::of(line, &head);
        let first = marks.requests().next();
        if let Some(request) = first.filter(|_| head.allowed) {
            salvage_request(&request, &marks, &mut Sink::new(&head, &marks, out));
        }
    }
}

fn parse_fields(record: &[u8], allowed: bool, marks: &Marks, sink: &mut Sink) -> Result<(), ParseError> {
    let mut requests = marks.requests().peekable();
    let first = requests.peek().ok_or(ParseError::incomplete(record.len(), "cmd= and src="))?;
    if marks.text(Key::Ns).is_none() {
        return Err(ParseError::malformed(marks.column(first), "ns= before cmd="));
    }
    let mut result = Ok(());
    let mut has_reading = false;
    let mut is_allowed = allowed;
    while let Some(request) = requests.next() {
        // Two commands on a line: whose `allowed=` is whose cannot be told, nor which was cut off.
        if requests.peek().is_some() {
            is_allowed = true;
            salvage_request(&request, marks, sink);
        }
        let read = parse_request(record, &request, is_allowed, marks, sink);
        has_reading |= read.is_ok();
        result = read;
    }
    if has_reading { Ok(()) } else { result }
}

fn parse_request(
    record: &[u8],
    request: &Request,
    allowed: bool,
    marks: &Marks,
    sink: &mut Sink,
) -> Result<(), ParseError> {
    let command = if allowed { Command::of(request.command) } else { Command::Ignored };
    let mut readings = marks.readings(request).filter(is_plausible).peekable();
    if readings.peek().is_none() {
        return Err(ParseError::incomplete(record.len(), "dst= and perm="));
    }
    if command == Command::Ignored {
        return Ok(());
    }
    let column = marks.column(request);
    let mut has_meaning = false;
    for (index, reading) in readings.enumerate() {
        if index == READINGS_MAX {
            return Err(ParseError::malformed(column, "fewer ways to read one record"));
        }
        has_meaning |= command.name(reading, sink);
    }
    has_meaning.then_some(()).ok_or(ParseError::malformed(column, "jfs://namespace/path"))
}

/// `dst` is a path, or says that there is none: other text after `dst=` belongs to a name.
fn is_plausible(reading: &Reading) -> bool {
    matches!(reading.dst, b"" | b"null") || path_of(reading.dst).is_some()
}

/// Something changed near where the paths begin.
fn salvage_request(request: &Request, marks: &Marks, sink: &mut Sink) {
    if Command::of(request.command) == Command::Ignored {
        return;
    }
    let (src, dst) = marks.beginnings(request);
    rescan_parents([path_of(src), dst.and_then(path_of)], sink);
}

fn rescan_parents(paths: [Option<&[u8]>; 2], sink: &mut Sink) {
    for path in paths.into_iter().flatten() {
        sink.name(Op::Rescan, field::parent(path));
    }
}

/// What a command does to names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// Changes nothing.
    Ignored,
    /// The path is named with this operation.
    Names(Op),
    Rename,
    /// Not known here: something changed near its paths.
    Unknown,
}

impl Command {
    /// Commands are the class names of requests, seen with the first letter in either case.
    fn of(command: &[u8]) -> Self {
        let command = command.strip_suffix(b"Request").unwrap_or(command);
        let border = command.iter().skip(1).position(u8::is_ascii_uppercase).map_or(command.len(), |at| at + 1);
        let (verb, object) = command.split_at(border);
        match (verb.to_ascii_lowercase().as_slice(), object) {
            (b"open" | b"get" | b"list" | b"check" | b"exist" | b"exists", _) => Self::Ignored,
            (b"set", _) => Self::Names(Op::Attr),
            (_, object) if memmem::find(object, b"Acl").is_some() => Self::Names(Op::Attr),
            (b"remove", b"XAttr") => Self::Names(Op::Attr),
            (b"mkdir" | b"mkdirs", _) => Self::Names(Op::Mkdir),
            (b"create", b"Directory") => Self::Names(Op::Mkdir),
            (b"make", object) if object.starts_with(b"Dir") => Self::Names(Op::Mkdir),
            (b"create" | b"append" | b"complete" | b"close" | b"flush" | b"alloc" | b"truncate", _) => {
                Self::Names(Op::Write)
            }
            (b"delete" | b"remove", _) => Self::Names(Op::Delete),
            (b"rename", _) => Self::Rename,
            _ => Self::Unknown,
        }
    }

    /// Says what one reading names; false, and nothing is said, if it cannot be one.
    fn name(self, reading: Reading, sink: &mut Sink) -> bool {
        let Some(src) = path_of(reading.src) else { return false };
        let dst = path_of(reading.dst);
        match (self, dst) {
            (Self::Ignored, _) => (),
            (Self::Names(op), _) => sink.name(op, src),
            (Self::Rename, Some(dst)) => sink.rename(src, dst, true),
            (Self::Rename, None) => return false,
            (Self::Unknown, dst) => rescan_parents([Some(src), dst], sink),
        }
        true
    }
}

/// The path of `jfs://namespace/path`, or of what is a path already; without a slash at the end.
fn path_of(uri: &[u8]) -> Option<&[u8]> {
    let path = match memmem::find(uri, b"://") {
        Some(scheme) if uri[..scheme].iter().all(u8::is_ascii_alphanumeric) => below_namespace(&uri[scheme + 3..])?,
        Some(_) | None => uri,
    };
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    path.starts_with(b"/").then(|| &path[..end])
}

/// The root, where a URI ends with its namespace.
fn below_namespace(rest: &[u8]) -> Option<&[u8]> {
    match memchr(b'/', rest) {
        Some(slash) => Some(&rest[slash..]),
        None => (!rest.is_empty() && memchr2(b' ', b'\t', rest).is_none()).then_some(b"/"),
    }
}
