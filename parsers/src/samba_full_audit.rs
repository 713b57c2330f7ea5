//! What Samba's `vfs_full_audit` writes, through syslog or into smbd's own log. Which names a record gives;
//! putting lines together is `records.rs`. See docs/formats/samba-full-audit.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::error::ParseError;
use crate::field::{self, READINGS_MAX};
use crate::sink::Sink;
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use memchr::{memchr, memchr_iter, memmem, memrchr};
use std::borrow::Cow;

/// How far into a line the tag of syslog may stand, in bytes: time and host.
const HEAD_MAX: usize = 320;
/// Bytes of the text that says why a request failed.
const REASON_MAX: usize = 256;
/// How many control characters one record may spell; each may be meant literally, too.
const ESCAPES_MAX: usize = 5;
const _: () = assert!(1 << ESCAPES_MAX <= READINGS_MAX);

/// The dialect `samba-full-audit`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SambaFullAudit {
    pub names: Names,
}

/// How smbd writes names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// As paths of the server: Samba 4.12 and later.
    #[default]
    Absolute,
    /// From the root of the share: Samba 4.11 and earlier. That root is then `/`.
    Relative,
}

impl Dialect for SambaFullAudit {
    fn name(&self) -> &'static str {
        match self.names {
            Names::Absolute => "samba-full-audit",
            Names::Relative => "samba-full-audit-relative",
        }
    }

    /// Lines with a year have one: only those of the old syslog layout take [`Clock::NO_YEAR`].
    fn clock(&self) -> Clock {
        Clock::LocalWithoutYear
    }

    /// Several smbd write one log, each with the time of its own request.
    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(5))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "operations that full_audit:success does not list; without openat, pwrite_recv and ftruncate no new content is seen",
            "what is changed on the server itself, over NFS, or through a share without full_audit",
            "a second hard link of a file that is written through the first",
            "the end of a server-side copy, where close is not listed",
            "the names on the disk, where catia stands after full_audit in vfs objects",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Head::of(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = Head::of(record)?;
        let Some(message) = head.message(record)? else { return Ok(head.time) };
        let request = Request::of(&message).ok_or(ParseError::malformed(head.end, "PREFIX|OPERATION|ok|…"))?;
        let operation = request.effect();
        if operation != Operation::Ignored {
            let before = out.len();
            let mut sink = Sink::plain(head.time, request.user, out);
            let result = self.name_spellings(operation, &request, head.form, &mut sink);
            result.map_err(|expected| {
                out.truncate(before);
                ParseError::malformed(head.end, expected)
            })?;
        }
        Ok(head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = Head::of(line) else { return };
        let Ok(Some(message)) = head.message(line) else { return };
        let Some(request) = Request::of(&message) else { return };
        if request.effect() != Operation::Ignored {
            rescan(request.arguments, &mut Sink::plain(head.time, request.user, out));
        }
    }
}

