//! The audit log of Apache Ozone's Ozone Manager, with its parameters as a Java map or as JSON. Which names a
//! record gives; putting broken lines together is `records.rs`. See docs/formats/ozone.md.

use crate::change::{Entry, Op};
use crate::dialect::{Delivery, Dialect};
use crate::error::ParseError;
use crate::field::{self, READINGS_MAX};
use crate::sink::Sink;
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memchr_iter, memmem, memrchr};
use serde::Deserialize;
use std::borrow::Cow;

/// How far into a record `| user=` may stand, in bytes: time, level, logger, class.
const HEAD_MAX: usize = 256;

/// The dialect `ozone`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ozone;

impl Dialect for Ozone {
    fn name(&self) -> &'static str {
        "ozone"
    }

    /// The logger is asynchronous, and the handlers of the OM are many.
    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(5))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "keys that the Ozone Manager itself removes, by a snapshot's or a bucket's own rules",
            "which keys of a batch were deleted, where there are several: their directory is scanned",
            "where a Java map is spelled out, a key that holds `, dataSize=` is named in every reading",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Head::of(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = Head::of(record)?;
        let (parameters, is_success) = head.outcome(record)?;
        let action = Action::of(head.operation);
        if is_success && action != Action::Ignored {
            let before = out.len();
            let mut sink = Sink::plain(head.time, head.user, out);
            let result = match parameters.strip_prefix(b"{\"") {
                Some(_) => name_json(action, parameters, &mut sink),
                None => name_map(action, parameters, &mut sink),
            };
            result.map_err(|expected| {
                out.truncate(before);
                ParseError::malformed(head.end, expected)
            })?;
        }
        Ok(head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = Head::of(line) else { return };
        if Action::of(head.operation) != Action::Ignored {
            let parameters = &line[head.end..];
            let place = Place { volume: beginning(parameters, "volume"), bucket: beginning(parameters, "bucket") };
            place.rescan(&mut Sink::plain(head.time, head.user, out));
        }
    }
}

/// What stands before the parameters.
struct Head<'a> {
    time: NaiveDateTime,
    user: Option<&'a [u8]>,
    operation: &'a [u8],
    /// Where the parameters begin, in bytes from the start of the record.
    end: usize,
}

impl<'a> Head<'a> {
    fn of(record: &'a [u8]) -> Result<Self, ParseError> {
        let (rest, time) =
            field::timestamp(record).map_err(|_| ParseError::malformed(0, "a time, yyyy-MM-dd HH:mm:ss,SSS"))?;
        let at = record.len() - rest.len();
        let malformed = |expected| ParseError::malformed(at, expected);
        let after_level = rest.strip_prefix(b" | ").and_then(|rest| split_once(rest, b" | "));
        let (level, rest) = after_level.ok_or(malformed("| LEVEL |"))?;
        let is_level = level.trim_ascii().iter().all(u8::is_ascii_uppercase);
        let rest = rest.strip_prefix(b"OMAudit | ").filter(|_| is_level);
        let rest = rest.ok_or(malformed("OMAudit, the logger of the Ozone Manager"))?;
        let user = memmem::find(&rest[..rest.len().min(HEAD_MAX)], b"user=").ok_or(malformed("| user="))?;
        let (user, rest) = split_once(&rest[user + 5..], b" | ip=").ok_or(malformed("| ip="))?;
        let (_, rest) = split_once(rest, b" | op=").ok_or(malformed("| op="))?;
        let word = rest.iter().take_while(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')).count();
        let (operation, rest) = rest.split_at(word);
        let is_operation = word > 0 && matches!(rest.first(), Some(b' ') | None);
        let user = (!matches!(user, b"" | b"null")).then_some(user);
        let head = Self { time, user, operation, end: record.len() - rest.len() };
        is_operation.then_some(head).ok_or(malformed("an operation and its parameters"))
    }

    /// The parameters, and whether the request was done. Keys are not escaped in a map, so the result is the last thing
    /// that looks like one; lines that follow it are those of a stack trace.
    fn outcome(&self, record: &'a [u8]) -> Result<(&'a [u8], bool), ParseError> {
        let rest = record[self.end..].trim_ascii_start();
        let incomplete = ParseError::incomplete(record.len(), "| ret=SUCCESS or FAILURE");
        if runs_into_another(rest) {
            return Err(ParseError::malformed(self.end, "one record"));
        }
        let end = memmem::rfind(rest, b" | ret=").ok_or(incomplete.clone())?;
        let (parameters, result) = (&rest[..end], &rest[end + 7..]);
        let is_success = result.starts_with(b"SUCCESS");
        let after = result.strip_prefix(b"SUCCESS").or_else(|| result.strip_prefix(b"FAILURE"));
        let after = after.ok_or_else(|| incomplete.clone())?;
        let is_whole = parameters.starts_with(b"{") && parameters.ends_with(b"}") || parameters == b"null";
        if !is_whole {
            return Err(incomplete);
        }
        trace(after, record.len())?;
        Ok((parameters, is_success))
    }
}

/// What may follow the result: bars, times, and an exception that goes on over lines which begin no record.
fn trace(after: &[u8], end: usize) -> Result<(), ParseError> {
    let goes_on = memchr(b'\n', after).is_none() && after.split(|byte| *byte == b'|').any(is_exception);
    if goes_on { Err(ParseError::incomplete(end, "the lines of a stack trace")) } else { Ok(()) }
}

/// Whether a line that begins a record follows one that is complete.
fn runs_into_another(text: &[u8]) -> bool {
    let mut newlines = memchr_iter(b'\n', text);
    let next = newlines.find(|at| Head::of(&text[at + 1..]).is_ok());
    next.is_some_and(|at| memmem::find(&text[..at], b"} | ret=").is_some())
}

/// A class name before a colon, or alone: `org.apache.hadoop.ozone.om.exceptions.OMException: …`.
fn is_exception(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let class = &text[..memchr(b':', text).unwrap_or(text.len())];
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'$' | b'_');
    memchr(b'.', class).is_some() && class.iter().all(is_name)
}

fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memmem::find(text, separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// What an operation does to names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Changes nothing that is kept in step.
    Ignored,
    /// The key is named with this operation; or the bucket, or the volume, where there is no key.
    Names(Op),
    /// Makes the directories above a key.
    Parent,
    Rename,
    Copy,
    /// One key or several, in one text.
    Batch,
    /// A bucket: one that is a link to another shows what that one holds.
    Bucket,
    /// Not known here: something changed near its key.
    Unknown,
}

impl Action {
    fn of(operation: &[u8]) -> Self {
        match operation {
            b"COMMIT_KEY"
            | b"COMPLETE_MULTIPART_UPLOAD"
            | b"HSYNC"
            | b"RECOVER_LEASE"
            | b"CREATE_FILE"
            | b"CREATE_KEY"
            | b"ALLOCATE_KEY"
            | b"UPDATE_KEY" => Self::Names(Op::Write),
            b"DELETE_KEY" | b"DELETE_BUCKET" | b"DELETE_VOLUME" => Self::Names(Op::Delete),
            b"CREATE_DIRECTORY" | b"CREATE_VOLUME" => Self::Names(Op::Mkdir),
            b"CREATE_BUCKET" => Self::Bucket,
            b"INITIATE_MULTIPART_UPLOAD" => Self::Parent,
            b"RENAME_KEY" => Self::Rename,
            b"COPY_KEY" => Self::Copy,
            b"DELETE_KEYS" => Self::Batch,
            b"SET_TIMES"
            | b"SET_OWNER"
            | b"SET_QUOTA"
            | b"UPDATE_VOLUME"
            | b"UPDATE_BUCKET"
            | b"ADD_ACL"
            | b"SET_ACL"
            | b"REMOVE_ACL"
            | b"PUT_OBJECT_TAGGING"
            | b"DELETE_OBJECT_TAGGING"
            | b"SET_LIFECYCLE_CONFIGURATION"
            | b"DELETE_LIFECYCLE_CONFIGURATION" => Self::Names(Op::Attr),
            _ if is_ignored(operation) => Self::Ignored,
            _ => Self::Unknown,
        }
    }
}

