//! The audit log of HDFS NameNodes, Hadoop 2.x to 3.4 and later. Which names a record gives; putting
//! broken lines together is `records.rs`, fields and times are `field.rs`. See docs/formats/hdfs.md.

use crate::change::{Entry, Op};
use crate::dialect::Dialect;
use crate::error::ParseError;
use crate::field::{self, Head, Marks, READINGS_MAX, Reading, Request, Standing};
use crate::sink::Sink;
use chrono::NaiveDateTime;
use std::borrow::Cow;

/// The dialect `hdfs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hdfs {
    pub names: Names,
}

/// How the NameNode spells names. Hadoop up to 2.7 writes them as they are, 2.8 and later as Java escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// Each name tells, or else is given in both readings.
    #[default]
    Either,
    Escaped,
    Raw,
}

impl Dialect for Hdfs {
    fn name(&self) -> &'static str {
        match self.names {
            Names::Either => "hdfs",
            Names::Escaped => "hdfs-escaped",
            Names::Raw => "hdfs-raw",
        }
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "the end of a write: create and append are logged when a file is opened, and nothing when it is closed",
            "where a path below /.reserved/.inodes is: everything is scanned",
            "what commands do that dfs.namenode.audit.log.debug.cmdlist hides, and lines that a non-blocking appender dropped",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        field::head(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = field::head(record)?;
        let is_quiet = |command: &[u8]| !head.allowed || Command::of(command) == Command::Ignored;
        if field::is_plainly(record, &head, is_quiet) {
            return Ok(head.time);
        }
        self.parse_marks(record, &head, out)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = field::head(line) else { return };
        let marks = Marks::of_beginning(line, &head);
        if let Some(request) = marks.first_request().filter(|_| head.allowed) {
            self.salvage_request(&request, &marks, &mut Sink::new(&head, &marks, out));
        }
    }
}

impl Hdfs {
    /// Reads a record in every way there is.
    fn parse_marks(&self, record: &[u8], head: &Head, out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let marks = Marks::of(record, head)?;
        let before = out.len();
        let mut sink = Sink::new(head, &marks, out);
        let result = marks
            .read_requests(head.allowed, |request, standing| self.parse_request(request, standing, &marks, &mut sink));
        result.inspect_err(|_| out.truncate(before)).map(|()| head.time)
    }

    fn parse_request(
        &self,
        request: &Request,
        standing: Standing,
        marks: &Marks,
        sink: &mut Sink,
    ) -> Result<(), ParseError> {
        if standing.may_be_cut {
            self.salvage_request(request, marks, sink);
        }
        let command = if standing.allowed { Command::of(request.command) } else { Command::Ignored };
        let mut readings = marks.readings(request).peekable();
        readings.peek().ok_or_else(|| marks.incomplete())?;
        match command {
            Command::Ignored => Ok(()),
            command => self.name_all(command, readings, marks.column(request), sink),
        }
    }

    /// Names what each reading names.
    fn name_all<'a>(
        &self,
        command: Command,
        readings: impl Iterator<Item = Reading<'a>>,
        column: usize,
        sink: &mut Sink,
    ) -> Result<(), ParseError> {
        let mut has_meaning = false;
        for (index, reading) in readings.enumerate() {
            if index == READINGS_MAX {
                return Err(ParseError::malformed(column, "fewer ways to read one record"));
            }
            self.each_spelling(reading, |src, dst| has_meaning |= command.name(src, dst, sink));
        }
        has_meaning.then_some(()).ok_or(ParseError::malformed(column, "absolute paths, spelled as the setting says"))
    }

    /// What can be said of a request that has no reading, or too many: something changed near where its
    /// paths begin.
    fn salvage_request(&self, request: &Request, marks: &Marks, sink: &mut Sink) {
        if Command::of(request.command) == Command::Ignored {
            return;
        }
        let (src, dst) = marks.beginnings(request);
        for path in [Some(src.strip_prefix(b"[").unwrap_or(src)), dst].into_iter().flatten() {
            if path.starts_with(b"/") {
                let directory = Reading { src: field::parent(path), dst: b"null" };
                self.each_spelling(directory, |src, _| _ = name(Op::Rescan, src, sink));
            }
        }
    }

    fn each_spelling(&self, raw: Reading, mut visit: impl FnMut(&[u8], &[u8])) {
        let has_backslash = || memchr::memchr(b'\\', raw.src).or_else(|| memchr::memchr(b'\\', raw.dst)).is_some();
        if self.names == Names::Raw || (self.names == Names::Either && !has_backslash()) {
            return visit(raw.src, raw.dst);
        }
        let escaped = unescape(raw.src).zip(unescape(raw.dst));
        if let Some((src, dst)) = &escaped {
            visit(src, dst);
        }
        if self.names == Names::Either {
            visit(raw.src, raw.dst);
        }
    }
}