impl SambaFullAudit {
    /// Syslog daemons spell control characters, and what they write may be the name itself: each reading is named.
    fn name_spellings(
        &self,
        operation: Operation,
        request: &Request,
        form: Form,
        sink: &mut Sink,
    ) -> Result<(), &'static str> {
        let escapes: Vec<usize> = match form {
            Form::Syslog => memchr_iter(b'#', request.arguments)
                .filter(|at| escaped(&request.arguments[*at..]).is_some())
                .take(ESCAPES_MAX + 1)
                .collect(),
            Form::Own { .. } => Vec::new(),
        };
        if escapes.len() > ESCAPES_MAX {
            return Err("fewer control characters");
        }
        (0..1_usize << escapes.len()).try_for_each(|meant| {
            self.name_all(operation, &unescape(request.arguments, &escapes, meant), sink)?;
            (sink.count() <= 2 * READINGS_MAX).then_some(()).ok_or("fewer ways to read one record")
        })
    }

    fn name_all(&self, operation: Operation, arguments: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        match operation {
            Operation::Ignored => Ok(()),
            Operation::Open => self.open(arguments, sink),
            Operation::CreateFile => self.create_file(arguments, sink),
            Operation::Names(op, after) => self.name(op, without_last(arguments, after), sink),
            Operation::Acl => self.acl(arguments, sink),
            Operation::Rename => self.each_pair(arguments, |this, old, new| this.rename(old, new, sink)),
            Operation::Link => self.each_pair(arguments, |this, _, new| this.name(Op::Write, new, sink)),
            Operation::Symlink => self.symlink(arguments, sink),
            Operation::Unknown => {
                rescan(arguments, sink);
                Ok(())
            }
        }
    }

    /// `w|PATH` or `r|PATH`.
    fn open(&self, arguments: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        match arguments.split_at_checked(2) {
            Some((b"w|", path)) => self.name(Op::Write, path, sink),
            Some((b"r|", _)) => Ok(()),
            _ => Err("r or w, and a path"),
        }
    }

    /// `0xACCESS|file|DISPOSITION|PATH`: what was asked for.
    fn create_file(&self, arguments: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        /// Data may be written, or whatever is allowed may be done.
        const WRITES: u32 = 0x2 | 0x4 | 0x0200_0000 | 0x1000_0000 | 0x4000_0000;
        let mut fields = arguments.splitn(4, |byte| *byte == b'|');
        let (Some(access), Some(kind), Some(disposition), Some(path)) =
            (fields.next().and_then(hexadecimal), fields.next(), fields.next(), fields.next())
        else {
            return Err("0xACCESS|file|DISPOSITION|PATH");
        };
        let is_dir = kind == b"dir";
        let may_change = disposition != b"open" || (!is_dir && access & WRITES != 0);
        match may_change {
            true => self.name(if is_dir { Op::Mkdir } else { Op::Write }, path, sink),
            false => Ok(()),
        }
    }

    /// `PATH|TEXT` or `PATH [TEXT]`, as versions and settings have it: each reading.
    fn acl(&self, arguments: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        self.name(Op::Attr, arguments, sink)?;
        let ends = [memchr(b'|', arguments), memmem::rfind(arguments, b" [")];
        ends.into_iter().flatten().try_for_each(|end| self.name(Op::Attr, &arguments[..end], sink))
    }

    /// `TEXT|PATH`, where the text is the client's: the path begins after any bar.
    fn symlink(&self, arguments: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        let mut readings = 0;
        for at in memchr_iter(b'|', arguments) {
            let path = &arguments[at + 1..];
            if self.is_path(path) {
                readings += 1;
                self.name(Op::Write, path, sink)?;
            }
            if readings > READINGS_MAX {
                return Err("fewer ways to read one record");
            }
        }
        (readings > 0).then_some(()).ok_or("a path after the link's text")
    }

    /// `OLD|NEW`, at each bar that may stand between them: bars in names are written as they are.
    fn each_pair(
        &self,
        arguments: &[u8],
        mut visit: impl FnMut(&Self, &[u8], &[u8]) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut readings = 0;
        for at in memchr_iter(b'|', arguments) {
            let (old, new) = (&arguments[..at], &arguments[at + 1..]);
            if self.is_path(old) && self.is_path(new) {
                readings += 1;
                visit(self, old, new)?;
            }
            if readings > READINGS_MAX {
                return Err("fewer ways to read one record");
            }
        }
        (readings > 0).then_some(()).ok_or(self.expected())
    }

    fn is_path(&self, text: &[u8]) -> bool {
        match self.names {
            Names::Absolute => text.starts_with(b"/"),
            Names::Relative => !text.is_empty(),
        }
    }

    fn expected(&self) -> &'static str {
        match self.names {
            Names::Absolute => "a path from /: for names from the share's root, samba-full-audit-relative",
            Names::Relative => "a path",
        }
    }

    fn path<'p>(&self, text: &'p [u8]) -> Result<Cow<'p, [u8]>, &'static str> {
        match self.names {
            _ if !self.is_path(text) => Err(self.expected()),
            _ if text.starts_with(b"/") => Ok(Cow::Borrowed(trimmed(text))),
            _ if matches!(text, b"." | b"./") => Ok(Cow::Borrowed(b"/")),
            _ => Ok(Cow::Owned([b"/", trimmed(text.strip_prefix(b"./").unwrap_or(text))].concat())),
        }
    }

    /// Some operations have no path to write: they name nothing.
    fn name(&self, op: Op, text: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        if text.is_empty() {
            return Ok(());
        }
        let path = self.path(text)?;
        sink.name(op, &path);
        if let Some(file) = file_of_stream(&path) {
            sink.name(Op::Attr, file);
        }
        Ok(())
    }

    fn rename(&self, old: &[u8], new: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
        let (old, new) = (self.path(old)?, self.path(new)?);
        sink.rename(&old, &new, false);
        for file in [file_of_stream(&old), file_of_stream(&new)].into_iter().flatten() {
            sink.name(Op::Attr, file);
        }
        Ok(())
    }
}

