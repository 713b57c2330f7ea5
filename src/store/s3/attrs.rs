//! POSIX attributes in user metadata, in the keys that rclone uses, so that both tools see the same:
//! `mtime` in seconds with a fraction, `mode` in octal with the type bits, `uid` and `gid` in decimal.
//! Owners by name are `owner` and `group`, percent-encoded where a header could not carry them.

use super::super::{Kind, Meta, Owner, Time};
use super::keys::{percent_decode, percent_encode};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use std::collections::HashMap;

pub(super) type Metadata = HashMap<String, String>;

const NANOS: i64 = 1_000_000_000;
const TYPE_BITS: u32 = 0o170_000;

/// What a look at an object shows.
pub(super) fn of_object(head: &HeadObjectOutput) -> Meta {
    file(head.content_length(), head.last_modified(), head.e_tag(), head.metadata())
}

/// The same, from the answer that brings the bytes.
pub(super) fn of_body(got: &GetObjectOutput) -> Meta {
    file(got.content_length(), got.last_modified(), got.e_tag(), got.metadata())
}

/// What a look at a directory shows that has a marker. When the marker was written says nothing about the directory.
pub(super) fn of_marker(head: &HeadObjectOutput) -> Meta {
    let tag = Some(head.e_tag().map(bare_tag).unwrap_or_default());
    with_attrs(Meta { tag, ..Meta::dir() }, head.metadata())
}

fn file(len: Option<i64>, modified: Option<&DateTime>, tag: Option<&str>, metadata: Option<&Metadata>) -> Meta {
    let len = len.and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
    let mtime = modified.and_then(|at| i64::try_from(at.as_nanos()).ok()).map(Time);
    with_attrs(Meta { mtime, tag: tag.map(bare_tag), ..Meta::file(len) }, metadata)
}

/// An ETag without its quotes, which some servers leave out in some answers.
pub(super) fn bare_tag(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

pub(super) fn quoted_tag(tag: &str) -> String {
    format!("\"{tag}\"")
}

fn with_attrs(meta: Meta, metadata: Option<&Metadata>) -> Meta {
    let Some(metadata) = metadata else { return meta };
    let get = |key: &str| metadata.get(key).map(String::as_str);
    Meta {
        mtime: get("mtime").and_then(parse_time).or(meta.mtime),
        mode: get("mode").and_then(parse_mode),
        owner: owner(get),
        ..meta
    }
}

/// Numbers before names, if some other tool left both.
fn owner<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Owner> {
    let number = |key| get(key).and_then(|text| text.parse().ok());
    if let (Some(uid), Some(gid)) = (number("uid"), number("gid")) {
        return Some(Owner::Ids { uid, gid });
    }
    let name = |key| get(key).and_then(|text| String::from_utf8(percent_decode(text)).ok());
    Some(Owner::Names { user: name("owner")?, group: name("group")? })
}

/// The attributes of `meta` that are known.
pub(super) fn written(meta: &Meta) -> Metadata {
    let mut metadata = Metadata::new();
    overlay(&mut metadata, meta.kind, meta);
    metadata
}

/// Puts the attributes of `meta` that are known over those that are there, for what is a `kind`.
pub(super) fn overlay(metadata: &mut Metadata, kind: Kind, meta: &Meta) {
    let mut set = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    if let Some(time) = meta.mtime {
        set("mtime", format_time(time));
    }
    if let Some(mode) = meta.mode {
        set("mode", format_mode(kind, mode));
    }
    if let Some(owner) = &meta.owner {
        overlay_owner(metadata, owner);
    }
}

fn overlay_owner(metadata: &mut Metadata, owner: &Owner) {
    metadata.retain(|key, _| !["uid", "gid", "owner", "group"].contains(&key.as_str()));
    let [(user_key, user), (group_key, group)] = match owner {
        Owner::Ids { uid, gid } => [("uid", uid.to_string()), ("gid", gid.to_string())],
        Owner::Names { user, group } => [("owner", header_text(user)), ("group", header_text(group))],
    };
    metadata.insert(user_key.to_owned(), user);
    metadata.insert(group_key.to_owned(), group);
}

fn header_text(name: &str) -> String {
    percent_encode(name.as_bytes(), |byte| byte.is_ascii_graphic() && byte != b'%')
}

fn format_mode(kind: Kind, mode: u32) -> String {
    let type_bits = match kind {
        Kind::File => 0o100_000,
        Kind::Dir => 0o040_000,
        Kind::Symlink => 0o120_000,
    };
    format!("{:06o}", type_bits | mode)
}

fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().map(|mode| mode & !TYPE_BITS).filter(|mode| *mode <= 0o7777)
}