/// Reads, parts that are not complete, what is removed already, and what concerns snapshots, tenants, tokens and the
/// cluster itself.
fn is_ignored(operation: &[u8]) -> bool {
    const WORDS: [&[u8]; 21] = [
        b"ALLOCATE_BLOCK",
        b"COMMIT_MULTIPART_UPLOAD_PARTKEY",
        b"ABORT_MULTIPART_UPLOAD",
        b"ABORT_EXPIRED_MULTIPART_UPLOADS",
        b"PURGE_KEYS",
        b"PURGE_PATHS",
        b"PURGE_DIRECTORIES",
        b"DELETE_OPEN_KEYS",
        b"LOOKUP_FILE",
        b"LOOKUP_KEY",
        b"RENEW_DELEGATION_TOKEN",
        b"CANCEL_DELEGATION_TOKEN",
        b"SET_S3_SECRET",
        b"REVOKE_S3_SECRET",
        b"CREATE_TENANT",
        b"DELETE_TENANT",
        b"TRANSFER_LEADERSHIP",
        b"TRIGGER_RANGER_BG_SYNC",
        b"REFETCH_SECRET_KEY",
        b"SET_SAFE_MODE",
        b"DB_CHECKPOINT",
    ];
    const BEGINNINGS: [&[u8]; 8] =
        [b"GET_", b"LIST_", b"READ_", b"CHECK_", b"TENANT_", b"UPGRADE_", b"PREPARE", b"CANCEL_PREPARE"];
    WORDS.contains(&operation)
        || operation.ends_with(b"_SNAPSHOT")
        || operation.starts_with(b"SNAPSHOT_")
        || BEGINNINGS.iter().any(|beginning| operation.starts_with(beginning))
}

/// Where a request says that it works.
#[derive(Clone, Copy)]
struct Place<'a> {
    volume: Option<&'a [u8]>,
    bucket: Option<&'a [u8]>,
}

impl Place<'_> {
    /// The path of a key; of the bucket without one, of the volume without a bucket. A key that ends in a slash is
    /// the directory before it.
    fn path(&self, key: &[u8]) -> Vec<u8> {
        let key = key.strip_suffix(b"/").unwrap_or(key);
        let Some(volume) = self.volume else { return b"/".to_vec() };
        let parts = [Some(volume), self.bucket, self.bucket.and((!key.is_empty()).then_some(key))];
        parts.into_iter().flatten().flat_map(|part| [b"/", part].concat()).collect()
    }

    fn rescan(&self, sink: &mut Sink) {
        sink.name(Op::Rescan, &self.path(b""));
    }

    fn name(&self, op: Op, key: &[u8], sink: &mut Sink) {
        match op {
            _ if self.volume.is_none() => self.rescan(sink),
            Op::Write if self.bucket.is_none() || key.is_empty() => self.rescan(sink),
            Op::Write if key.ends_with(b"/") => sink.name(Op::Mkdir, &self.path(key)),
            op => sink.name(op, &self.path(key)),
        }
    }

    /// A target that is a directory takes the source into it; none is the bucket's root.
    fn rename(&self, from: &[u8], to: &[u8], sink: &mut Sink) {
        let trimmed = from.strip_suffix(b"/").unwrap_or(from);
        let name = &trimmed[memrchr(b'/', trimmed).map_or(0, |slash| slash + 1)..];
        match (self.bucket, from.is_empty()) {
            (None, _) | (_, true) => self.rescan(sink),
            (Some(_), false) if to.is_empty() => sink.rename(&self.path(from), &self.path(name), false),
            (Some(_), false) => sink.rename(&self.path(from), &self.path(to), true),
        }
    }

    /// Keys stand with commas between them, and may hold commas: with several, their common directory.
    fn batch(&self, keys: &[u8], sink: &mut Sink) {
        match (keys.is_empty(), memchr(b',', keys)) {
            (true, _) => return,
            (false, None) => return self.name(Op::Delete, keys, sink),
            (false, Some(_)) => (),
        }
        let mut pieces = keys.split(|byte| *byte == b',').map(<[u8]>::trim_ascii_start);
        let first = pieces.next().unwrap_or_default();
        let directory = pieces.fold(&first[..memrchr(b'/', first).map_or(0, |slash| slash + 1)], common_directory);
        sink.name(Op::Rescan, &self.path(directory));
    }
}

/// As much of a directory, with its slash, as a key lies in.
fn common_directory<'a>(directory: &'a [u8], key: &[u8]) -> &'a [u8] {
    let same = directory.iter().zip(key).take_while(|(one, other)| one == other).count();
    &directory[..memrchr(b'/', &directory[..same]).map_or(0, |slash| slash + 1)]
}