/// Without slashes at the end.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1.min(path.len()), |last| last + 1);
    &path[..end]
}

/// The file of `file:stream`. A colon may also be part of a name.
fn file_of_stream(path: &[u8]) -> Option<&[u8]> {
    let name = memrchr(b'/', path)? + 1;
    memchr(b':', &path[name..]).filter(|at| *at > 0).map(|at| &path[..name + at])
}

/// Without the fields at its end: numbers, times, the name of an attribute.
fn without_last(arguments: &[u8], fields: usize) -> &[u8] {
    (0..fields).fold(arguments, |rest, _| memrchr(b'|', rest).map_or(rest, |end| &rest[..end]))
}

/// The directories of what looks like paths, as far as they can be read; everything, if nothing does.
fn rescan(arguments: &[u8], sink: &mut Sink) {
    let starts = std::iter::once(0).chain(memchr_iter(b'|', arguments).map(|at| at + 1));
    let mut paths =
        starts.map(|at| &arguments[at..]).filter(|rest| rest.starts_with(b"/")).take(READINGS_MAX).peekable();
    if paths.peek().is_none() {
        sink.name(Op::Rescan, b"/");
    }
    for path in paths {
        let end = memchr::memchr2(b'|', b'#', path).unwrap_or(path.len());
        sink.name(Op::Rescan, field::parent(&path[..end]));
    }
}

/// What stands before the message.
struct Head {
    time: NaiveDateTime,
    form: Form,
    /// In bytes from the start of the record.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Syslog,
    /// A line of its own, and the message on the next, indented.
    Own {
        is_audit: bool,
    },
}

impl Head {
    fn of(record: &[u8]) -> Result<Self, ParseError> {
        match record.first() {
            Some(b'[') => Self::of_own(record).ok_or(ParseError::malformed(0, "[yyyy/MM/dd HH:mm:ss, LEVEL] SOURCE")),
            _ => Self::of_syslog(record).ok_or(ParseError::malformed(0, "a time, a host and smbd_audit:")),
        }
    }

    /// `[2026/11/21 11:39:50.707779,  1] ../../source3/modules/vfs_full_audit.c:643(do_log)`.
    fn of_own(record: &[u8]) -> Option<Self> {
        let line = &record[..memchr(b'\n', record).unwrap_or(record.len())];
        let (time, rest) = own_time(line.get(1..)?)?;
        let close = memchr(b']', rest)?;
        let (level, source) = (&rest[..close], rest[close + 1..].strip_prefix(b" ")?);
        let is_source = source.ends_with(b")") && memmem::find(source, b".c:").is_some();
        let is_audit = memmem::find(source, b"vfs_full_audit.c:").is_some() && source.ends_with(b"(do_log)");
        let is_head = level.starts_with(b",") && is_source;
        is_head.then_some(Self { time, form: Form::Own { is_audit }, end: line.len() })
    }

