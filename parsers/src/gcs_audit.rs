//! The Cloud Audit Logs of Google Cloud Storage: one `LogEntry` in JSON is one record. See docs/formats/gcs-audit.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing};
use crate::effect::{self, Effect};
use crate::error::ParseError;
use crate::field::READINGS_MAX;
use crate::json::{self, Text};
use crate::object::Objects;
use crate::time;
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem};
use serde::Deserialize;

const EXPECTED: &str = "an audit log entry: timestamp, protoPayload.serviceName, .methodName";
const SERVICE: &[u8] = b"storage.googleapis.com";
/// `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`: what failed so may have
/// happened all the same.
const UNSURE: [i64; 7] = [1, 2, 4, 10, 13, 14, 15];

/// The dialect `gcs-audit`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GcsAudit;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry<'a> {
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    log_name: Option<Text<'a>>,
    #[serde(borrow)]
    proto_payload: Option<AuditLog<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditLog<'a> {
    #[serde(borrow)]
    service_name: Text<'a>,
    #[serde(borrow)]
    method_name: Text<'a>,
    #[serde(borrow)]
    resource_name: Option<Text<'a>>,
    status: Option<Status>,
    #[serde(borrow)]
    authentication_info: Option<AuthenticationInfo<'a>>,
    #[serde(borrow)]
    authorization_info: Option<Vec<AuthorizationInfo<'a>>>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationInfo<'a> {
    #[serde(borrow)]
    principal_email: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct AuthorizationInfo<'a> {
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id<'a> {
    insert_id: &'a str,
}

impl Dialect for GcsAudit {
    fn name(&self) -> &'static str {
        "gcs-audit"
    }

    fn framing(&self) -> Framing {
        Framing::Objects
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(3))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "what lifecycle rules delete: they are not in audit logs",
            "what is done without data access logs: they are off by default, and principals can be exempted",
            "where a folder was renamed to, unless the record asks permission for it: its bucket is scanned",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        json::read::<LogEntry>(line, EXPECTED).is_ok()
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        serde_json::from_slice::<Id>(record).ok().map(|id| id.insert_id.as_bytes())
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let entry: LogEntry = json::read(record, EXPECTED)?;
        let time = time::rfc3339(entry.timestamp.as_bytes()).ok_or(ParseError::malformed(0, "timestamp, in UTC"))?;
        match &entry.proto_payload {
            Some(request) if request.service_name.as_bytes() == SERVICE && !request.was_refused() => {
                request.say(time, out)
            }
            Some(_) => (),
            None if entry.log_name.is_none() => return Err(ParseError::malformed(0, "protoPayload or logName")),
            None => (),
        }
        Ok(time)
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let [time, method, resource] =
            ["timestamp", "methodName", "resourceName"].map(|key| json::salvage(record, key));
        let resource = resource.as_ref().and_then(|resource| Resource::of(resource.as_bytes()));
        let (Some(time), Some(resource)) = (time.and_then(|time| time::rfc3339(time.as_bytes())), resource) else {
            return;
        };
        let is_quiet = |method: Text| matches!(doing_of(&method.to_str()), Doing::Effect(Effect::Nothing));
        if !method.is_some_and(is_quiet) {
            Effect::Unknown.say(&mut Objects::new(time, None, out), resource.bucket, resource.key.as_slice());
        }
    }
}