/// What the parameters say, whatever their spelling.
struct Parameters<'a> {
    place: Place<'a>,
    /// What the bucket is a link to.
    source: Option<Place<'a>>,
    key: &'a [u8],
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    keys: Option<&'a [u8]>,
}

impl Parameters<'_> {
    /// Under the bucket's own name, and under that of the bucket it links to.
    fn name(&self, action: Action, sink: &mut Sink) {
        self.name_in(action, self.place, sink);
        if let Some(source) = self.source {
            self.name_in(action, source, sink);
        }
    }

    fn name_in(&self, action: Action, place: Place, sink: &mut Sink) {
        match (action, self.from, self.to) {
            (Action::Ignored, _, _) => (),
            (Action::Names(op), _, _) => place.name(op, self.key, sink),
            (Action::Parent, _, _) => sink.name(Op::Mkdir, &parent(place, self.key)),
            (Action::Rename, Some(from), Some(to)) => place.rename(from, to, sink),
            (Action::Copy, _, Some(to)) => place.name(Op::Write, to, sink),
            (Action::Rename | Action::Copy, _, _) => place.rescan(sink),
            (Action::Batch, _, _) => match self.keys {
                Some(keys) => place.batch(keys, sink),
                None => place.rescan(sink),
            },
            (Action::Bucket, _, _) if self.source.is_some() => place.rescan(sink),
            (Action::Bucket, _, _) => place.name(Op::Mkdir, b"", sink),
            (Action::Unknown, _, _) => sink.name(Op::Rescan, &parent(place, self.key)),
        }
    }
}

/// The directory of a key; without one, the place itself.
fn parent(place: Place, key: &[u8]) -> Vec<u8> {
    let path = place.path(key);
    if key.is_empty() { path } else { field::parent(&path).to_vec() }
}

/// The parameters as JSON, since HDDS-13370.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    #[serde(borrow)]
    volume: Option<Cow<'a, str>>,
    #[serde(borrow)]
    bucket: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    src_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dst_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deleted_keys_list: Option<Text<'a>>,
    #[serde(borrow)]
    source_volume: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source_bucket: Option<Cow<'a, str>>,
}

/// A text, or something else that is not read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(serde::de::IgnoredAny),
}

fn name_json(action: Action, parameters: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
    let json: Json = serde_json::from_slice(parameters).map_err(|_| "parameters in JSON")?;
    let bytes = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| text.as_bytes().to_vec());
    let (source_volume, source_bucket) = (bytes(&json.source_volume), bytes(&json.source_bucket));
    let keys = json.deleted_keys_list.as_ref().and_then(|keys| match keys {
        Text::Text(keys) => Some(keys.as_bytes()),
        Text::Other(_) => None,
    });
    let source = Place { volume: source_volume.as_deref(), bucket: source_bucket.as_deref() };
    let parameters = Parameters {
        place: Place {
            volume: json.volume.as_deref().map(str::as_bytes),
            bucket: json.bucket.as_deref().map(str::as_bytes),
        },
        source: source.bucket.map(|_| source),
        key: json.key.as_deref().map_or(b"", str::as_bytes),
        from: json.src_key.as_deref().map(str::as_bytes),
        to: json.dst_key.as_deref().map(str::as_bytes),
        keys,
    };
    parameters.name(action, sink);
    Ok(())
}

/// Reads `{volume=v, bucket=b, key=k, dataSize=0, …}`, where nothing is escaped: every reading is named.
fn name_map(action: Action, parameters: &[u8], sink: &mut Sink) -> Result<(), &'static str> {
    let text = parameters.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or_default();
    let (volume, rest) = field_of(text, b"volume=");
    let (bucket, rest) = field_of(rest, b"bucket=");
    let place = Place { volume: volume.or_else(|| later_volume(text)), bucket };
    if let Some((rest, source)) = link_of(rest) {
        name_map_in(action, rest, place, Some(source), sink)?;
    }
    name_map_in(action, rest, place, None, sink)
}