    /// `Nov 21 06:08:58 host smbd_audit: `, or with a time of RFC 3339; a process id may stand after the tag.
    fn of_syslog(record: &[u8]) -> Option<Self> {
        const TAG: &[u8] = b" smbd_audit";
        let (time, rest) = syslog_time(without_priority(record))?;
        let tag = memmem::find(&rest[..rest.len().min(HEAD_MAX)], TAG)?;
        let after = without_process(&rest[tag + TAG.len()..]).strip_prefix(b": ")?;
        Some(Self { time, form: Form::Syslog, end: record.len() - after.len() })
    }

    /// None if it is not of the audit.
    fn message<'a>(&self, record: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, ParseError> {
        match self.form {
            Form::Syslog => Ok(Some(Cow::Borrowed(once(&record[self.end..])))),
            Form::Own { is_audit } => {
                let message = self.own_message(record)?;
                Ok(is_audit.then_some(message))
            }
        }
    }

    /// Each line is indented by two spaces; a newline in a name makes one more.
    fn own_message<'a>(&self, record: &'a [u8]) -> Result<Cow<'a, [u8]>, ParseError> {
        let lines =
            record.get(self.end + 1..).ok_or(ParseError::incomplete(self.end, "the message, on the next line"))?;
        let malformed = ParseError::malformed(self.end + 1, "a message that is indented");
        if memchr(b'\n', lines).is_none() {
            return lines.strip_prefix(b"  ").map(Cow::Borrowed).ok_or(malformed);
        }
        let mut message = Vec::with_capacity(lines.len());
        for line in lines.split(|byte| *byte == b'\n') {
            message.extend_from_slice(line.strip_prefix(b"  ").ok_or_else(|| malformed.clone())?);
            message.push(b'\n');
        }
        message.pop();
        Ok(Cow::Owned(message))
    }
}

/// `2026/11/21 11:39:50.707779`.
fn own_time(text: &[u8]) -> Option<(NaiveDateTime, &[u8])> {
    let (date, rest) = text.split_at_checked(11)?;
    let [y, yy, yyy, yyyy, b'/', m, mm, b'/', d, dd, b' '] = *date else { return None };
    let year = i32::try_from(field::decimal(&[y, yy, yyy, yyyy])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, field::decimal(&[m, mm])?, field::decimal(&[d, dd])?)?;
    let end = memchr(b',', rest)?;
    let (left, time) = field::time_of_day(&rest[..end]).ok()?;
    left.is_empty().then(|| (date.and_time(time), &rest[end..]))
}

/// The time as the host's clock showed it, and what follows it.
fn syslog_time(text: &[u8]) -> Option<(NaiveDateTime, &[u8])> {
    match field::timestamp(text) {
        Ok((rest, time)) if text.get(10) == Some(&b'T') => Some((time, without_offset(rest))),
        _ => time_without_year(text),
    }
}

/// `Nov  1 06:08:58`.
fn time_without_year(text: &[u8]) -> Option<(NaiveDateTime, &[u8])> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let (date, rest) = text.split_at_checked(7)?;
    let [_, _, _, b' ', tens, ones, b' '] = *date else { return None };
    let month = MONTHS.iter().position(|month| date.starts_with(month))?;
    let day = field::decimal(&[if tens == b' ' { b'0' } else { tens }, ones])?;
    let date = NaiveDate::from_ymd_opt(Clock::NO_YEAR, u32::try_from(month).ok()? + 1, day)?;
    let (rest, time) = field::time_of_day(rest).ok()?;
    Some((date.and_time(time), rest))
}

/// Without `Z` or `+05:30`: the reader's zone is that of the host, and one clock must do for all layouts.
fn without_offset(text: &[u8]) -> &[u8] {
    match text {
        [b'Z', rest @ ..] => rest,
        [b'+' | b'-', _, _, b':', _, _, rest @ ..] => rest,
        _ => text,
    }
}

/// Without `<173>`.
fn without_priority(text: &[u8]) -> &[u8] {
    let end = memchr(b'>', &text[..text.len().min(5)]).filter(|_| text.starts_with(b"<"));
    end.map_or(text, |end| &text[end + 1..])
}

