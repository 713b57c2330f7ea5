//! The ops log of the Ceph object gateway: which names a record gives, and the key in the request that a client sent. See
//! docs/formats/ceph-rgw.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing};
use crate::error::ParseError;
use crate::json::{self, Status, Text};
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem, memrchr};
use serde::Deserialize;

const EXPECTED: &str = "a record of the ops log, with bucket, time, operation, uri and http_status";

/// The dialect `ceph-rgw`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CephRgw;

impl Dialect for CephRgw {
    fn name(&self) -> &'static str {
        "ceph-rgw"
    }

    /// The newline is written when the buffer is flushed, not after each record; a socket gives an array that never ends.
    fn framing(&self) -> Framing {
        Framing::Objects
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    /// In the order in which requests ended, which is the time that [`Dialect::parse`] gives.
    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(10))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "objects that lifecycle rules expire",
            "radosgw-admin object rm, and other tools of the cluster's own",
            "bulk deletes of Swift",
            "objects that another zone replicates to this one",
        ]
    }

    fn begins(&self, record: &[u8]) -> bool {
        record.starts_with(b"{") && memmem::find(record, b"\"operation\"").is_some()
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        serde_json::from_slice::<Id>(record).ok().map(|id| id.trans_id.as_bytes())
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let record: Record = json::read(record, EXPECTED)?;
        let time = record.end().ok_or(ParseError::malformed(0, EXPECTED))?;
        if !record.http_status.is_refusal() {
            let user = record.user.as_ref().map(Text::to_str);
            record.name(&mut Objects::new(time, user.as_deref(), out));
        }
        Ok(time)
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let [time, operation, bucket] = ["time", "operation", "bucket"].map(|key| json::salvage(record, key));
        let (Some(time), Some(bucket)) = (time.and_then(|time| time::rfc3339(time.as_bytes())), bucket) else { return };
        if operation.is_none_or(|operation| Act::of(operation.as_bytes()) != Act::Quiet) {
            Objects::new(time, None, out).rescan_bucket(bucket.as_bytes());
        }
    }
}

#[derive(Deserialize)]
struct Id<'a> {
    trans_id: &'a str,
}

#[derive(Deserialize)]
struct Record<'a> {
    /// `tenant/bucket` where there are tenants.
    #[serde(borrow)]
    bucket: Text<'a>,
    /// When the request began.
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow, default)]
    user: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Text<'a>,
    /// `PUT /bucket/a%20key?query HTTP/1.1`
    #[serde(borrow)]
    uri: Text<'a>,
    http_status: Status,
    #[serde(default)]
    total_time: Option<u32>,
    /// The key, in records of newer releases.
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(borrow, default)]
    op_data: Option<Batch<'a>>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    objects: Vec<Version<'a>>,
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default)]
    version_id: Option<Text<'a>>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Nothing that can be seen.
    Quiet,
    Object(Op),
    /// The keys are listed, in newer releases.
    Batch,
    /// The key stands in the body of the request.
    Form,
    Bucket(Op),
    Unknown,
}

impl Act {
    fn of(operation: &[u8]) -> Self {
        match operation {
            b"put_obj" | b"copy_obj" | b"complete_multipart" | b"append_obj" => Self::Object(Op::Write),
            b"post_obj" | b"bulk_delete" | b"bulk_upload" => Self::Form,
            b"delete_obj" => Self::Object(Op::Delete),
            b"multi_object_delete" => Self::Batch,
            b"put_acls"
            | b"put_obj_tags"
            | b"delete_obj_tags"
            | b"put_obj_metadata"
            | b"put_obj_retention"
            | b"put_obj_legal_hold"
            | b"restore_obj" => Self::Object(Op::Attr),
            b"create_bucket" => Self::Bucket(Op::Mkdir),
            b"delete_bucket" => Self::Bucket(Op::Delete),
            b"init_multipart" | b"abort_multipart" => Self::Quiet,
            other => {
                if is_setting(other) {
                    Self::Quiet
                } else {
                    Self::Unknown
                }
            }
        }
    }
}

/// Reads, and what is set for a bucket or an account.
fn is_setting(operation: &[u8]) -> bool {
    const QUIET: [&[u8]; 9] = [
        b"get_",
        b"list_",
        b"stat_",
        b"options_",
        b"put_bucket_",
        b"set_bucket_",
        b"delete_bucket_",
        b"put_account_",
        b"pubsub_",
    ];
    let is_setting = matches!(
        operation,
        b"put_cors"
            | b"delete_cors"
            | b"put_lifecycle"
            | b"delete_lifecycle"
            | b"set_request_payment"
            | b"config_bucket_meta_search"
    );
    is_setting || QUIET.iter().any(|quiet| operation.starts_with(quiet))
}

/// A request as the log has it.
struct Request<'a> {
    method: &'a [u8],
    /// Decoded, without the slash that it begins with.
    path: std::borrow::Cow<'a, [u8]>,
    query: &'a [u8],
}

