//! The access log of Tencent COS. Which keys a line names. See docs/formats/cos-access.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::effect::{self, Effect};
use crate::error::ParseError;
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memchr_iter, memmem};

/// Fields before the user agent, which is the first that a client fills with any text.
const FIELDS: usize = 13;
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"];

/// The dialect `cos-access`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CosAccess;

impl Dialect for CosAccess {
    fn name(&self) -> &'static str {
        "cos-access"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(1))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "what lifecycle rules delete: they write no line",
            "what replication from another bucket writes: it writes no line",
            "which keys a request to delete several removed: its bucket is scanned",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Front::of(line).is_ok_and(|front| front.checked().is_ok())
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let front = Front::of(record)?;
        let time = front.checked()?;
        let statuses = statuses(front.rest).ok_or(ParseError::malformed(front.end, "a user agent and a status"))?;
        if !statuses.into_iter().all(effect::is_refusal) {
            front.say(time, out);
        }
        Ok(time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(front) = Front::of(line) else { return };
        if let Ok(time) = front.checked()
            && effect_of(front.operation) != Effect::Nothing
        {
            Objects::new(time, None, out).rescan_bucket(front.bucket);
        }
    }
}

/// The fields that a line begins with, as far as they are used. None of them can hold a space.
struct Front<'a> {
    version: &'a [u8],
    bucket: &'a [u8],
    time: &'a [u8],
    operation: &'a [u8],
    path: &'a [u8],
    method: &'a [u8],
    /// What follows the method, and where it begins, in bytes of the record.
    rest: &'a [u8],
    end: usize,
}

impl<'a> Front<'a> {
    fn of(record: &'a [u8]) -> Result<Self, ParseError> {
        let (mut fields, mut rest) = ([&record[..0]; FIELDS], record);
        for field in &mut fields {
            let end = memchr(b' ', rest).ok_or(ParseError::malformed(record.len(), "a space and more fields"))?;
            (*field, rest) = (&rest[..end], &rest[end + 1..]);
        }
        let [version, bucket, _, time, _, operation, _, _, _, _, _, path, method] = fields;
        Ok(Self { version, bucket, time, operation, path, method, rest, end: record.len() - rest.len() })
    }

    /// The time, if all fields are what they must be.
    fn checked(&self) -> Result<NaiveDateTime, ParseError> {
        let is_version = matches!(self.version, [b'1'..=b'9', b'.', b'0'..=b'9']);
        is_version.then_some(()).ok_or(ParseError::malformed(0, "eventVersion, like 1.0"))?;
        is_bucket(self.bucket)
            .then_some(())
            .ok_or(ParseError::malformed(4, "bucketName, with the number of its account"))?;
        let is_path = self.path == b"-" || self.path.starts_with(b"/");
        is_path.then_some(()).ok_or(ParseError::malformed(self.end, "reqPath, with a slash before it"))?;
        let is_method = METHODS.iter().any(|method| self.method.eq_ignore_ascii_case(method.as_bytes()));
        (is_method || self.method == b"-").then_some(()).ok_or(ParseError::malformed(self.end, "reqMethod"))?;
        time::rfc3339(self.time).ok_or(ParseError::malformed(4, "eventTime, in UTC"))
    }

    fn say(&self, time: NaiveDateTime, out: &mut Vec<Entry>) {
        let effect = match effect_of(self.operation) {
            effect if memmem::find(self.rest, b"versionId=").is_some() => effect.of_version(),
            effect => effect,
        };
        let whole = self.path.strip_prefix(b"/").unwrap_or_default();
        let mut keys = vec![url::percent(url::split_query(whole).0), url::percent(whole)];
        keys.dedup();
        keys.retain(|key| !key.is_empty());
        // `requester` stands behind text that a client chose, so no user is named.
        effect.say(&mut Objects::new(time, None, out), self.bucket, &keys);
    }
}

/// `name-1250000000`, or a log of something that has no account: `-`.
fn is_bucket(text: &[u8]) -> bool {
    let is_own = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let account = text.rsplit(|byte| *byte == b'-').next().unwrap_or_default();
    text.iter().all(is_own)
        && account.len() >= 5
        && account.len() < text.len()
        && account.iter().all(u8::is_ascii_digit)
}

/// The numbers that may be the status: the word after the user agent. Quotes in a user agent are not known to be
/// escaped, and one without quotes may hold spaces: then every such number counts.
fn statuses(rest: &[u8]) -> Option<Vec<u16>> {
    let word = |text: &[u8]| {
        let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        effect::status(&text[..end]).or((&text[..end] == b"-").then_some(200))
    };
    let found: Vec<u16> = match rest.first()? {
        b'"' => memmem::find_iter(rest, b"\" ").filter_map(|quote| word(&rest[quote + 2..])).collect(),
        _ => {
            let after_words = memchr_iter(b' ', rest).map(|space| &rest[space + 1..]);
            after_words.filter(|text| is_before_error(text).is_some()).filter_map(word).collect()
        }
    };
    (!found.is_empty()).then_some(found)
}

/// Whether a word stands before an error, its text, and two numbers, each of which may be `-`.
fn is_before_error(text: &[u8]) -> Option<()> {
    let after_word = |text: &'_ [u8]| memchr(b' ', text).map(|space| space + 1);
    let is_number = |text: &[u8]| text.starts_with(b"-") || text.first().is_some_and(u8::is_ascii_digit);
    let error = &text[after_word(text)?..];
    let message = &error[after_word(error)?..];
    let end = if message.starts_with(b"\"") { memmem::find(message, b"\" ")? + 2 } else { after_word(message)? };
    let bytes = &message[end..];
    let time = &bytes[after_word(bytes)?..];
    (!error.first()?.is_ascii_digit() && is_number(bytes) && is_number(time)).then_some(())
}

fn effect_of(operation: &[u8]) -> Effect {
    let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
    let is_one_of = |names: &[&str]| names.iter().any(|name| is(name));
    let begins =
        |prefix: &str| operation.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()));
    match operation {
        _ if ["Get", "Head", "List", "Option", "Select"].into_iter().any(begins) => Effect::Nothing,
        _ if is_one_of(&WRITES) => Effect::Names(Op::Write),
        _ if is("DeleteObject") => Effect::Names(Op::Delete),
        _ if is_one_of(&ATTRIBUTES) => Effect::Names(Op::Attr),
        _ if is_one_of(&NOTHING) => Effect::Nothing,
        _ if is("PutBucket") => Effect::Bucket(Op::Mkdir),
        _ if is("DeleteBucket") => Effect::Bucket(Op::Delete),
        _ if begins("PutBucket") || begins("DeleteBucket") => Effect::Nothing,
        _ if begins("DeleteMulti") || begins("Rename") => Effect::Inside,
        _ => Effect::Unknown,
    }
}

const WRITES: [&str; 8] = [
    "PutObject",
    "PostObject",
    "PutObjectCopy",
    "CopyObject",
    "AppendObject",
    "CompleteMultipartUpload",
    "PutSymlink",
    "PutObjectSymlink",
];

const ATTRIBUTES: [&str; 7] = [
    "PutObjectACL",
    "PutObjectTagging",
    "DeleteObjectTagging",
    "PostObjectRestore",
    "RestoreObject",
    "PutObjectRetention",
    "PutObjectLegalHold",
];

const NOTHING: [&str; 4] = ["UploadPart", "UploadPartCopy", "InitiateMultipartUpload", "AbortMultipartUpload"];
