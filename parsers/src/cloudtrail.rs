//! AWS CloudTrail: which names a record of a call to S3 gives; records of other services give none. See
//! docs/formats/cloudtrail.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing};
use crate::error::ParseError;
use crate::json::{self, Text};
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem};
use serde::Deserialize;

const EXPECTED: &str = "a record of CloudTrail, with eventTime, eventSource and eventName";

/// What the records of the dialect `s3-event` call their source (S3, MinIO, Ceph); services have host names.
const NOTIFICATIONS: [&[u8]; 3] = [b"aws:s3", b"minio:s3", b"ceph:s3"];

/// The dialect `cloudtrail`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloudTrail;

impl Dialect for CloudTrail {
    fn name(&self) -> &'static str {
        "cloudtrail"
    }

    fn framing(&self) -> Framing {
        Framing::Objects
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::minutes(30))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "objects that lifecycle rules expire: no record is written; add s3-access or s3-event, or verify",
            "any object, unless data events are turned on for its bucket: they are off at first",
            "which objects a DeleteObjects removed: the whole bucket is looked at instead",
        ]
    }

    fn begins(&self, record: &[u8]) -> bool {
        record.starts_with(b"{") && (memmem::find(record, b"\"eventName\"").is_some() || is_digest(record))
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        serde_json::from_slice::<Id>(record).ok().map(|id| id.event_id.as_bytes())
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        if let Some(time) = time_of_a_read(record) {
            return Ok(time);
        }
        if is_digest(record) {
            let digest: Digest = json::read(record, EXPECTED)?;
            return time::rfc3339(digest.end.as_bytes()).ok_or(ParseError::malformed(0, EXPECTED));
        }
        let record: Record = json::read(record, EXPECTED)?;
        if NOTIFICATIONS.contains(&record.event_source.as_bytes()) {
            return Err(ParseError::malformed(0, EXPECTED));
        }
        let time = time::rfc3339(record.event_time.as_bytes()).ok_or(ParseError::malformed(0, EXPECTED))?;
        if record.is_of_s3() && !record.is_refused() {
            let user = record.user_identity.as_ref().and_then(|user| user.arn.as_ref()).map(Text::to_str);
            record.name(&mut Objects::new(time, user.as_deref(), out));
        }
        Ok(time)
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let [time, name, bucket, key] =
            ["eventTime", "eventName", "bucketName", "key"].map(|key| json::salvage(record, key));
        let (Some(time), Some(bucket)) = (time.and_then(|time| time::rfc3339(time.as_bytes())), bucket) else { return };
        if name.is_some_and(|name| Call::of(name.as_bytes()) == Call::Quiet) {
            return;
        }
        let mut objects = Objects::new(time, None, out);
        match key {
            Some(key) => objects.rescan_parent(bucket.as_bytes(), key.as_bytes()),
            None => objects.rescan_bucket(bucket.as_bytes()),
        }
    }
}

/// The time of a record that is a read beyond doubt: its name stands before anything that a client chose.
fn time_of_a_read(record: &[u8]) -> Option<NaiveDateTime> {
    let name = memmem::find(record, b"\"eventName\":\"")?;
    let is_read = [&b"Get"[..], b"Head", b"List"].iter().any(|read| record[name + 13..].starts_with(read));
    (is_read && record.starts_with(b"{") && record.ends_with(b"}")).then_some(())?;
    memmem::find(&record[..name], b"\"requestParameters\"").is_none().then_some(())?;
    let start = memmem::find(record, b"\"eventTime\":\"")? + 13;
    time::rfc3339(&record[start..start + memchr(b'"', &record[start..])?])
}

/// A list of log files with their digests, which lies beside the logs.
fn is_digest(record: &[u8]) -> bool {
    memmem::find(&record[..record.len().min(512)], b"\"digestEndTime\"").is_some()
}

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(rename = "eventID")]
    event_id: &'a str,
}

