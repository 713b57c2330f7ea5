//! Amazon S3 server access logs. Which names a line gives, and in which spellings a key stands in it. See
//! docs/formats/s3-access.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::error::ParseError;
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem, memrchr};

/// The dialect `s3-access`.
#[derive(Debug, Clone, Copy, Default)]
pub struct S3Access;

impl Dialect for S3Access {
    fn name(&self) -> &'static str {
        "s3-access"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(6))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "delivery is best effort: a line may come days late, twice, or never; verify regularly",
            "a batch delete whose BATCH.DELETE.OBJECT lines were not delivered",
            "objects that replication from another bucket puts in place: whether they have lines is not known",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Head::of(line).is_ok()
    }

    /// The id of a request, with its operation and key: one request may have lines of several.
    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let head = Head::of(record).ok()?;
        let start = head.request - head.id_len - 1;
        Some(&record[start..head.request + head.operation.len() + 1 + head.key.len()])
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let head = Head::of(record)?;
        let Some(act) = Act::of(&head) else { return Ok(head.time) };
        let Rest { request, failed, has_version } = Rest::of(record, head.end)?;
        if !failed {
            name(act, &head, request, has_version, &mut Objects::new(head.time, head.user(), out));
        }
        Ok(head.time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let Ok(head) = Head::of(line) else { return };
        if Act::of(&head).is_some() {
            let key = url::form(&url::percent(head.key)).into_owned();
            Objects::new(head.time, head.user(), out).rescan_parent(head.bucket, &key);
        }
    }
}

/// The first eight fields: none of them can hold a space or a quote that a client chose.
struct Head<'a> {
    bucket: &'a [u8],
    time: NaiveDateTime,
    requester: &'a [u8],
    id_len: usize,
    /// Where the operation begins, in bytes from the start of the line.
    request: usize,
    operation: &'a [u8],
    /// As it is written; `-` if there is none.
    key: &'a [u8],
    /// Where the ninth field begins.
    end: usize,
}

impl<'a> Head<'a> {
    fn of(line: &'a [u8]) -> Result<Self, ParseError> {
        let mut fields = Fields { line, at: 0 };
        fields.word("the bucket's owner")?;
        let bucket = fields.word("a bucket")?;
        let time = fields.time()?;
        fields.word("an address")?;
        let requester = fields.word("who asked")?;
        let id_len = fields.word("the id of the request")?.len();
        let request = fields.at;
        let operation = fields.word("an operation")?;
        if !is_operation(operation) {
            return Err(ParseError::malformed(request, "an operation of S3, as REST.PUT.OBJECT"));
        }
        let key = fields.word("a key")?;
        Ok(Self { bucket, time, requester, id_len, request, operation, key, end: fields.at })
    }

    fn user(&self) -> Option<&'a str> {
        std::str::from_utf8(self.requester).ok().filter(|user| *user != "-")
    }
}

struct Fields<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Up to the next space, which has to be there.
    fn word(&mut self, expected: &'static str) -> Result<&'a [u8], ParseError> {
        let rest = &self.line[self.at..];
        let end = memchr(b' ', rest).filter(|end| *end > 0).ok_or(ParseError::malformed(self.at, expected))?;
        let word = &rest[..end];
        if memchr::memchr3(b'"', b'\t', b'\n', word).is_some() {
            return Err(ParseError::malformed(self.at, expected));
        }
        self.at += end + 1;
        Ok(word)
    }

    fn time(&mut self) -> Result<NaiveDateTime, ParseError> {
        const LEN: usize = "[06/Feb/2019:00:00:38 +0000] ".len();
        let expected = ParseError::malformed(self.at, "a time, [dd/Mon/yyyy:HH:MM:SS +0000]");
        let text = self.line.get(self.at..self.at + LEN).ok_or(expected.clone())?;
        let text = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"] ")).ok_or(expected.clone())?;
        self.at += LEN;
        time::access_log(text).ok_or(expected)
    }
}

