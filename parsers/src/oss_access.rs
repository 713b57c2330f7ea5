//! The access log of Alibaba OSS, as the service stores it in a bucket. Which keys a line names, in every way in which
//! it can be read. See docs/formats/oss-access.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::effect::{self, Effect};
use crate::error::ParseError;
use crate::field::READINGS_MAX;
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memchr_iter, memmem, memrchr};
use std::borrow::Cow;

/// Bytes of an object name as it is written: 1,023 bytes, each as `%XX`, and some room.
const OBJECT_MAX: usize = 4096;
/// Bytes of an operation's name.
const OPERATION_MAX: usize = 64;

/// The dialect `oss-access`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OssAccess;

impl Dialect for OssAccess {
    fn name(&self) -> &'static str {
        "oss-access"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(3))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "which keys a DeleteObjects request removed: its bucket is scanned",
            "requests that were interrupted, and lines that OSS lost: delivery is not guaranteed",
            "what OSS-HDFS does below .dlsdata/: use the log of that service",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Head::of(line).is_ok()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = Head::of(record)?;
        let start = out.len();
        let read = each_reading(record, &head, |reading| reading.say(&head, record, out));
        match read {
            Ok(()) => effect::remove_doubles(out, start),
            Err(_) => out.truncate(start),
        }
        read.map(|()| head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = Head::of(line) else { return };
        let reads = [&b"GET "[..], b"HEAD ", b"OPTIONS "].iter().any(|method| head.request.starts_with(method));
        if !reads && !head.was_refused(line, line.len()) {
            Objects::new(head.time, None, out).rescan_bucket(b"");
        }
    }
}

/// `IP - - [TIME] "METHOD TARGET HTTP/1.1" …`
struct Head<'a> {
    time: NaiveDateTime,
    /// Method and target, perhaps with more after them: nothing is known of quotes in a target.
    request: &'a [u8],
    /// Where the request begins, in bytes of the record.
    end: usize,
}

impl<'a> Head<'a> {
    fn of(record: &'a [u8]) -> Result<Self, ParseError> {
        let address = memchr(b' ', record).filter(|end| *end > 0).ok_or(ParseError::malformed(0, "an address"))?;
        let begin = address + b" - - [".len();
        let is_log = record[address..].starts_with(b" - - [");
        is_log.then_some(()).ok_or(ParseError::malformed(address, "- - [time]"))?;
        let rest = &record[begin..];
        let close = memchr(b']', &rest[..rest.len().min(40)]);
        let time = close.and_then(|close| time::access_log(&rest[..close]));
        let (Some(close), Some(time)) = (close, time) else {
            return Err(ParseError::malformed(begin, "dd/Mon/yyyy:HH:mm:ss +0800]"));
        };
        let end = begin + close + 2;
        let request = record.get(end..).filter(|_| record[end - 1] == b' ');
        let request = request.ok_or(ParseError::malformed(end - 1, "a quoted request"))?;
        Ok(Self { time, request: request.strip_prefix(b"\"").unwrap_or(request), end })
    }

    /// What stands between the method and ` HTTP/1.1`; empty if there is no such thing.
    fn target(&self) -> &'a [u8] {
        let line = &self.request[..memchr(b'"', self.request).unwrap_or(self.request.len())];
        let begin = memchr(b' ', line).map_or(line.len(), |space| space + 1);
        let end = memrchr(b' ', line).filter(|space| line[space + 1..].starts_with(b"HTTP/"));
        &line[begin..end.unwrap_or(line.len()).max(begin)]
    }

    /// Every number that stands where a status may stand, before a place, is that of a refusal. (A client chooses the
    /// target and the user agent, and may write a status into them.)
    fn was_refused(&self, record: &[u8], before: usize) -> bool {
        let text = &record[self.end.min(before)..before];
        let after_quotes = memmem::find_iter(text, b"\" ").map(|quote| &text[quote + 2..]);
        let mut statuses = after_quotes.filter_map(|rest| effect::status(&rest[..word_end(rest)])).peekable();
        statuses.peek().is_some() && statuses.all(effect::is_refusal)
    }
}

/// Where the first word ends, if it has three letters; else nowhere.
fn word_end(rest: &[u8]) -> usize {
    memchr(b' ', &rest[..rest.len().min(4)]).unwrap_or(0)
}