fn format_time(time: Time) -> String {
    let sign = if time.0 < 0 { "-" } else { "" };
    let (seconds, nanos) = (time.0.unsigned_abs() / NANOS.unsigned_abs(), time.0.unsigned_abs() % NANOS.unsigned_abs());
    format!("{sign}{seconds}.{nanos:09}")
}

/// Seconds as rclone's S3 store writes them, or RFC 3339 as other tools do.
fn parse_time(text: &str) -> Option<Time> {
    parse_seconds(text).or_else(|| {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        time.timestamp_nanos_opt().map(Time)
    })
}

/// In integers: an `f64` has no room for nanoseconds of this century.
fn parse_seconds(text: &str) -> Option<Time> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if ![seconds, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}")[..9].parse().ok()?;
    let total = seconds.parse::<i64>().ok()?.checked_mul(NANOS)?.checked_add(nanos)?;
    Some(Time(sign * total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_nine_decimals() {
        for (nanos, text) in [
            (1_700_000_000_123_456_789, "1700000000.123456789"),
            (1_000_000_000, "1.000000000"),
            (0, "0.000000000"),
            (-500_000_000, "-0.500000000"),
            (-1_500_000_000, "-1.500000000"),
        ] {
            assert_eq!(format_time(Time(nanos)), text);
            assert_eq!(parse_time(text), Some(Time(nanos)), "{text}");
        }
    }

    #[test]
    fn times_of_other_tools_are_read() {
        for (text, nanos) in [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("1.0123456789", Some(1_012_345_678)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500_000_000)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000_000_000)),
            ("", None),
            ("-", None),
            ("1.", None),
            ("1.2.3", None),
            ("yesterday", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_time(text), nanos.map(Time), "{text:?}");
        }
    }

    #[test]
    fn modes_carry_the_type_and_are_read_without_it() {
        assert_eq!(format_mode(Kind::File, 0o644), "100644");
        assert_eq!(format_mode(Kind::Dir, 0o755), "040755");
        for (text, mode) in [
            ("100644", Some(0o644)),
            ("40755", Some(0o755)),
            ("0640", Some(0o640)),
            ("104755", Some(0o4755)),
            ("rw-r--r--", None),
            ("7777777", None),
        ] {
            assert_eq!(parse_mode(text), mode, "{text:?}");
        }
    }

    #[test]
    fn owners_come_back_in_the_form_they_were_given() {
        for owner in [
            Owner::Ids { uid: 0, gid: u32::MAX },
            Owner::Names { user: "alice".to_owned(), group: "staff".to_owned() },
            Owner::Names { user: "Jürgen von 100%".to_owned(), group: " 日本\n".to_owned() },
        ] {
            let meta = Meta { owner: Some(owner.clone()), ..Meta::file(0) };
            let metadata = written(&meta);
            assert!(metadata.values().all(|value| value.bytes().all(|b| b.is_ascii_graphic())), "{metadata:?}");
            assert_eq!(with_attrs(Meta::file(0), Some(&metadata)).owner, Some(owner));
        }
    }

    #[test]
    fn new_attributes_replace_the_known_and_keep_the_rest() {
        let known: Metadata = [("mode", "100600"), ("uid", "1"), ("gid", "2"), ("colour", "blue")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let owner = Owner::Names { user: "a".to_owned(), group: "b".to_owned() };
        let mut metadata = known;
        overlay(&mut metadata, Kind::File, &Meta { owner: Some(owner), mtime: Some(Time(0)), ..Meta::file(0) });
        let mut lines: Vec<String> = metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.sort();
        assert_eq!(lines, ["colour=blue", "group=b", "mode=100600", "mtime=0.000000000", "owner=a"]);
    }

    #[test]
    fn without_an_mtime_the_upload_time_counts_for_files_only() {
        let head = HeadObjectOutput::builder().content_length(3).last_modified(DateTime::from_secs(5)).e_tag("\"x\"");
        let head = head.metadata("mode", "100640").build();
        let seen = of_object(&head);
        assert_eq!((seen.len, seen.mtime, seen.mode), (3, Some(Time(5 * NANOS)), Some(0o640)));
        assert_eq!(seen.tag.as_deref(), Some("x"));
        assert_eq!((of_marker(&head).mtime, of_marker(&head).mode), (None, Some(0o640)));
    }
}