/// The families that the documentation names, and in the REST family its methods.
fn is_operation(operation: &[u8]) -> bool {
    let mut words = operation.split(|byte| *byte == b'.');
    let (family, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_known = match family {
        b"REST" | b"WEBSITE" => {
            matches!(verb, b"GET" | b"HEAD" | b"PUT" | b"POST" | b"DELETE" | b"OPTIONS" | b"COPY")
                && operation.len() > 5 + verb.len()
        }
        b"BATCH" | b"S3" | b"SOAP" => true,
        _ => false,
    };
    is_known && is_word(verb) && words.all(is_word)
}

/// What an operation does to the names of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// To the object that the key names.
    Object(Op, Spelling),
    /// To the bucket itself.
    Bucket(Op),
    /// Not known here: something changed near the key.
    Unknown,
}

/// How the key of a line is spelled. Measured on real lines; see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Encoded twice, the first time perhaps as forms do.
    Twice,
    /// Encoded once, as forms do.
    Once,
    /// Nobody saw one that tells: both.
    Either,
}

impl Act {
    /// `None` where nothing changes. Operations are matched whole: `DELETE.OBJECT` begins `REST.DELETE.OBJECT_TAGGING`, too.
    fn of(head: &Head) -> Option<Self> {
        let has_key = head.key != b"-";
        match head.operation {
            b"REST.PUT.OBJECT" | b"REST.POST.OBJECT" | b"REST.COPY.OBJECT" | b"REST.POST.UPLOAD" => {
                Some(Self::Object(Op::Write, Spelling::Twice))
            }
            b"REST.DELETE.OBJECT" => Some(Self::Object(Op::Delete, Spelling::Twice)),
            b"BATCH.DELETE.OBJECT" => Some(Self::Object(Op::Delete, Spelling::Once)),
            b"S3.EXPIRE.OBJECT" | b"S3.CREATE.DELETEMARKER" => Some(Self::Object(Op::Delete, Spelling::Either)),
            b"SOAP.PUT.OBJECT"
            | b"SOAP.COPY.OBJECT"
            | b"SOAP.PutObject"
            | b"SOAP.PutObjectInline"
            | b"SOAP.CopyObject" => Some(Self::Object(Op::Write, Spelling::Either)),
            b"SOAP.DELETE.OBJECT" | b"SOAP.DeleteObject" => Some(Self::Object(Op::Delete, Spelling::Either)),
            b"REST.PUT.BUCKET" | b"SOAP.CreateBucket" => Some(Self::Bucket(Op::Mkdir)),
            b"REST.DELETE.BUCKET" | b"SOAP.DeleteBucket" => Some(Self::Bucket(Op::Delete)),
            operation if is_quiet(operation) => None,
            operation if is_attribute(operation) => has_key.then_some(Self::Object(Op::Attr, Spelling::Twice)),
            operation if is_transition(operation) => Some(Self::Object(Op::Attr, Spelling::Either)),
            operation if !has_key && is_setting(operation) => None,
            _ => Some(Self::Unknown),
        }
    }
}

/// Reads, parts of what another line completes, the source side of copies, and the frame of a batch whose keys have lines of
/// their own.
fn is_quiet(operation: &[u8]) -> bool {
    const READS: [&[u8]; 10] = [
        b"REST.GET.",
        b"REST.HEAD.",
        b"REST.OPTIONS.",
        b"REST.POST.SELECT",
        b"WEBSITE.GET.",
        b"WEBSITE.HEAD.",
        b"WEBSITE.OPTIONS.",
        b"SOAP.GET.",
        b"SOAP.Get",
        b"SOAP.List",
    ];
    let is_part = matches!(
        operation,
        b"REST.POST.UPLOADS"
            | b"REST.PUT.PART"
            | b"REST.COPY.PART"
            | b"REST.COPY.PART_GET"
            | b"REST.COPY.OBJECT_GET"
            | b"REST.DELETE.UPLOAD"
            | b"REST.POST.MULTI_OBJECT_DELETE"
            | b"S3.DELETE.UPLOAD"
            | b"S3.COMPUTE.OBJECT.CHECKSUM"
    );
    is_part || READS.iter().any(|read| operation.starts_with(read))
}

fn is_attribute(operation: &[u8]) -> bool {
    let rest = operation.strip_prefix(b"REST.PUT.").or_else(|| operation.strip_prefix(b"REST.DELETE."));
    match rest {
        Some(
            b"ACL"
            | b"OBJECT_ACL"
            | b"OBJECT_TAGGING"
            | b"OBJECT_LOCK"
            | b"OBJECT_LOCK_RETENTION"
            | b"OBJECT_LOCK_LEGALHOLD"
            | b"LEGAL_HOLD"
            | b"RETENTION",
        ) => true,
        Some(_) => false,
        None => operation == b"REST.POST.RESTORE",
    }
}