/// One way to read the end of a line: `"OPERATION" "BUCKET" "OBJECT" SIZE COST "ERROR" LENGTH "USER" …`
struct Reading<'a> {
    /// Where it begins, in bytes of the record.
    at: usize,
    operation: &'a [u8],
    /// Empty where the line has none.
    bucket: &'a [u8],
    object: Option<&'a [u8]>,
}

/// Every place where the fields that the server writes may begin. Quotes are not escaped, and a user agent or an object
/// may hold them.
fn each_reading<'a>(record: &'a [u8], head: &Head, mut say: impl FnMut(&Reading<'a>)) -> Result<(), ParseError> {
    let (mut places, mut readings) = (0, 0);
    for at in memchr_iter(b'"', &record[head.end..]).map(|quote| head.end + quote) {
        let Some((operation, bucket, rest)) = beginning(&record[at..]) else { continue };
        places += 1;
        for object in objects(rest, operation != b"-") {
            readings += 1;
            say(&Reading { at, operation, bucket, object });
        }
        if places.max(readings) > READINGS_MAX {
            return Err(ParseError::malformed(at, "fewer ways to read one record"));
        }
    }
    let is_read = readings > 0;
    is_read.then_some(()).ok_or(ParseError::malformed(head.end, "\"operation\" \"bucket\" \"object\" and numbers"))
}

/// `"OPERATION" "BUCKET" `, and what follows.
fn beginning(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // Half of all quotes end a value, and most values are none: one byte tells.
    text.get(1).filter(|byte| byte.is_ascii_alphabetic() || **byte == b'-')?;
    let (operation, rest) = field(text)?;
    if !is_operation(operation) {
        return None;
    }
    let (bucket, rest) = field(rest)?;
    match bucket {
        b"-" => Some((operation, b"", rest)),
        bucket => is_bucket(bucket).then_some((operation, bucket, rest)),
    }
}

/// One field and what follows the space after it: up to the next quote, or a bare word.
fn field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, rest) = match text.strip_prefix(b"\"") {
        Some(text) => {
            let end = memchr(b'"', text)?;
            (&text[..end], &text[end + 1..])
        }
        None => text.split_at(memchr(b' ', text)?),
    };
    Some((value, rest.strip_prefix(b" ")?))
}

/// `PutObject`, `get_image_info`, or `-`: unlike an id, a number or `true`.
fn is_operation(text: &[u8]) -> bool {
    let has_letters = text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_name = text.first().is_some_and(u8::is_ascii_uppercase) && text.iter().any(u8::is_ascii_lowercase);
    text == b"-" || (text.len() <= OPERATION_MAX && has_letters && (is_name || text.contains(&b'_')))
}

fn is_bucket(text: &[u8]) -> bool {
    let is_own = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (3..=63).contains(&text.len()) && text.iter().all(is_own)
}

/// The objects that the next field may be: it ends at any quote that numbers follow. `None` is a field without one.
fn objects(text: &[u8], may_hold_quotes: bool) -> impl Iterator<Item = Option<&[u8]>> {
    let bare = text.strip_prefix(b"- ").filter(|rest| has_numbers(rest)).map(|_| None);
    let quoted = text.strip_prefix(b"\"").unwrap_or_default();
    let quoted = &quoted[..quoted.len().min(OBJECT_MAX)];
    let limit = if may_hold_quotes { READINGS_MAX } else { 1 };
    let ends = memchr_iter(b'"', quoted).take(limit).filter(|end| {
        let rest = &text[1 + end + 1..];
        rest.strip_prefix(b" ").is_some_and(has_numbers)
    });
    bare.into_iter().chain(ends.map(|end| Some(&quoted[..end])))
}

/// `SIZE COST "ERROR" LENGTH "USER"`
fn has_numbers(text: &[u8]) -> bool {
    let numbers = number(text).and_then(number).and_then(field).and_then(|(_, rest)| number(rest));
    numbers.is_some_and(|user| matches!(user.first(), Some(b'"' | b'-')))
}

/// What follows `123 ` or `- `.
fn number(text: &[u8]) -> Option<&[u8]> {
    let end = memchr(b' ', &text[..text.len().min(24)])?;
    let (word, rest) = (&text[..end], &text[end + 1..]);
    (word == b"-" || (end > 0 && word.iter().all(u8::is_ascii_digit))).then_some(rest)
}