/// What a command does to names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// Changes nothing that is kept in step.
    Ignored,
    Write,
    Mkdir,
    Delete,
    Attr,
    /// The old call: `dst` may be a directory that `src` went into.
    Rename,
    /// With options: `dst` is the final path.
    RenameExact,
    /// `src` holds several paths, which are gone; `dst` grew.
    Concat,
    /// The directory gets another time.
    Snapshot,
    /// Not known here: something changed near its paths.
    Unknown,
}

impl Command {
    /// The most frequent first: reads are nine of ten lines.
    fn of(command: &[u8]) -> Self {
        match command {
            b"listStatus" | b"getfileinfo" | b"open" => Self::Ignored,
            b"create" | b"append" | b"truncate" | b"createSymlink" => Self::Write,
            b"delete" => Self::Delete,
            b"rename" => Self::Rename,
            b"mkdirs" => Self::Mkdir,
            b"concat" => Self::Concat,
            b"setPermission" | b"setOwner" | b"setTimes" | b"setReplication" => Self::Attr,
            b"setStoragePolicy" | b"unsetStoragePolicy" | b"satisfyStoragePolicy" => Self::Attr,
            b"setXAttr" | b"removeXAttr" => Self::Attr,
            b"setAcl" | b"removeAcl" | b"modifyAclEntries" | b"removeAclEntries" | b"removeDefaultAcl" => Self::Attr,
            b"setQuota" | b"clearQuota" | b"setSpaceQuota" | b"clearSpaceQuota" | b"setQuotaByStorageType" => {
                Self::Attr
            }
            b"createEncryptionZone" | b"setErasureCodingPolicy" | b"unsetErasureCodingPolicy" => Self::Attr,
            b"createSnapshot" | b"deleteSnapshot" | b"renameSnapshot" => Self::Snapshot,
            _ if command.starts_with(b"rename (options=") => Self::RenameExact,
            _ if is_ignored(command) => Self::Ignored,
            _ => Self::Unknown,
        }
    }

    /// Says what one reading names; false, and nothing is said, if it cannot be one.
    fn name(self, src: &[u8], dst: &[u8], sink: &mut Sink) -> bool {
        match self {
            Self::Ignored => true,
            Self::Write => name(Op::Write, src, sink),
            Self::Mkdir => name(Op::Mkdir, src, sink),
            Self::Delete => name(Op::Delete, src, sink),
            Self::Attr => name(Op::Attr, src, sink),
            Self::Snapshot => name(Op::Attr, snapshot_root(src), sink),
            Self::Rename => rename(src, dst, true, sink),
            Self::RenameExact => rename(src, dst, false, sink),
            Self::Concat => concat(src, dst, sink),
            Self::Unknown => unknown(src, dst, sink),
        }
    }
}

