//! The namespace audit log of JindoFS, of which one line is public. Which names a record gives; fields
//! and times are `field.rs`. See docs/formats/jindofs.md.

use crate::change::{Entry, Op};
use crate::dialect::Dialect;
use crate::error::ParseError;
use crate::field::{self, Key, Marks, READINGS_MAX, Reading, Request, Standing};
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

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "the end of a write: CreateFilelet is logged when a file is opened",
            "which files a concat took: the directories of its paths are scanned",
            "what a request does whose class name says something else than its verb: few are documented",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        field::head(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = field::head(record)?;
        let marks = Marks::of(record, &head)?;
        let before = out.len();
        let mut sink = Sink::new(&head, &marks, out);
        let result = marks.read_requests(head.allowed, |request, standing| {
            let is_ours = marks.text(Key::Ns).is_some();
            is_ours.then_some(()).ok_or(ParseError::malformed(head.end, "ns= before cmd="))?;
            parse_request(request, standing, &marks, &mut sink)
        });
        result.inspect_err(|_| out.truncate(before)).map(|()| head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = field::head(line) else { return };
        let marks = Marks::of_beginning(line, &head);
        if let Some(request) = marks.first_request().filter(|_| head.allowed) {
            salvage_request(&request, &marks, &mut Sink::new(&head, &marks, out));
        }
    }
}

fn parse_request(request: &Request, standing: Standing, marks: &Marks, sink: &mut Sink) -> Result<(), ParseError> {
    if standing.may_be_cut {
        salvage_request(request, marks, sink);
    }
    let command = if standing.allowed { Command::of(request.command) } else { Command::Ignored };
    let mut readings = marks.readings(request).filter(is_plausible).peekable();
    readings.peek().ok_or_else(|| marks.incomplete())?;
    match command {
        Command::Ignored => Ok(()),
        command => name_all(command, readings, marks.column(request), sink),
    }
}

/// Names what each reading names.
fn name_all<'a>(
    command: Command,
    readings: impl Iterator<Item = Reading<'a>>,
    column: usize,
    sink: &mut Sink,
) -> Result<(), ParseError> {
    let (mut has_meaning, mut has_source) = (false, false);
    for (index, reading) in readings.enumerate() {
        if index == READINGS_MAX {
            return Err(ParseError::malformed(column, "fewer ways to read one record"));
        }
        has_source |= path_of(reading.src).is_some();
        has_meaning |= command.name(reading, sink);
    }
    if !has_meaning && has_source {
        // A rename that does not say where to: anywhere.
        sink.name(Op::Rescan, b"/");
    }
    has_source.then_some(()).ok_or(ParseError::malformed(column, "jfs://namespace/path"))
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
            (b"open" | b"get" | b"list" | b"check" | b"exist" | b"exists", object) if !says_change(object) => {
                Self::Ignored
            }
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

/// `OpenFileForWrite` and `GetOrCreateFile` are not known, but would not only read.
fn says_change(object: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] = [b"Create", b"Write", b"Append", b"Truncate", b"Delete", b"Rename"];
    WORDS.iter().any(|word| memmem::find(object, word).is_some())
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