#[derive(Deserialize)]
struct Digest<'a> {
    #[serde(borrow, rename = "digestEndTime")]
    end: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    event_time: Text<'a>,
    #[serde(borrow)]
    event_source: Text<'a>,
    #[serde(borrow)]
    event_name: Text<'a>,
    #[serde(borrow, default)]
    error_code: Option<Text<'a>>,
    #[serde(borrow, default)]
    user_identity: Option<User<'a>>,
    #[serde(borrow, default)]
    request_parameters: Option<Parameters<'a>>,
    #[serde(borrow, default)]
    resources: Option<Vec<Resource<'a>>>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    arn: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default, rename = "bucketName")]
    bucket: Option<Text<'a>>,
    /// As it is: never encoded.
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default, rename = "versionId")]
    version: Option<Text<'a>>,
    #[serde(borrow, default, rename = "x-amz-rename-source")]
    rename_source: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    /// Seen in both spellings.
    #[serde(borrow, default, rename = "ARN", alias = "arn")]
    name: Option<Text<'a>>,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Nothing that can be seen.
    Quiet,
    Object(Op),
    /// To `key`; where from, a header says.
    Rename,
    /// Keys are listed if S3 lists them, which it did not before 2025.
    Batch,
    Bucket(Op),
    Unknown,
}

impl Call {
    fn of(name: &[u8]) -> Self {
        match name {
            b"PutObject" | b"PostObject" | b"CompleteMultipartUpload" | b"CopyObject" => Self::Object(Op::Write),
            b"DeleteObject" => Self::Object(Op::Delete),
            b"RenameObject" => Self::Rename,
            b"DeleteObjects" => Self::Batch,
            b"CreateBucket" => Self::Bucket(Op::Mkdir),
            b"DeleteBucket" => Self::Bucket(Op::Delete),
            b"PutObjectAcl"
            | b"PutObjectTagging"
            | b"DeleteObjectTagging"
            | b"PutObjectRetention"
            | b"PutObjectLegalHold"
            | b"RestoreObject"
            | b"UpdateObjectEncryption" => Self::Object(Op::Attr),
            b"UploadPart"
            | b"UploadPartCopy"
            | b"CreateMultipartUpload"
            | b"AbortMultipartUpload"
            | b"WriteGetObjectResponse"
            | b"SelectObjectContent"
            | b"CreateSession"
            | b"PutObjectLockConfiguration" => Self::Quiet,
            name if is_setting(name) => Self::Quiet,
            _ => Self::Unknown,
        }
    }
}

/// Reads, and what is set for buckets, accounts and access points.
fn is_setting(name: &[u8]) -> bool {
    const QUIET: [&[u8]; 14] = [
        b"Get",
        b"Head",
        b"List",
        b"Describe",
        b"PutBucket",
        b"DeleteBucket",
        b"PutAccount",
        b"DeleteAccount",
        b"PutAccessPoint",
        b"DeleteAccessPoint",
        b"CreateAccessPoint",
        b"CreateAccessGrant",
        b"PutStorageLens",
        b"DeleteStorageLens",
    ];
    QUIET.iter().any(|quiet| name.starts_with(quiet))
}

