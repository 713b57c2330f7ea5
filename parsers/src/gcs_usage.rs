//! The usage logs of Google Cloud Storage: CSV, one request a line. See docs/formats/gcs-usage.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::effect::{self, Effect};
use crate::error::ParseError;
use crate::object::Objects;
use crate::url;
use chrono::{DateTime, NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem};
use std::borrow::Cow;

const COLUMNS: usize = 17;

const HEADING: &[u8] =
    b"\"time_micros\",\"c_ip\",\"c_ip_type\",\"c_ip_region\",\"cs_method\",\"cs_uri\",\"sc_status\",\
    \"cs_bytes\",\"sc_bytes\",\"time_taken_micros\",\"cs_host\",\"cs_referer\",\"cs_user_agent\",\"s_request_id\",\
    \"cs_operation\",\"cs_bucket\",\"cs_object\"";

/// The dialect `gcs-usage`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GcsUsage;

impl Dialect for GcsUsage {
    fn name(&self) -> &'static str {
        "gcs-usage"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(3))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "requests whose lines Google lost or has not delivered yet: neither time nor completeness is guaranteed",
            "who asked: usage logs name no account",
            "where a folder was renamed to: its bucket is scanned",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Row::of(line).is_ok()
    }

    fn is_heading(&self, line: &[u8]) -> bool {
        line.strip_prefix(HEADING).is_some_and(|more| matches!(more, b"" | b"\r") || more.starts_with(b",\""))
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        Row::of(record).ok().map(|row| row.id)
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let row = Row::of(record)?;
        let is_refused = effect::status(row.status).is_some_and(effect::is_refusal);
        let effect = if is_refused { Effect::Nothing } else { row.effect() };
        if effect != Effect::Nothing {
            row.say(effect, out);
        }
        Ok(row.time)
    }

    fn salvage(&self, _line: &[u8], _out: &mut Vec<Entry>) {}
}

/// The columns that matter, as they are written between their quotes.
struct Row<'a> {
    time: NaiveDateTime,
    method: &'a [u8],
    uri: &'a [u8],
    status: &'a [u8],
    id: &'a [u8],
    operation: &'a [u8],
    bucket: &'a [u8],
    object: &'a [u8],
}

impl<'a> Row<'a> {
    fn of(record: &'a [u8]) -> Result<Self, ParseError> {
        let (mut columns, mut at) = ([&record[..0]; COLUMNS], 0);
        for column in &mut columns {
            let end =
                value_end(record, at).ok_or(ParseError::malformed(at, "17 values, each in quotes, and commas"))?;
            *column = &record[at + 1..end];
            let is_comma = matches!(record.get(end + 1), Some(b',' | b'\r') | None);
            is_comma.then_some(()).ok_or(ParseError::malformed(end + 1, "a comma"))?;
            at = end + 2;
        }
        let [micros, _, _, _, method, uri, status, _, _, _, _, _, _, id, operation, bucket, object] = columns;
        let time = time_of(micros).ok_or(ParseError::malformed(1, "time_micros"))?;
        Ok(Self { time, method, uri, status, id, operation, bucket, object })
    }

    fn say(&self, effect: Effect, out: &mut Vec<Entry>) {
        let start = out.len();
        let key = unquoted(self.object);
        let keys = if key.is_empty() { vec![] } else { vec![key] };
        let mut objects = Objects::new(self.time, None, out);
        effect.say(&mut objects, &unquoted(self.bucket), &keys);
        if let Some((bucket, key)) = self.destination() {
            let bucket = if bucket.is_empty() { unquoted(self.bucket) } else { url::percent(bucket) };
            objects.name(Op::Write, &bucket, &url::percent(key));
        }
        effect::remove_doubles(out, start);
    }

    /// Bucket and key, as the JSON API names them in the address of a copy: which end of it
    /// `cs_object` names is not documented. An empty bucket is the same one.
    fn destination(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (path, _) = url::split_query(self.uri);
        let after = |mark: &[u8]| memmem::rfind(path, mark).map(|at| &path[at + mark.len()..]);
        if let Some(key) = after(b"/moveTo/o/") {
            return Some((&path[..0], key));
        }
        let target = after(b"/rewriteTo/b/").or_else(|| after(b"/copyTo/b/"))?;
        let at = memmem::find(target, b"/o/")?;
        Some((&target[..at], &target[at + 3..]))
    }

    fn effect(&self) -> Effect {
        let (_, query) = url::split_query(self.uri);
        let asks_for = |name: &str| url::has_parameter(query, name.as_bytes());
        let has = |name: &str| url::has_value(query, name.as_bytes());
        let is_step = match (self.operation, self.method) {
            (b"PUT_Object", b"PUT") => has("partNumber") && has("uploadId"),
            (b"POST_Object", b"POST") => asks_for("uploads"),
            (b"DELETE_Object", b"DELETE") => has("uploadId"),
            _ => false,
        };
        match effect_of(self.operation, self.method) {
            Effect::Names(_) if is_step => Effect::Nothing,
            Effect::Names(_) if is_copy(self.operation) && self.destination().is_none() => Effect::Inside,
            effect if asks_for("generation") => effect.of_version(),
            effect => effect,
        }
    }
}

/// Of the JSON API: the address holds both ends.
fn is_copy(operation: &[u8]) -> bool {
    matches!(operation, b"storage.objects.copy" | b"storage.objects.rewrite" | b"storage.objects.move")
}

/// Where the quote is that ends the value which begins at a place.
fn value_end(record: &[u8], at: usize) -> Option<usize> {
    let mut from = (record.get(at) == Some(&b'"')).then_some(at + 1)?;
    loop {
        let end = from + memchr(b'"', record.get(from..)?)?;
        if record.get(end + 1) != Some(&b'"') {
            return Some(end);
        }
        from = end + 2;
    }
}

fn time_of(micros: &[u8]) -> Option<NaiveDateTime> {
    let micros = std::str::from_utf8(micros).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    DateTime::from_timestamp_micros(micros.parse().ok()?).map(|time| time.naive_utc())
}

/// Undoes `""`.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'"', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(quote) = memchr(b'"', rest) {
        text.extend_from_slice(&rest[..=quote]);
        rest = rest.get(quote + 2..).unwrap_or_default();
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

/// `PUT_Object` is a request of the XML API, `storage.objects.insert` one of the JSON API. For what is not known the
/// method tells whether it reads.
fn effect_of(operation: &[u8], method: &[u8]) -> Effect {
    match operation {
        b"PUT_Object"
        | b"POST_Object"
        | b"COPY_Object"
        | b"COMPOSE_Object"
        | b"storage.objects.insert"
        | b"storage.objects.copy"
        | b"storage.objects.rewrite"
        | b"storage.objects.compose"
        | b"storage.objects.restore"
        | b"storage.objects.move" => Effect::Names(Op::Write),
        b"DELETE_Object" | b"storage.objects.delete" => Effect::Names(Op::Delete),
        b"PATCH_Object" | b"storage.objects.patch" | b"storage.objects.update" => Effect::Names(Op::Attr),
        b"PUT_Bucket" | b"storage.buckets.insert" => Effect::Bucket(Op::Mkdir),
        b"DELETE_Bucket" | b"storage.buckets.delete" => Effect::Bucket(Op::Delete),
        b"storage.buckets.patch" | b"storage.buckets.update" => Effect::Nothing,
        b"storage.folders.rename" | b"storage.objects.bulkRestore" => Effect::Inside,
        _ if matches!(method, b"GET" | b"HEAD" | b"OPTIONS") => Effect::Nothing,
        _ => Effect::Unknown,
    }
}