/// Without `[1234]`.
fn without_process(text: &[u8]) -> &[u8] {
    let end = memchr(b']', &text[..text.len().min(16)]).filter(|_| text.starts_with(b"["));
    end.map_or(text, |end| &text[end + 1..])
}

/// What syslog daemons say instead of the same line again: `message repeated 3 times: [ …]`.
fn once(message: &[u8]) -> &[u8] {
    let text = message.strip_prefix(b"message repeated ").and_then(|rest| {
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest[count..].strip_prefix(b" times: [")?.strip_suffix(b"]")
    });
    text.map_or(message, |text| text.strip_prefix(b" ").unwrap_or(text))
}

/// The byte of `#011`, if that is what a syslog daemon writes for one: a control character, or beyond ASCII.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).filter(|byte| matches!(byte, b'0'..=b'7')).map(|byte| u32::from(byte - b'0'));
    let byte = u8::try_from(digit(1)? * 64 + digit(2)? * 8 + digit(3)?).ok()?;
    (!(b' '..0x7f).contains(&byte)).then_some(byte)
}

/// With those escapes undone whose bit is set in `meant`.
fn unescape<'a>(text: &'a [u8], escapes: &[usize], meant: usize) -> Cow<'a, [u8]> {
    if meant == 0 {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut from = 0;
    for (_, at) in escapes.iter().enumerate().filter(|(index, _)| meant & (1 << index) != 0) {
        bytes.extend_from_slice(&text[from..*at]);
        bytes.extend(escaped(&text[*at..]));
        from = at + 4;
    }
    bytes.extend_from_slice(&text[from..]);
    Cow::Owned(bytes)
}

/// The number of `0x12019f`.
fn hexadecimal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text.strip_prefix(b"0x")?).ok()?, 16).ok()
}

/// One message, taken apart.
struct Request<'a> {
    user: Option<&'a [u8]>,
    operation: &'a [u8],
    is_ok: bool,
    arguments: &'a [u8],
}

impl<'a> Request<'a> {
    /// The prefix is whatever the configuration says, bars included: the operation is the first word between bars that
    /// a result follows.
    fn of(message: &'a [u8]) -> Option<Self> {
        let mut before = None;
        for bar in memchr_iter(b'|', message) {
            let operation = before.map(|before: usize| &message[before + 1..bar]);
            if let Some(operation) = operation.filter(|operation| is_word(operation))
                && let Some((is_ok, arguments)) = result(&message[bar + 1..])
            {
                let user = &message[..memchr(b'|', message)?];
                return Some(Self { user: (!user.is_empty()).then_some(user), operation, is_ok, arguments });
            }
            before = Some(bar);
        }
        None
    }

    /// A request that failed may have written a part of its data; others did nothing.
    fn effect(&self) -> Operation {
        match Operation::of(self.operation) {
            operation if self.is_ok => operation,
            Operation::Names(Op::Write, 0) => Operation::Names(Op::Write, 0),
            _ => Operation::Ignored,
        }
    }
}

fn is_word(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Takes `ok|` or `fail (No such file or directory)|`.
fn result(text: &[u8]) -> Option<(bool, &[u8])> {
    match text.strip_prefix(b"ok|") {
        Some(arguments) => Some((true, arguments)),
        None => {
            let reason = text.strip_prefix(b"fail (")?;
            let end = memmem::find(&reason[..reason.len().min(REASON_MAX)], b")|")?;
            Some((false, &reason[end + 2..]))
        }
    }
}

/// What an operation does to names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// Changes nothing that is kept in step.
    Ignored,
    Open,
    CreateFile,
    /// The path is named with this operation; so many fields follow it.
    Names(Op, usize),
    Acl,
    Rename,
    Link,
    Symlink,
    /// Not known here: something changed near its paths.
    Unknown,
}