fn name_map_in(
    action: Action,
    rest: &[u8],
    place: Place,
    source: Option<Place>,
    sink: &mut Sink,
) -> Result<(), &'static str> {
    let mut named = Parameters { place, source, key: b"", from: None, to: None, keys: None };
    match action {
        Action::Rename | Action::Copy => {
            let Some((_, pair)) = split_once(rest, b"srcKey=") else { return Err("srcKey=") };
            each_reading(pair, b", dstKey=", |from, to| {
                (named.from, named.to) = (Some(from), Some(to));
                named.name(action, sink);
            })
        }
        Action::Batch => {
            let (_, keys) = split_once(rest, b"deletedKeysList=").ok_or("deletedKeysList=")?;
            let end = memmem::rfind(keys, b", unDeletedKeysList=").unwrap_or(keys.len());
            named.keys = Some(&keys[..end]);
            named.name(action, sink);
            Ok(())
        }
        _ => match rest.strip_prefix(b"key=") {
            Some(rest) if memmem::find(rest, b", dataSize=").is_some() => {
                each_reading(rest, b", dataSize=", |key, _| {
                    named.key = key;
                    named.name(action, sink);
                })
            }
            Some(rest) => {
                named.key = rest;
                named.name(action, sink);
                each_field(rest, |key| {
                    named.key = key;
                    named.name(action, sink);
                })
            }
            None => {
                named.name(action, sink);
                Ok(())
            }
        },
    }
}

/// The text before and after each place where a separator stands.
fn each_reading<'a>(
    text: &'a [u8],
    separator: &[u8],
    mut visit: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<(), &'static str> {
    let mut readings = 0;
    for at in memmem::find_iter(text, separator) {
        readings += 1;
        if readings > READINGS_MAX {
            return Err("fewer ways to read one record");
        }
        visit(&text[..at], &text[at + separator.len()..]);
    }
    (readings > 0).then_some(()).ok_or("srcKey= and dstKey=")
}

/// What stands before each `, word=`.
fn each_field<'a>(text: &'a [u8], mut visit: impl FnMut(&'a [u8])) -> Result<(), &'static str> {
    let is_field = |at: &usize| {
        let word = text[at + 2..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        word > 0 && text.get(at + 2 + word) == Some(&b'=')
    };
    for (count, at) in memmem::find_iter(text, b", ").filter(is_field).enumerate() {
        if count == READINGS_MAX {
            return Err("fewer ways to read one record");
        }
        visit(&text[..at]);
    }
    Ok(())
}

/// The value of a first field whose text is the name of a volume or bucket, and what follows it.
fn field_of<'a>(text: &'a [u8], key: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match text.strip_prefix(key) {
        Some(rest) => {
            let end = rest.iter().take_while(|byte| is_of_bucket(byte)).count();
            (Some(&rest[..end]), rest[end..].strip_prefix(b", ").unwrap_or(&rest[end..]))
        }
        None => (None, text),
    }
}

/// Operations on a volume name its owners first.
fn later_volume(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = split_once(text, b", volume=")?;
    field_of(rest, b"").0.filter(|volume| !volume.is_empty())
}

fn is_of_bucket(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// What a bucket is a link to, where it says so: `sourceVolume=v, sourceBucket=b` at the beginning or the end of what
/// follows the bucket. At the end it may be part of a key.
fn link_of(text: &[u8]) -> Option<(&[u8], Place<'_>)> {
    let at = if text.starts_with(b"sourceVolume=") { 0 } else { memmem::rfind(text, b", sourceVolume=")? + 2 };
    let (volume, rest) = field_of(&text[at..], b"sourceVolume=");
    let (bucket, rest) = field_of(rest, b"sourceBucket=");
    let before = text[..at].strip_suffix(b", ").unwrap_or_default();
    let others = if at == 0 { rest } else { before };
    (at == 0 || rest.is_empty()).then_some((others, Place { volume, bucket: Some(bucket?) }))
}

/// The beginning of a value, of a record that cannot be read to its end.
fn beginning<'a>(parameters: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let spellings = [format!("{key}="), format!("\"{key}\":\"")];
    let at = spellings.iter().find_map(|key| Some(memmem::find(parameters, key.as_bytes())? + key.len()))?;
    let end = parameters[at..].iter().take_while(|byte| is_of_bucket(byte)).count();
    (end > 0 && at + end < parameters.len()).then(|| &parameters[at..at + end])
}