/// Reads, and what concerns the cluster itself, its caches and tokens.
fn is_ignored(command: &[u8]) -> bool {
    const WORDS: [&[u8]; 49] = [
        b"contentSummary",
        b"quotaUsage",
        b"checkAccess",
        b"computeSnapshotDiff",
        b"ListSnapshot",
        b"fsck",
        b"allowSnapshot",
        b"disallowSnapshot",
        b"gcDeletedSnapshot",
        b"addCacheDirective",
        b"modifyCacheDirective",
        b"removeCacheDirective",
        b"addCachePool",
        b"modifyCachePool",
        b"removeCachePool",
        b"renewDelegationToken",
        b"cancelDelegationToken",
        b"metaSave",
        b"saveNamespace",
        b"datanodeReport",
        b"slowDataNodesReport",
        b"rollEditLog",
        b"rollEdits",
        b"restoreFailedStorage",
        b"refreshNodes",
        b"refreshServiceAcl",
        b"refreshUserToGroupsMappings",
        b"refreshSuperUserGroupsConfiguration",
        b"refreshCallQueue",
        b"setBalancerBandwidth",
        b"setNetworkTopologyScript",
        b"finalizeUpgrade",
        b"queryRollingUpgrade",
        b"startRollingUpgrade",
        b"finalizeRollingUpgrade",
        b"STARTreencryption",
        b"CANCELreencryption",
        b"addErasureCodingPolicies",
        b"removeErasureCodingPolicy",
        b"enableErasureCodingPolicy",
        b"disableErasureCodingPolicy",
        b"startReconfiguration",
        b"upgradeStatus",
        b"transitionToActive",
        b"transitionToStandby",
        b"transitionToObserver",
        b"monitorHealth",
        b"msync",
        b"recoverLease",
    ];
    is_question(command) || WORDS.contains(&command) || command.starts_with(b"safemode_")
}

/// `getAclStatus`, `listXAttrs`, `isFileClosed` and those of their kind that are still to come.
fn is_question(command: &[u8]) -> bool {
    let verbs: [&[u8]; 3] = [b"get", b"list", b"is"];
    verbs.iter().any(|verb| command.strip_prefix(*verb).and_then(<[u8]>::first).is_some_and(u8::is_ascii_uppercase))
}

/// The directory that a snapshot is of: the path itself, or what stands before the snapshot's own name
/// (`Snapshot.getSnapshotPath`).
fn snapshot_root(path: &[u8]) -> &[u8] {
    match memchr::memmem::find(path, b"/.snapshot/") {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None => path,
    }
}

/// What a path of the log says.
enum Place<'a> {
    Path(&'a [u8]),
    /// `/.reserved/.inodes/<id>`: somewhere.
    Unresolvable,
    /// Not an absolute path: `null`, a pool, a token.
    Nothing,
}

impl<'a> Place<'a> {
    fn of(path: &'a [u8]) -> Self {
        if !path.starts_with(b"/") {
            return Self::Nothing;
        }
        match path.strip_prefix(b"/.reserved/") {
            Some(reserved) if reserved.starts_with(b".inodes/") => Self::Unresolvable,
            Some(b"raw") => Self::Path(b"/"),
            Some(reserved) if reserved.starts_with(b"raw/") => Self::Path(trimmed(&reserved[3..])),
            Some(_) | None => Self::Path(trimmed(path)),
        }
    }
}

/// Without the slashes that WebHDFS clients leave at the end.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    &path[..end]
}

/// Says what a path of the log names; false if it names nothing.
fn name(op: Op, path: &[u8], sink: &mut Sink) -> bool {
    match Place::of(path) {
        Place::Path(path) => sink.name(op, path),
        Place::Unresolvable => sink.name(Op::Rescan, b"/"),
        Place::Nothing => return false,
    }
    true
}

fn rename(src: &[u8], dst: &[u8], into: bool, sink: &mut Sink) -> bool {
    match (Place::of(src), Place::of(dst)) {
        (Place::Nothing, _) | (_, Place::Nothing) => return false,
        (Place::Path(src), Place::Path(dst)) => sink.rename(src, dst, into),
        (Place::Unresolvable, _) | (_, Place::Unresolvable) => sink.name(Op::Rescan, b"/"),
    }
    true
}

fn concat(src: &[u8], dst: &[u8], sink: &mut Sink) -> bool {
    let list = src.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]"));
    let Some(list) = list.filter(|list| list.starts_with(b"/")) else { return false };
    let is_named = name(Op::Write, dst, sink);
    is_named && concat_sources(list).all(|source| name(Op::Delete, source, sink))
}

/// The paths of `/a, /b`: each piece that begins with a slash, and the whole. There are no others to
/// fear: all sources lie in the directory of the target, so no name of theirs can hold a slash.
fn concat_sources(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let borders = memchr::memmem::find_iter(list, b", /");
    let starts = std::iter::once(0).chain(borders.clone().map(|at| at + 2));
    let ends = borders.chain([list.len()]);
    starts.zip(ends).map(|(start, end)| &list[start..end]).chain([list])
}