impl Operation {
    /// Under the names of Samba 3.x to 4.2x.
    fn of(operation: &[u8]) -> Self {
        match operation {
            b"openat" | b"open" => Self::Open,
            b"create_file" => Self::CreateFile,
            // The only line after the data of a server-side copy that names its file.
            b"close" => Self::Names(Op::Write, 0),
            b"pwrite"
            | b"pwrite_send"
            | b"pwrite_recv"
            | b"write"
            | b"recvfile"
            | b"ftruncate"
            | b"fallocate"
            | b"offload_write_send"
            | b"offload_write_recv"
            | b"copy_chunk_send"
            | b"copy_chunk_recv"
            | b"mknodat"
            | b"mknod" => Self::Names(Op::Write, 0),
            b"mkdirat" | b"mkdir" => Self::Names(Op::Mkdir, 0),
            b"unlinkat" | b"unlink" | b"rmdir" => Self::Names(Op::Delete, 0),
            b"renameat" | b"rename" => Self::Rename,
            b"linkat" | b"link" => Self::Link,
            b"symlinkat" | b"symlink" => Self::Symlink,
            b"fntimes" | b"ntimes" => Self::Names(Op::Attr, 4),
            b"fchown" | b"lchown" | b"chown" => Self::Names(Op::Attr, 2),
            b"fchmod" | b"chmod" | b"fsetxattr" | b"setxattr" | b"fremovexattr" | b"removexattr" | b"lsetxattr"
            | b"lremovexattr" => Self::Names(Op::Attr, 1),
            b"fset_dos_attributes"
            | b"set_dos_attributes"
            | b"sys_acl_set_file"
            | b"sys_acl_set_fd"
            | b"sys_acl_delete_def_file"
            | b"sys_acl_delete_def_fd"
            | b"chflags"
            | b"fchflags"
            | b"set_compression"
            | b"set_offline"
            | b"chmod_acl"
            | b"fchmod_acl" => Self::Names(Op::Attr, 0),
            b"fset_nt_acl" | b"set_nt_acl" => Self::Acl,
            _ if is_ignored(operation) => Self::Ignored,
            _ => Self::Unknown,
        }
    }
}

/// Reads, locks, and what concerns the connection.
fn is_ignored(operation: &[u8]) -> bool {
    const WORDS: [&[u8]; 62] = [
        b"connect",
        b"disconnect",
        b"connectpath",
        b"disk_free",
        b"statvfs",
        b"fstatvfs",
        b"fs_capabilities",
        b"set_quota",
        b"opendir",
        b"fdopendir",
        b"closedir",
        b"readdir",
        b"readdir_attr",
        b"freaddir_attr",
        b"seekdir",
        b"telldir",
        b"rewinddir",
        b"read",
        b"pread",
        b"pread_send",
        b"pread_recv",
        b"lseek",
        b"sendfile",
        b"fsync",
        b"fsync_send",
        b"fsync_recv",
        b"stat",
        b"fstat",
        b"lstat",
        b"fstatat",
        b"chdir",
        b"lock",
        b"kernel_flock",
        b"filesystem_sharemode",
        b"fcntl",
        b"linux_setlease",
        b"readlink",
        b"readlinkat",
        b"realpath",
        b"file_id_create",
        b"fs_file_id",
        b"streaminfo",
        b"fstreaminfo",
        b"brl_lock_windows",
        b"brl_unlock_windows",
        b"brl_cancel_windows",
        b"strict_lock",
        b"strict_unlock",
        b"strict_lock_check",
        b"translate_name",
        b"parent_pathname",
        b"fsctl",
        b"offload_read_send",
        b"offload_read_recv",
        b"snap_check_path",
        b"audit_file",
        b"listxattr",
        b"flistxattr",
        b"aio_force",
        b"is_offline",
        b"durable_cookie",
        b"durable_disconnect",
    ];
    const BEGINNINGS: [&[u8]; 8] =
        [b"get", b"fget", b"sys_acl_get", b"sys_acl_blob_get", b"durable_", b"snap_", b"read_dfs", b"aio_"];
    WORDS.contains(&operation) || BEGINNINGS.iter().any(|beginning| operation.starts_with(beginning))
}