impl<'a> Request<'a> {
    fn of(uri: &'a [u8]) -> Option<Self> {
        let method = &uri[..memchr(b' ', uri)?];
        let target = &uri[method.len() + 1..memrchr(b' ', uri)?.max(method.len() + 1)];
        let (path, query) = url::split_query(target);
        Some(Self { method, path: url::percent(path.strip_prefix(b"/")?), query })
    }

    /// Each key that the path may mean, each once: with the bucket before it; the whole, where the host's name has the
    /// bucket; and below the prefix of Swift.
    fn keys(&self, bucket: &[u8]) -> impl Iterator<Item = &[u8]> {
        let bucket = bucket.rsplit(|byte| *byte == b'/').next().unwrap_or(bucket);
        let of_swift = memmem::find(&self.path, b"/v1/").and_then(|at| {
            let rest = &self.path[at + 4..];
            let account = rest.starts_with(b"AUTH_").then(|| memchr(b'/', rest)).flatten();
            below(&rest[account.map_or(0, |slash| slash + 1)..], bucket)
        });
        let keys = [below(&self.path, bucket), of_swift, Some(&*self.path)];
        keys.into_iter().flatten().filter(|key| !key.is_empty())
    }
}

/// What follows the bucket; one of another tenant has that before it.
fn below<'a>(path: &'a [u8], bucket: &[u8]) -> Option<&'a [u8]> {
    let (first, key) = path.split_at(memchr(b'/', path)?);
    let name = memrchr(b':', first).map_or(first, |colon| &first[colon + 1..]);
    (name == bucket).then(|| &key[1..])
}

impl Record<'_> {
    /// When the request had ended. Where times have no fraction, an older release wrote the record, with other units.
    fn end(&self) -> Option<NaiveDateTime> {
        let start = time::rfc3339(self.time.as_bytes())?;
        let took = self.total_time.filter(|_| memchr(b'.', self.time.as_bytes()).is_some()).unwrap_or(0);
        start.checked_add_signed(TimeDelta::milliseconds(i64::from(took)))
    }

    fn name(&self, objects: &mut Objects) {
        let bucket = self.bucket.as_bytes();
        match (Act::of(self.operation.as_bytes()), Request::of(self.uri.as_bytes())) {
            (Act::Quiet, _) => {}
            (Act::Bucket(op), _) => objects.bucket(op, bucket),
            (Act::Batch, _) => self.name_batch(objects),
            (Act::Form, _) | (_, None) => objects.rescan_bucket(bucket),
            (Act::Object(Op::Write), Some(request)) if self.operation.as_bytes() == b"put_obj" && request.is_part() => {
            }
            // Of Swift: the path is the source, and nothing says where it went.
            (Act::Object(_), Some(request)) if request.method == b"COPY" => objects.rescan_bucket(bucket),
            // To remove a version may bring back the one before it.
            (Act::Object(Op::Delete), Some(request)) if url::has_parameter(request.query, b"versionId") => {
                self.keys(&request, |key| objects.name(Op::Rescan, bucket, key));
            }
            (Act::Object(op), Some(request)) => self.keys(&request, |key| objects.name(op, bucket, key)),
            (Act::Unknown, Some(request)) => self.keys(&request, |key| objects.rescan_parent(bucket, key)),
        }
    }

    fn name_batch(&self, objects: &mut Objects) {
        let listed = self.op_data.as_ref().map_or(&[][..], |batch| &batch.objects[..]);
        for Version { key, version_id } in listed {
            let has_version = version_id.as_ref().is_some_and(|id| !id.is_empty());
            objects.name(if has_version { Op::Rescan } else { Op::Delete }, self.bucket.as_bytes(), key.as_bytes());
        }
        if listed.is_empty() {
            objects.rescan_bucket(self.bucket.as_bytes());
        }
    }

    /// The key that the record names, if the request can mean it; else every key that either may mean. An empty one, if
    /// there is none: then it is the bucket.
    fn keys(&self, request: &Request, mut each: impl FnMut(&[u8])) {
        let object = self.object.as_ref().map(Text::as_bytes).filter(|key| !key.is_empty());
        match object {
            Some(object) if request.keys(self.bucket.as_bytes()).any(|key| key == object) => each(object),
            _ => {
                let mut keys = object.into_iter().chain(request.keys(self.bucket.as_bytes())).peekable();
                match keys.peek() {
                    Some(_) => keys.for_each(each),
                    None => each(b""),
                }
            }
        }
    }
}

impl Request<'_> {
    /// A part of an upload changes nothing before the upload is complete. One without the id of an upload is a write.
    fn is_part(&self) -> bool {
        url::has_value(self.query, b"partNumber") && url::has_value(self.query, b"uploadId")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_record_is_its_own_field() {
        assert_eq!(CephRgw.id(b"{\"op_data\":{\"trans_id\":\"forged\"},\"trans_id\":\"tx1\"}"), Some(&b"tx1"[..]));
        assert_eq!(CephRgw.id(b"{}"), None);
    }
}