impl Record<'_> {
    fn is_of_s3(&self) -> bool {
        matches!(self.event_source.as_bytes(), b"s3.amazonaws.com" | b"s3express.amazonaws.com")
    }

    /// A server that failed half way may have done something.
    fn is_refused(&self) -> bool {
        let code = self.error_code.as_ref().map_or(&b""[..], Text::as_bytes);
        !matches!(code, b"" | b"InternalError" | b"InternalFailure" | b"ServiceUnavailable" | b"SlowDown")
    }

    fn name(&self, objects: &mut Objects) {
        match Call::of(self.event_name.as_bytes()) {
            Call::Quiet => {}
            // To remove a version may bring back the one before it.
            Call::Object(Op::Delete) if self.has_version() => {
                self.name_each(objects, |objects, bucket, key| objects.name(Op::Rescan, bucket, key))
            }
            Call::Object(op) => self.name_each(objects, |objects, bucket, key| objects.name(op, bucket, key)),
            Call::Batch => self.name_each(objects, |objects, bucket, key| objects.name(Op::Delete, bucket, key)),
            Call::Rename => self.name_rename(objects),
            Call::Bucket(op) => objects.bucket(op, self.bucket()),
            // Of the account, not of a bucket.
            Call::Unknown if self.names_nothing() => {}
            Call::Unknown => self.name_each(objects, Objects::rescan_parent),
        }
    }

    /// The object of the request; if it does not say which, all among the resources; if there are none, the bucket.
    fn name_each<'o>(&self, objects: &mut Objects<'o>, each: impl Fn(&mut Objects<'o>, &[u8], &[u8])) {
        let (bucket, key) = (self.bucket(), self.key());
        if !key.is_empty() {
            return each(objects, bucket, key);
        }
        let mut has_none = true;
        for (bucket, key) in self.resources().filter(|(_, key)| !key.is_empty()) {
            has_none = false;
            each(objects, bucket, key);
        }
        if has_none {
            objects.rescan_bucket(bucket);
        }
    }

    /// Where the source is not named, it is somewhere in the bucket: only buckets of directories rename.
    fn name_rename(&self, objects: &mut Objects) {
        let bucket = self.bucket();
        let header = self.request_parameters.as_ref().and_then(|parameters| parameters.rename_source.as_ref());
        let source = url::percent(header.map_or(b"", Text::as_bytes));
        let source = source.strip_prefix(b"/").unwrap_or(&source);
        let below = source.strip_prefix(bucket).and_then(|rest| rest.strip_prefix(b"/"));
        objects.name(Op::Delete, bucket, below.unwrap_or(source));
        self.name_each(objects, |objects, bucket, key| objects.name(Op::Write, bucket, key));
    }

    fn names_nothing(&self) -> bool {
        let bucket = self.request_parameters.as_ref().and_then(|parameters| parameters.bucket.as_ref());
        bucket.is_none() && self.key().is_empty() && self.resources().next().is_none()
    }

    fn has_version(&self) -> bool {
        let version = self.request_parameters.as_ref().and_then(|parameters| parameters.version.as_ref());
        version.is_some_and(|version| !version.is_empty())
    }

    fn key(&self) -> &[u8] {
        self.request_parameters.as_ref().and_then(|parameters| parameters.key.as_ref()).map_or(b"", Text::as_bytes)
    }

    /// An access point stands where the bucket should: then the resources name that.
    fn bucket(&self) -> &[u8] {
        let named = self
            .request_parameters
            .as_ref()
            .and_then(|parameters| parameters.bucket.as_ref())
            .map_or(&b""[..], Text::as_bytes);
        if !named.is_empty() && !named.starts_with(b"arn:") {
            return named;
        }
        self.resources().map(|(bucket, _)| bucket).next().unwrap_or(b"")
    }

    /// Bucket and key of each name of the form `arn:aws:s3:::bucket/key`; without a key for a bucket.
    fn resources(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let names = self.resources.iter().flatten().filter_map(|resource| resource.name.as_ref());
        names.filter_map(|name| {
            let rest = name.as_bytes().strip_prefix(b"arn:")?;
            let place = &rest[memmem::find(rest, b":s3:::")? + 6..];
            let slash = memchr(b'/', place);
            Some((&place[..slash.unwrap_or(place.len())], slash.map_or(&b""[..], |slash| &place[slash + 1..])))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_record_is_its_own_field() {
        assert_eq!(
            CloudTrail.id(b"{\"requestParameters\":{\"eventID\":\"forged\"},\"eventID\":\"e1\"}"),
            Some(&b"e1"[..])
        );
        assert_eq!(CloudTrail.id(b"{}"), None);
    }
}