/// `S3.TRANSITION.OBJECT`, `S3.TRANSITION_SIA.OBJECT` and their like, and what brings an object back.
fn is_transition(operation: &[u8]) -> bool {
    let rest = operation.strip_prefix(b"S3.TRANSITION").or_else(|| operation.strip_prefix(b"S3.RESTORE"));
    rest.is_some_and(|rest| rest.ends_with(b".OBJECT") && matches!(rest[0], b'.' | b'_'))
}

/// What is set for a whole bucket.
fn is_setting(operation: &[u8]) -> bool {
    let rest = operation.strip_prefix(b"REST.PUT.").or_else(|| operation.strip_prefix(b"REST.DELETE."));
    matches!(
        rest,
        Some(
            b"LIFECYCLE"
                | b"VERSIONING"
                | b"LOGGING_STATUS"
                | b"BUCKETPOLICY"
                | b"CORS"
                | b"WEBSITE"
                | b"NOTIFICATION"
                | b"REPLICATION"
                | b"TAGGING"
                | b"REQUEST_PAYMENT"
                | b"ACCELERATE"
                | b"ANALYTICS"
                | b"INVENTORY"
                | b"METRICS"
                | b"ENCRYPTION"
                | b"PUBLIC_ACCESS_BLOCK"
                | b"OBJECT_LOCK_CONFIGURATION"
                | b"OWNERSHIP_CONTROLS"
                | b"INTELLIGENT_TIERING"
        )
    )
}

/// What follows the key.
struct Rest<'a> {
    /// `PUT /bucket/key?query HTTP/1.1`, if the line has it.
    request: Option<&'a [u8]>,
    /// In every reading that there is.
    failed: bool,
    /// The request named a version, not only a key.
    has_version: bool,
}

impl<'a> Rest<'a> {
    /// Quotes inside of quotes are not escaped, so the request may end at any quote that a status and sizes follow.
    fn of(line: &'a [u8], from: usize) -> Result<Self, ParseError> {
        let expected = ParseError::malformed(from, "a request, a status, sizes, times, referer, agent and version");
        let rest = &line[from..];
        if let Some(tail) = rest.strip_prefix(b"- ") {
            let tail = Tail::of(tail).ok_or(expected)?;
            return Ok(Self { request: None, failed: tail.failed, has_version: tail.has_version() });
        }
        let quoted = rest.strip_prefix(b"\"").ok_or(expected.clone())?;
        let mut ends = memmem::find_iter(quoted, b"\" ").filter_map(|end| Some((end, Tail::of(&quoted[end + 2..])?)));
        let (end, tail) = ends.next().ok_or(expected)?;
        let request = Some(&quoted[..end]).filter(|request| *request != b"-");
        Ok(Self { request, failed: tail.failed && ends.all(|(_, tail)| tail.failed), has_version: tail.has_version() })
    }
}

/// Status, error, four numbers, and what comes after them.
struct Tail<'a> {
    failed: bool,
    rest: &'a [u8],
}

impl<'a> Tail<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let mut rest = text;
        let mut word = || {
            let end = memchr(b' ', rest)?;
            let word = &rest[..end];
            rest = &rest[end + 1..];
            Some(word)
        };
        let (status, error) = (word()?, word()?);
        let numbers = [word()?, word()?, word()?, word()?];
        let is_number = |word: &[u8]| word == b"-" || (!word.is_empty() && word.iter().all(u8::is_ascii_digit));
        let is_error = error == b"-" || error.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
        let is_tail =
            is_number(status) && matches!(status.len(), 1 | 3) && is_error && numbers.into_iter().all(is_number);
        // Referer, agent, version: two spaces at least.
        let has_rest = memchr::memchr_iter(b' ', rest).nth(1).is_some();
        (is_tail && has_rest).then(|| Self { failed: matches!(status[0], b'3' | b'4') && status != b"499", rest })
    }

    /// Referer and agent may hold anything; nothing after them has a quote.
    fn has_version(&self) -> bool {
        let after_agent = match memrchr(b'"', self.rest) {
            Some(quote) => self.rest[quote + 1..].strip_prefix(b" "),
            None => self.rest.splitn(3, |byte| *byte == b' ').nth(2),
        };
        let version = after_agent.and_then(|rest| rest.split(|byte| *byte == b' ').next());
        !matches!(version, None | Some(b"-" | b"" | b"null"))
    }
}

