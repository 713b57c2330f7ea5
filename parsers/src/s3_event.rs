//! Notifications of S3, MinIO and Ceph that were kept as files: plain, or inside of what SQS, SNS and EventBridge put
//! around them. Which names a message gives. See docs/formats/s3-event.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing};
use crate::error::ParseError;
use crate::json::{self, Text};
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::memmem;
use serde::Deserialize;

const EXPECTED: &str = "a notification of S3, plain or in an envelope of SQS, SNS or EventBridge";
const EXPECTED_TIME: &str = "a time, yyyy-MM-ddTHH:mm:ss.SSSZ";
/// How many envelopes may lie in one another.
const ENVELOPES_MAX: usize = 4;

/// The dialect `s3-event`.
#[derive(Debug, Clone, Copy, Default)]
pub struct S3Event;

impl Dialect for S3Event {
    fn name(&self) -> &'static str {
        "s3-event"
    }

    fn framing(&self) -> Framing {
        Framing::Objects
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::minutes(10))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "events that the bucket's configuration does not send: LifecycleExpiration is one of its own",
            "messages that expired in a queue before they were kept",
        ]
    }

    fn begins(&self, record: &[u8]) -> bool {
        const SIGNS: [&[u8]; 6] = [b"\"s3\"", b"\"body\"", b"\"Body\"", b"\"Message\"", b"\"aws.s3\"", b"s3:TestEvent"];
        record.starts_with(b"{") && SIGNS.iter().any(|sign| memmem::find(record, sign).is_some())
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let before = out.len();
        read(record, ENVELOPES_MAX, out).inspect_err(|_| out.truncate(before))
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let [time, bucket, key] = ["eventTime", "name", "key"].map(|key| json::salvage(record, key));
        let (Some(time), Some(bucket)) = (time.and_then(|time| time::rfc3339(time.as_bytes())), bucket) else { return };
        let mut objects = Objects::new(time, None, out);
        match key {
            Some(key) => objects.rescan_parent(bucket.as_bytes(), &url::form(key.as_bytes())),
            None => objects.rescan_bucket(bucket.as_bytes()),
        }
    }
}

/// All that a message may have; which fields are there tells what it is.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Message<'a> {
    /// The time of the last of several records, or of the envelope, is that of the message.
    #[serde(borrow, rename = "eventTime")]
    event_time: Option<Text<'a>>,
    #[serde(borrow, rename = "eventSource")]
    event_source: Option<Text<'a>>,
    #[serde(borrow, rename = "eventName")]
    event_name: Option<Text<'a>>,
    #[serde(borrow, rename = "userIdentity")]
    user: Option<User<'a>>,
    #[serde(borrow)]
    s3: Option<Place<'a>>,
    /// What MinIO and Lambda put around records.
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<Message<'a>>>,
    /// SQS, as its two interfaces spell it.
    #[serde(borrow, alias = "Body")]
    body: Option<Text<'a>>,
    /// SNS, as it is sent, and as Lambda gets it.
    #[serde(borrow, rename = "Message")]
    message: Option<Text<'a>>,
    #[serde(borrow, rename = "Type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, rename = "Timestamp")]
    timestamp: Option<Text<'a>>,
    #[serde(borrow, rename = "Sns")]
    sns: Option<Box<Message<'a>>>,
    /// EventBridge.
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow, alias = "Time")]
    time: Option<Text<'a>>,
    #[serde(borrow)]
    detail: Option<Place<'a>>,
    /// `s3:TestEvent`
    #[serde(borrow, rename = "Event")]
    event: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow, default, rename = "principalId")]
    id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    bucket: Bucket<'a>,
    #[serde(borrow, default)]
    object: Option<Object<'a>>,
    #[serde(borrow, default, rename = "deletion-type")]
    deletion_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    requester: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default, rename = "versionId", alias = "version-id")]
    version: Option<Text<'a>>,
}

fn read(text: &[u8], envelopes: usize, out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
    json::read::<Message>(text, EXPECTED)?.name(envelopes, out)
}