fn unknown(src: &[u8], dst: &[u8], sink: &mut Sink) -> bool {
    if memchr::memmem::find(src, b"://").is_some() {
        return false;
    }
    for path in [src, dst] {
        match Place::of(path) {
            Place::Path(path) => sink.name(Op::Rescan, field::parent(path)),
            Place::Unresolvable => sink.name(Op::Rescan, b"/"),
            Place::Nothing => (),
        }
    }
    true
}

/// Undoes Java's `escapeJava`. `None` if it cannot have written this: a byte that it always escapes
/// (control characters, quotes, all beyond ASCII), an escape that it never writes, half a surrogate pair.
fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let is_plain = |byte: &u8| matches!(byte, 0x20..=0x7f) && *byte != b'"';
    let Some(mut at) = memchr::memchr(b'\\', text) else {
        return text.iter().all(is_plain).then_some(Cow::Borrowed(text));
    };
    let mut bytes = Vec::with_capacity(text.len());
    if !text[..at].iter().all(is_plain) {
        return None;
    }
    bytes.extend_from_slice(&text[..at]);
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'\\' => unescape_one(&text[at + 1..], &mut bytes)? + 1,
            byte if is_plain(byte) => {
                bytes.push(*byte);
                1
            }
            _ => return None,
        };
    }
    Some(Cow::Owned(bytes))
}

/// Takes what follows a backslash; returns how many bytes that were.
fn unescape_one(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = match rest.first()? {
        b'u' => return unescape_unicode(rest, out),
        b't' => b'\t',
        b'n' => b'\n',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0c,
        byte @ (b'\\' | b'"') => *byte,
        _ => return None,
    };
    out.push(byte);
    Some(1)
}

/// Takes `uXXXX`, or `uXXXX\uXXXX` where two UTF-16 units are one character.
fn unescape_unicode(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let first = utf16_unit(rest)?;
    let (units, taken) = match first {
        0xd800..=0xdbff => ([first, utf16_unit(rest.get(5..)?.strip_prefix(b"\\")?)?], 11),
        _ => ([first, 0], 5),
    };
    let character = char::decode_utf16(units).next()?.ok()?;
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(taken)
}

fn utf16_unit(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIALECT: Hdfs = Hdfs { names: Names::Either };

    /// What a record may be made of, most of all of what makes it no plain one.
    const PIECES: [&str; 26] = [
        "\tcmd=open",
        "\tcmd=delete",
        "\tcmd=getfileinfo",
        "\tcmd=",
        "\tsrc=/a",
        "\tsrc=",
        "\tdst=null",
        "\tdest=/b",
        "\tdst=",
        "\tperm=null",
        "\tperm=",
        "\tproto=rpc",
        "\tcallerContext=x",
        "\tugi=u (auth:SIMPLE)",
        "\tip=/1",
        "\tns=n",
        "\t",
        " ",
        "\n",
        "cmd=open",
        " cmd=open src=/a dst=null perm=null",
        "/a b",
        "\\t",
        "\tcmd=open\tsrc=/a\tdst=null\tperm=null",
        "\tcmd=delete\tsrc=/a\tdst=null\tperm=null",
        "\tcmd=delete\tsrc=/a",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

        #[test]
        fn a_plain_record_gives_what_reading_all_its_fields_gives(
            allowed: bool,
            before in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..4),
            plain: bool,
            after in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..7),
            many in prop_oneof![9 => Just(0), 1 => 85..100_usize],
        ) {
            let request = if plain { PIECES[23] } else { "" };
            let (before, after, many) = (before.concat(), after.concat(), "\tsrc=x".repeat(many));
            let record = format!("2026-11-21 03:51:07,555 x: allowed={allowed}{before}{request}{after}{many}");
            let head = field::head(record.as_bytes());
            prop_assume!(head.is_ok());
            let (mut quick, mut slow) = (Vec::new(), Vec::new());
            let quickly = DIALECT.parse(record.as_bytes(), &mut quick);
            let slowly = DIALECT.parse_marks(record.as_bytes(), &head?, &mut slow);
            prop_assert_eq!((quickly, quick), (slowly, slow));
        }
    }
}