fn name(act: Act, head: &Head, request: Option<&[u8]>, has_version: bool, objects: &mut Objects) {
    let (op, spelling) = match act {
        Act::Bucket(op) => return objects.bucket(op, head.bucket),
        Act::Object(..) | Act::Unknown if head.key == b"-" => return objects.rescan_bucket(head.bucket),
        Act::Unknown => return keys(head, Spelling::Either, request, |key| objects.rescan_parent(head.bucket, key)),
        // To remove a version may bring back the one before it.
        Act::Object(Op::Delete, spelling) if has_version => (Op::Rescan, spelling),
        Act::Object(op, spelling) => (op, spelling),
    };
    keys(head, spelling, request, |key| objects.name(op, head.bucket, key));
}

/// Every key that a line may mean, each once: one, where the field and the request agree.
fn keys(head: &Head, spelling: Spelling, request: Option<&[u8]>, mut each: impl FnMut(&[u8])) {
    let once = url::form(head.key);
    if spelling == Spelling::Once {
        return each(&once);
    }
    let first = url::percent(head.key);
    let twice = url::form(&first);
    let path = request.and_then(path).map(url::percent);
    if spelling == Spelling::Twice && path.as_deref().is_none_or(|path| is_path_of(path, head.bucket, &twice)) {
        return each(&twice);
    }
    let rest = path.as_deref().and_then(|path| path.strip_prefix(b"/"));
    let below = rest.and_then(|rest| rest.strip_prefix(head.bucket)).and_then(|rest| rest.strip_prefix(b"/"));
    let has_uri = spelling == Spelling::Twice;
    let candidates = [Some(&*twice), Some(&*once), rest.filter(|_| has_uri), below.filter(|_| has_uri)];
    for (index, key) in candidates.iter().enumerate() {
        if let Some(key) = key.filter(|key| !key.is_empty() && !candidates[..index].contains(&Some(key))) {
            each(key);
        }
    }
}

/// The target of a request without its query; `None` for targets that are no path.
fn path(request: &[u8]) -> Option<&[u8]> {
    let target = request.split(|byte| *byte == b' ').nth(1)?;
    Some(url::split_query(target).0).filter(|path| path.starts_with(b"/"))
}

/// With the bucket in the path, or in the name of the host.
fn is_path_of(path: &[u8], bucket: &[u8], key: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else { return false };
    rest == key || rest.strip_prefix(bucket).and_then(|rest| rest.strip_prefix(b"/")) == Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(operation: &str, key: &str) -> Option<Vec<u8>> {
        let line = format!("o b [01/Jun/2026:10:00:00 +0000] - - R1 {operation} {key} - 204 - - - - - - - -");
        S3Access.id(line.as_bytes()).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_request_without_a_status_has_no_end() {
        assert!(Tail::of(b" - 1 2 3 4 \"-\" \"-\" -").is_none());
    }

    #[test]
    fn each_line_of_one_request_has_an_id_of_its_own() {
        assert_eq!(id("BATCH.DELETE.OBJECT", "a"), Some(b"R1 BATCH.DELETE.OBJECT a".to_vec()));
        assert_ne!(id("BATCH.DELETE.OBJECT", "a"), id("BATCH.DELETE.OBJECT", "b"));
        assert_ne!(id("REST.COPY.OBJECT", "a"), id("REST.COPY.OBJECT_GET", "a"));
        assert_eq!(id("PutObject", "a"), None);
    }

    #[test]
    fn only_families_that_the_documentation_names_are_operations() {
        for good in [
            "REST.GET.OBJECT",
            "REST.GET.BUCKET.LOCATION",
            "S3.TRANSITION_SIA.OBJECT",
            "SOAP.PutObject",
            "BATCH.DELETE.OBJECT",
        ] {
            assert!(is_operation(good.as_bytes()), "{good}");
        }
        for bad in [
            "REST",
            "REST.",
            "REST.PUT",
            "REST.PUT.",
            "REST.PATCH.OBJECT",
            "PutObject",
            "rest.put.object",
            "REST.PUT.OB-JECT",
            "S3",
        ] {
            assert!(!is_operation(bad.as_bytes()), "{bad}");
        }
    }
}