impl Message<'_> {
    /// Appends what the message, and all that lies in it, names; returns its latest time.
    fn name(&self, envelopes: usize, out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let expected = ParseError::malformed(0, EXPECTED);
        let inner = envelopes.checked_sub(1).ok_or(expected.clone());
        match self {
            Self { records: Some(records), .. } => {
                let times =
                    records.iter().map(|record| record.name(inner.clone()?, out)).collect::<Result<Vec<_>, _>>()?;
                times.into_iter().max().ok_or(expected)
            }
            Self { s3: Some(place), event_name: Some(event), event_source: Some(source), .. } => {
                self.name_record(place, event.as_bytes(), source.as_bytes(), out)
            }
            Self { detail: Some(place), detail_type: Some(event), source: Some(source), .. }
                if source.as_bytes() == b"aws.s3" =>
            {
                self.name_event(place, event.as_bytes(), out)
            }
            Self { sns: Some(notification), .. } => notification.name(inner?, out),
            Self { kind: Some(kind), .. } if kind.as_bytes().ends_with(b"Confirmation") => {
                time_of(self.timestamp.as_ref())
            }
            Self { message: Some(text), .. } | Self { body: Some(text), .. } => read(text.as_bytes(), inner?, out),
            Self { event: Some(event), .. } if event.as_bytes() == b"s3:TestEvent" => time_of(self.time.as_ref()),
            _ => Err(expected),
        }
    }

    fn name_record(
        &self,
        place: &Place,
        event: &[u8],
        source: &[u8],
        out: &mut Vec<Entry>,
    ) -> Result<NaiveDateTime, ParseError> {
        let vendor =
            source.strip_suffix(b":s3").ok_or(ParseError::malformed(0, "eventSource aws:s3, minio:s3 or ceph:s3"))?;
        let event = event.strip_prefix(b"s3:").unwrap_or(event);
        let act = Act::of(event).ok_or(ParseError::malformed(0, "eventName, as ObjectCreated:Put"))?;
        let time = time_of(self.event_time.as_ref())?;
        let user = self.user.as_ref().and_then(|user| user.id.as_ref()).map(Text::to_str);
        let spelling = if matches!(vendor, b"aws" | b"minio") { Spelling::Form } else { Spelling::Either };
        act.name(place, spelling, &mut Objects::new(time, user.as_deref(), out));
        Ok(time)
    }

    fn name_event(&self, place: &Place, event: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let time = time_of(self.time.as_ref())?;
        let is_marker = place.deletion_type.as_ref().is_some_and(|kind| kind.as_bytes() == b"Delete Marker Created");
        let act = match event {
            b"Object Created" => Act::Object(Op::Write),
            b"Object Deleted" if is_marker => Act::Object(Op::Delete),
            b"Object Deleted" => Act::Removed,
            event if event.starts_with(b"Object ") => Act::Object(Op::Attr),
            _ => return Err(ParseError::malformed(0, "detail-type, as Object Created")),
        };
        let user = place.requester.as_ref().map(Text::to_str);
        act.name(place, Spelling::Either, &mut Objects::new(time, user.as_deref(), out));
        Ok(time)
    }
}

fn time_of(text: Option<&Text>) -> Result<NaiveDateTime, ParseError> {
    text.and_then(|text| time::rfc3339(text.as_bytes())).ok_or(ParseError::malformed(0, EXPECTED_TIME))
}

/// How the key of a message is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Form,
    /// As it is, or as in a form: nobody saw which.
    Either,
}

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Nothing that can be seen.
    Quiet,
    Object(Op),
    /// The object, or one version of it.
    Removed,
    Bucket(Op),
}

impl Act {
    /// `None` if this is no event of the form `ObjectCreated:Put`. Of one that is not known, the object is looked at.
    fn of(event: &[u8]) -> Option<Self> {
        let (kind, what) = event.split_at(memchr::memchr(b':', event).unwrap_or(event.len()));
        let is_word = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric);
        event.split(|byte| *byte == b':').all(is_word).then_some(match (kind, what) {
            (b"ObjectCreated", b":PutTagging" | b":DeleteTagging" | b":PutRetention" | b":PutLegalHold") => {
                Self::Object(Op::Attr)
            }
            (b"ObjectCreated", _) | (b"ObjectSynced", b":Create") => Self::Object(Op::Write),
            (b"ObjectRemoved", b":NoOP") => Self::Quiet,
            (b"ObjectRemoved" | b"LifecycleExpiration", b":DeleteMarkerCreated") => Self::Object(Op::Delete),
            (b"ObjectRemoved" | b"LifecycleExpiration", _) => Self::Removed,
            (
                b"ObjectTagging"
                | b"ObjectAcl"
                | b"LifecycleTransition"
                | b"IntelligentTiering"
                | b"ObjectRestore"
                | b"ObjectTransition",
                _,
            ) => Self::Object(Op::Attr),
            (b"Replication" | b"ObjectAccessed" | b"Scanner" | b"TestEvent", _) => Self::Quiet,
            (b"BucketCreated", _) => Self::Bucket(Op::Mkdir),
            (b"BucketRemoved", _) => Self::Bucket(Op::Delete),
            _ => Self::Object(Op::Rescan),
        })
    }

    fn name(self, place: &Place, spelling: Spelling, objects: &mut Objects) {
        let bucket = place.bucket.name.as_bytes();
        let version = place.object.as_ref().and_then(|object| object.version.as_ref()).map_or(&b""[..], Text::as_bytes);
        let op = match self {
            Self::Quiet => return,
            Self::Bucket(op) => return objects.bucket(op, bucket),
            Self::Object(op) => op,
            // To remove a version may bring back the one before it.
            Self::Removed if matches!(version, b"" | b"null") => Op::Delete,
            Self::Removed => Op::Rescan,
        };
        let key = place.object.as_ref().map_or(&b""[..], |object| object.key.as_bytes());
        let decoded = url::form(key);
        objects.name(op, bucket, &decoded);
        if spelling == Spelling::Either && key != &*decoded {
            objects.name(op, bucket, key);
        }
    }
}