impl AuditLog<'_> {
    fn was_refused(&self) -> bool {
        let code = self.status.as_ref().map_or(0, |status| status.code);
        (1..=16).contains(&code) && !UNSURE.contains(&code)
    }

    fn user(&self) -> Option<&str> {
        let email = self.authentication_info.as_ref()?.principal_email.as_ref()?;
        std::str::from_utf8(email.as_bytes()).ok()
    }

    fn resource(&self) -> Option<Resource<'_>> {
        Resource::of(self.resource_name.as_ref()?.as_bytes())
    }

    fn say(&self, time: NaiveDateTime, out: &mut Vec<Entry>) {
        match doing_of(&self.method_name.to_str()) {
            Doing::Effect(Effect::Nothing) => (),
            Doing::Effect(effect) => self.say_effect(effect, time, out),
            Doing::Move => self.say_move(time, out),
        }
    }

    fn say_effect(&self, effect: Effect, time: NaiveDateTime, out: &mut Vec<Entry>) {
        let mut objects = Objects::new(time, self.user(), out);
        match self.resource() {
            None => objects.rescan_bucket(b""),
            // Who may do what with a bucket changes no object.
            Some(Resource { key: None, .. }) if effect == Effect::Names(Op::Attr) => (),
            Some(Resource { bucket, key }) => effect.say(&mut objects, bucket, key.as_slice()),
        }
    }

    /// A move is asked permission for at both its ends. Where the record names one only, or many, the other may be
    /// anywhere in the bucket.
    fn say_move(&self, time: NaiveDateTime, out: &mut Vec<Entry>) {
        let asked = self.authorization_info.iter().flatten().filter_map(|info| info.resource.as_ref());
        let asked = asked.filter_map(|resource| Resource::of(resource.as_bytes()));
        let ends = || self.resource().into_iter().chain(asked.clone()).filter_map(|end| Some((end.bucket, end.key?)));
        let start = out.len();
        let mut objects = Objects::new(time, self.user(), out);
        ends().take(READINGS_MAX).for_each(|(bucket, key)| objects.name(Op::Rescan, bucket, key));
        effect::remove_doubles(out, start);
        if out.len() - start < 2 || ends().nth(READINGS_MAX).is_some() {
            self.say_effect(Effect::Inside, time, out);
        }
    }
}

/// `projects/_/buckets/BUCKET[/objects/KEY]`, or `/folders/` and the like. Keys are written as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resource<'a> {
    bucket: &'a [u8],
    key: Option<&'a [u8]>,
}

impl<'a> Resource<'a> {
    fn of(name: &'a [u8]) -> Option<Self> {
        let at = memmem::find(name, b"/buckets/").filter(|_| name.starts_with(b"projects/"))?;
        let (bucket, rest) = split(&name[at + b"/buckets/".len()..]);
        let key = Some(split(rest).1).filter(|key| !key.is_empty());
        (!bucket.is_empty()).then_some(Self { bucket, key })
    }
}

/// What stands before the first slash, and what after it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr(b'/', path).map_or((path, b""), |slash| (&path[..slash], &path[slash + 1..]))
}

enum Doing {
    Effect(Effect),
    Move,
}

fn doing_of(method: &str) -> Doing {
    let Some(method) = method.strip_prefix("storage.") else { return Doing::Effect(Effect::Unknown) };
    let effect = match method {
        "objects.create"
        | "objects.insert"
        | "objects.copy"
        | "objects.rewrite"
        | "objects.compose"
        | "objects.restore"
        | "multipartUploads.complete" => Effect::Names(Op::Write),
        "objects.delete" => Effect::Names(Op::Delete),
        "folders.delete" | "folders.deleteRecursive" => Effect::Directory(Op::Delete),
        "folders.create" => Effect::Directory(Op::Mkdir),
        "objects.update" | "objects.patch" | "objects.setIamPolicy" | "setIamPermissions" | "objects.setRetention" => {
            Effect::Names(Op::Attr)
        }
        "objects.move" | "folders.rename" => return Doing::Move,
        "buckets.create" | "buckets.insert" => Effect::Bucket(Op::Mkdir),
        "buckets.delete" => Effect::Bucket(Op::Delete),
        "objects.bulkRestore" | "buckets.restore" => Effect::Inside,
        method => of_family(method),
    };
    Doing::Effect(effect)
}

/// Reads and settings have too many names to list; they share their words.
fn of_family(method: &str) -> Effect {
    let (kind, verb) = method.split_once('.').unwrap_or(("", method));
    let is_read = ["get", "list", "test"].iter().any(|read| verb.starts_with(read));
    let is_setting = ["update", "patch", "set", "lock", "enable"].iter().any(|set| verb.starts_with(set));
    match kind {
        _ if is_read => Effect::Nothing,
        "buckets" if is_setting => Effect::Nothing,
        "multipartUploads" | "managedFolders" | "hmacKeys" | "anywhereCaches" | "notifications" | "channels" => {
            Effect::Nothing
        }
        _ => Effect::Unknown,
    }
}
