//! The audit log of MinIO, as its webhook sends it: which names an entry gives. See docs/formats/minio.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::error::ParseError;
use crate::json::{self, Status, Text};
use crate::object::Objects;
use crate::time;
use chrono::{NaiveDateTime, TimeDelta};
use serde::Deserialize;

const EXPECTED: &str = "an audit entry of MinIO, with version, time and api.name";

/// The dialect `minio`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MinIo;

impl Dialect for MinIo {
    fn name(&self) -> &'static str {
        "minio"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    /// Each node sends its own, with several senders at once, and keeps for later what it cannot send.
    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::minutes(1))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "entries that a node dropped because the webhook was away and no queue_dir is set",
            "all objects but one of an upload by form that fans out to several",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        line.starts_with(b"{")
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        if let Some(time) = time_of_a_read(record) {
            return Ok(time);
        }
        let record: Record = json::read(record, EXPECTED)?;
        let time = time::rfc3339(record.time.as_bytes()).ok_or(ParseError::malformed(0, EXPECTED))?;
        if !record.api.status_code.is_refusal() {
            record.name(time, out);
        }
        Ok(time)
    }

    fn salvage(&self, line: &[u8], out: &mut Vec<Entry>) {
        let [time, call, bucket, object] = ["time", "name", "bucket", "object"].map(|key| json::salvage(line, key));
        let Some(time) = time.and_then(|time| time::rfc3339(time.as_bytes())) else { return };
        if call.is_some_and(|call| Call::of(call.as_bytes()) == Call::Quiet) {
            return;
        }
        let mut objects = Objects::new(time, None, out);
        match (bucket, object) {
            (Some(bucket), Some(object)) => objects.rescan_parent(bucket.as_bytes(), object.as_bytes()),
            (Some(bucket), None) => objects.rescan_bucket(bucket.as_bytes()),
            (None, _) => {}
        }
    }
}

/// The time of an entry that is a read beyond doubt. MinIO writes its own fields first, in one order; a client's text comes
/// after them. Anything else is read whole.
fn time_of_a_read(record: &[u8]) -> Option<NaiveDateTime> {
    let mut rest = record.strip_prefix(b"{")?;
    let (mut time, mut has_version) = (None, false);
    record.ends_with(b"}").then_some(())?;
    loop {
        if let Some(api) = rest.strip_prefix(b"\"api\":{\"name\":\"") {
            let name = &api[..memchr::memchr(b'"', api)?];
            return time.filter(|_| has_version && Call::of(name) == Call::Quiet);
        }
        let (key, after) = plain_string(rest)?;
        let (value, after) = plain_string(after.strip_prefix(b":")?)?;
        match key {
            b"time" => time = time::rfc3339(value),
            b"version" => has_version = true,
            // What the server does by itself has calls of other meanings.
            b"trigger" if value != b"incoming" => return None,
            _ => {}
        }
        rest = after.strip_prefix(b",")?;
    }
}

/// A string without escapes, and what follows it.
fn plain_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text).filter(|end| text[*end] == b'"')?;
    Some((&text[..end], &text[end + 1..]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    /// Of the entry's own form: every release wrote one, and other programs' JSON with a time and an API has none.
    #[serde(borrow, rename = "version")]
    _version: Text<'a>,
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow, default)]
    trigger: Option<Text<'a>>,
    #[serde(borrow)]
    api: Api<'a>,
    #[serde(borrow, default)]
    request_path: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_query: Option<Query<'a>>,
    #[serde(borrow, default)]
    request_header: Option<Header<'a>>,
    #[serde(borrow, default)]
    tags: Option<Tags<'a>>,
    #[serde(borrow, default)]
    access_key: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Api<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default)]
    bucket: Option<Text<'a>>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(borrow, default)]
    objects: Option<Vec<Version<'a>>>,
    /// Where releases of 2018 put bucket and object.
    #[serde(borrow, default)]
    args: Option<Args<'a>>,
    #[serde(default)]
    status_code: Status,
}

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow, default)]
    bucket: Option<Text<'a>>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    #[serde(borrow)]
    object_name: Text<'a>,
    #[serde(borrow, default)]
    version_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Query<'a> {
    #[serde(borrow, default, rename = "versionId")]
    version_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Header<'a> {
    /// The key is a prefix: all that begins with it is removed.
    #[serde(borrow, default, rename = "X-Minio-Force-Delete")]
    force_delete: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(borrow, default, rename = "PutObject")]
    put_object: Option<Text<'a>>,
}

/// What a call of the API does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Nothing that can be seen.
    Quiet,
    Object(Op),
    /// Its `object` is the source; the target is in the path of the request.
    Copy,
    /// The objects are listed.
    Batch,
    Bucket(Op),
    /// Unpacks an archive: its members are not named.
    Extract,
    Unknown,
}

impl Call {
    fn of(name: &[u8]) -> Self {
        match name {
            b"PutObject" | b"CompleteMultipartUpload" | b"PostPolicyBucket" | b"AppendObject" => {
                Self::Object(Op::Write)
            }
            b"CopyObject" => Self::Copy,
            b"DeleteObject" => Self::Object(Op::Delete),
            b"DeleteMultipleObjects" => Self::Batch,
            b"PutObjectExtract" => Self::Extract,
            b"PutBucket" | b"MakeBucket" => Self::Bucket(Op::Mkdir),
            b"DeleteBucket" => Self::Bucket(Op::Delete),
            b"PutObjectTagging"
            | b"DeleteObjectTagging"
            | b"PutObjectRetention"
            | b"PutObjectLegalHold"
            | b"PutObjectACL"
            | b"PostRestoreObject" => Self::Object(Op::Attr),
            b"PutObjectPart"
            | b"CopyObjectPart"
            | b"NewMultipartUpload"
            | b"AbortMultipartUpload"
            | b"ResetBucketReplicationStart"
            | b"ValidateBucketReplicationCreds" => Self::Quiet,
            name if [&b"Get"[..], b"Head", b"List", b"Select"].iter().any(|read| name.starts_with(read)) => Self::Quiet,
            // What is set for a bucket; `PutBucket` and `DeleteBucket` themselves are above.
            name if name.starts_with(b"PutBucket") || name.starts_with(b"DeleteBucket") => Self::Quiet,
            _ => Self::Unknown,
        }
    }
}