/// The account in the field before.
fn user_before(record: &[u8], at: usize) -> Option<&str> {
    let before = record[..at].strip_suffix(b"\" ")?;
    let begin = memrchr(b'"', before)? + 1;
    let user = std::str::from_utf8(&before[begin..]).ok()?;
    (user != "-").then_some(user)
}

impl Reading<'_> {
    fn say(&self, head: &Head, record: &[u8], out: &mut Vec<Entry>) {
        let effect = effect_of(self.operation);
        if effect == Effect::Nothing || head.was_refused(record, self.at) {
            return;
        }
        let (_, query) = url::split_query(head.target());
        let effect = if url::has_parameter(query, b"versionId") { effect.of_version() } else { effect };
        let keys = keys(head.target(), self.bucket, self.object);
        effect.say(&mut Objects::new(head.time, user_before(record, self.at), out), self.bucket, &keys);
    }
}

/// The keys that a line may mean. It is not documented whether the object is written as it is or as in a URL: where the
/// target agrees with either, that is the key; else each reading is one.
fn keys<'a>(target: &'a [u8], bucket: &[u8], object: Option<&'a [u8]>) -> Vec<Cow<'a, [u8]>> {
    let (path, _) = url::split_query(target);
    let whole = path.strip_prefix(b"/").unwrap_or_default();
    let below = whole.strip_prefix(bucket).and_then(|rest| rest.strip_prefix(b"/")).unwrap_or_default();
    let targets = [url::percent(whole), url::percent(below)];
    let objects = object.filter(|object| *object != b"-").map(|object| [Cow::Borrowed(object), url::percent(object)]);
    let agreed = targets.iter().find(|key| objects.as_ref().is_some_and(|objects| objects.contains(key)));
    if let Some(key) = agreed {
        return vec![key.clone()];
    }
    let mut keys: Vec<_> = targets.into_iter().chain(objects.into_iter().flatten()).collect();
    keys.retain(|key| !key.is_empty());
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn effect_of(operation: &[u8]) -> Effect {
    let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
    let is_one_of = |names: &[&str]| names.iter().any(|name| is(name));
    let begins =
        |prefix: &str| operation.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()));
    match operation {
        _ if begins("Get") || begins("Head") || begins("List") || begins("Options") || begins("Select") => {
            Effect::Nothing
        }
        _ if is_one_of(&WRITES) => Effect::Names(Op::Write),
        _ if is_one_of(&["DeleteObject", "ExpireObject"]) => Effect::Names(Op::Delete),
        _ if is("DeleteDirectory") => Effect::Directory(Op::Delete),
        _ if is("CreateDirectory") => Effect::Directory(Op::Mkdir),
        _ if is_one_of(&ATTRIBUTES) => Effect::Names(Op::Attr),
        _ if is_one_of(&NOTHING) => Effect::Nothing,
        _ if is("PutBucket") => Effect::Bucket(Op::Mkdir),
        _ if is("DeleteBucket") => Effect::Bucket(Op::Delete),
        _ if begins("PutBucket") || begins("DeleteBucket") => Effect::Nothing,
        _ if is_one_of(&["DeleteObjects", "DeleteMultipleObjects", "Rename", "RenameObject"]) => Effect::Inside,
        _ if is("PostProcessTask") => Effect::Anywhere,
        _ => Effect::Unknown,
    }
}

const WRITES: [&str; 9] = [
    "PutObject",
    "PostObject",
    "CopyObject",
    "AppendObject",
    "CompleteUploadPart",
    "CompleteMultipartUpload",
    "PostVodPlaylist",
    "PutObjectSymlink",
    "PutSymlink",
];

const ATTRIBUTES: [&str; 7] = [
    "CommitTransition",
    "RestoreObject",
    "CleanRestoredObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "DeleteObjectTagging",
    "PutObjectMeta",
];

const NOTHING: [&str; 9] = [
    "UploadPart",
    "UploadPartCopy",
    "InitiateMultipartUpload",
    "AbortMultipartUpload",
    "ProcessImage",
    "PutLiveChannel",
    "PutLiveChannelStatus",
    "DeleteLiveChannel",
    "RedirectBucket",
];