/// What the server does by itself and what leaves every object as it was for its readers.
fn is_quiet_event(event: &[u8]) -> bool {
    const QUIET: [&[u8]; 7] = [
        b"ilm:transition",
        b"ilm:free-version-delete",
        b"HealObject",
        b"KeyRotate",
        b"scanner:",
        b"decommission",
        b"rebalance",
    ];
    QUIET.iter().any(|quiet| event.trim_ascii().starts_with(quiet))
}

impl<'a> Record<'a> {
    fn name(&self, time: NaiveDateTime, out: &mut Vec<Entry>) {
        let user = self.access_key.as_ref().map(Text::to_str);
        let mut objects = Objects::new(time, user.as_deref(), out);
        match self.trigger.as_ref().map(Text::as_bytes) {
            None | Some(b"incoming" | b"") => self.name_request(&mut objects),
            Some(event) if is_quiet_event(event) => {}
            Some(_) => self.name_listed(Op::Rescan, &mut objects),
        }
    }

    fn name_request(&self, objects: &mut Objects) {
        let (bucket, object) = (self.bucket(), self.object());
        match Call::of(self.api.name.as_bytes()) {
            Call::Quiet => {}
            Call::Copy => self.name_target(objects),
            Call::Batch => self.name_listed(Op::Delete, objects),
            Call::Bucket(op) => objects.bucket(op, bucket),
            Call::Extract => objects.rescan_bucket(bucket),
            Call::Object(Op::Delete) if self.is_of_prefix() => objects.rescan_parent(bucket, object),
            // To remove a version may bring back the one before it.
            Call::Object(Op::Delete) if self.has_version() => objects.name(Op::Rescan, bucket, object),
            Call::Object(op) => objects.name(op, bucket, object),
            Call::Unknown if !object.is_empty() => objects.rescan_parent(bucket, object),
            Call::Unknown if !bucket.is_empty() => objects.rescan_bucket(bucket),
            // Calls to administer the server, and those for passwords of a while, name no bucket.
            Call::Unknown => {}
        }
    }

    /// Every object of the list, and the one beside it, which was seen to be one of them.
    fn name_listed(&self, op: Op, objects: &mut Objects) {
        let (bucket, object) = (self.bucket(), self.object());
        let listed = self.api.objects.as_deref().unwrap_or_default();
        for version in listed {
            let has_version = version.version_id.as_ref().is_some_and(|id| !id.is_empty());
            objects.name(if has_version { Op::Rescan } else { op }, bucket, version.object_name.as_bytes());
        }
        match object {
            b"" if listed.is_empty() => objects.rescan_bucket(bucket),
            b"" => {}
            object if listed.iter().any(|version| version.object_name.as_bytes() == object) => {}
            object => objects.name(op, bucket, object),
        }
    }

    /// The target of a copy: the path of the request, with the bucket in it, or, where that is in the host's name, without.
    /// Where no tag says which of them, both, and the object that the entry names.
    fn name_target(&self, objects: &mut Objects) {
        let bucket = self.bucket();
        let path = self.request_path.as_ref().map_or(&b""[..], Text::as_bytes);
        let whole = path.strip_prefix(b"/").unwrap_or(path);
        let below = whole.strip_prefix(bucket).and_then(|rest| rest.strip_prefix(b"/"));
        let keys = [below, Some(whole), Some(self.object())].map(|key| key.filter(|key| !key.is_empty()));
        if let Some(key) = keys.into_iter().flatten().find(|key| self.is_put(key)) {
            return objects.name(Op::Write, bucket, key);
        }
        keys.into_iter().flatten().for_each(|key| objects.name(Op::Write, bucket, key));
    }

    fn is_put(&self, key: &[u8]) -> bool {
        let tag = self.tags.as_ref().and_then(|tags| tags.put_object.as_ref()).map_or(&b""[..], Text::as_bytes);
        let rest = tag.strip_prefix(b"name=").and_then(|rest| rest.strip_prefix(key));
        rest.is_some_and(|rest| rest.starts_with(b",pool="))
    }

    fn is_of_prefix(&self) -> bool {
        let force = self.request_header.as_ref().and_then(|header| header.force_delete.as_ref());
        force.is_some_and(|force| force.as_bytes() == b"true")
    }

    fn has_version(&self) -> bool {
        let version = self.request_query.as_ref().and_then(|query| query.version_id.as_ref());
        version.is_some_and(|version| !version.is_empty())
    }

    fn bucket(&self) -> &[u8] {
        let of_2018 = self.api.args.as_ref().and_then(|args| args.bucket.as_ref());
        self.api.bucket.as_ref().or(of_2018).map_or(b"", Text::as_bytes)
    }

    fn object(&self) -> &[u8] {
        let of_2018 = self.api.args.as_ref().and_then(|args| args.object.as_ref());
        self.api.object.as_ref().or(of_2018).map_or(b"", Text::as_bytes)
    }
}
