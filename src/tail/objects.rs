//! Logs that appear as whole objects, in no order: which are there, and which were read. Order by name or time means
//! nothing there, so what was read is a set; it is kept for the days from which more may still come.

use super::survey::{LogFile, Survey, look_into};
use super::{Fingerprint, TailError, sha256};
use crate::store::{Meta, Store};
use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use syncd_parsers::RelPath;

/// How many digits of a SHA-256 stand for one object.
const DIGITS: usize = 24;

/// The log objects that were read, as far back as more may come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// Every object of an earlier day was read, or is too old to matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<NaiveDate>,
    /// By the day of an object: the digests of name and length, sorted, one after another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    days: BTreeMap<NaiveDate, String>,
}

impl Consumed {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.days.is_empty()
    }

    /// Leaves out objects of the days before that of `time`: nothing of them is wanted.
    pub fn begin(&mut self, time: DateTime<Utc>) {
        self.since = self.since.max(Some(day_before(time)));
        let since = self.since;
        self.days.retain(|day, _| Some(*day) >= since);
    }

    /// How many objects are remembered.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.days.values().map(|digests| digests.len() / DIGITS).sum()
    }

    pub fn add(&mut self, name: &str, meta: &Meta) {
        let digests = self.days.entry(day(name, meta)).or_default();
        let digest = digest(name, meta);
        let at = pieces(digests).position(|other| other >= digest.as_str()).map_or(digests.len(), |at| at * DIGITS);
        digests.insert_str(at, &digest);
    }

    fn has(&self, name: &str, meta: &Meta) -> bool {
        let day = day(name, meta);
        let digest = digest(name, meta);
        let is_known = |digests: &String| pieces(digests).any(|other| other == digest);
        self.is_over(day) || self.days.get(&day).is_some_and(is_known)
    }

    fn is_over(&self, day: NaiveDate) -> bool {
        self.since.is_some_and(|since| day < since)
    }
}

/// The objects that were not read yet, by name; those of days that are over are not even listed, where directories are named
/// after days.
///
/// # Errors
///
/// The directory cannot be listed.
pub async fn objects(
    logs: &dyn Store,
    consumed: &Consumed,
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Survey, TailError> {
    let is_over = |dir: &RelPath| last_day(&dir.to_string()).is_some_and(|day| consumed.is_over(day));
    let mut walk = look_into(logs, wanted, &|dir| !is_over(dir)).await?;
    if walk.logs.is_empty() {
        // The days in the names may be those of something else.
        walk = look_into(logs, wanted, &|_| true).await?;
    }
    let found = walk.logs.len();
    walk.logs.retain(|found| found.meta.len > 0 && !consumed.has(&found.name, &found.meta));
    let files = walk.logs.into_iter().map(|found| LogFile::whole(found, Fingerprint::exact(b""))).collect();
    Ok(Survey { files, found, gaps: Vec::new(), warnings: walk.warnings })
}

/// The later of the day that an object's name tells and of that on which it was written.
fn day(name: &str, meta: &Meta) -> NaiveDate {
    let written = meta.mtime.map(|time| DateTime::from_timestamp_nanos(time.0).date_naive());
    let named = dates(name).last();
    named.max(written).unwrap_or(NaiveDate::MAX)
}

fn digest(name: &str, meta: &Meta) -> String {
    sha256(format!("{name} {}", meta.len).as_bytes())[..DIGITS].to_owned()
}

fn pieces(digests: &str) -> impl Iterator<Item = &str> {
    digests.as_bytes().chunks(DIGITS).map(|piece| std::str::from_utf8(piece).unwrap_or_default())
}

/// A day earlier, since names may tell the days of another zone.
fn day_before(time: DateTime<Utc>) -> NaiveDate {
    let day = time.date_naive();
    day.checked_sub_days(Days::new(1)).unwrap_or(day)
}

/// The last day that a directory can be of, going by the end of its name: `2026`, `2026/11`, `2026/11/21`, `2026-11-21`,
/// `year=2026/month=11`.
fn last_day(dir: &str) -> Option<NaiveDate> {
    let value = |name: &'_ str| name.rsplit_once('=').map_or(name, |(_, value)| value).to_owned();
    let values: Vec<String> = dir.rsplit('/').take(3).map(value).collect();
    let number = |back: usize, digits: usize| {
        let value = values.get(back).filter(|value| value.len() == digits)?;
        value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u32>().ok()).flatten()
    };
    match [number(2, 4), number(1, 2), number(0, 2)] {
        [Some(year), Some(month), Some(day)] => return ymd(year, month, day),
        [.., Some(month)] => return ymd(number(1, 4)?, month, 1)?.checked_add_months(Months::new(1))?.pred_opt(),
        _ => {}
    }
    match number(0, 4) {
        Some(year) => ymd(year, 12, 31),
        None => values.first().filter(|value| matches!(value.len(), 8 | 10)).and_then(|value| dates(value).next()),
    }
}

fn ymd(year: u32, month: u32, day: u32) -> Option<NaiveDate> {
    let year = i32::try_from(year).ok().filter(|year| (1990..2200).contains(year))?;
    NaiveDate::from_ymd_opt(year, month, day)
}

/// The days in a name: `20261121`, or with `-`, `_`, `.`, `/` or such as `/m=` between the numbers.
fn dates(name: &str) -> impl Iterator<Item = NaiveDate> {
    let bytes = name.as_bytes();
    let begins = move |at: &usize| *at == 0 || !bytes[at - 1].is_ascii_digit();
    (0..bytes.len()).filter(begins).filter_map(move |at| date(&bytes[at..]))
}

fn date(text: &[u8]) -> Option<NaiveDate> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(separator(rest), 2)?;
    let (day, _) = number(separator(rest), 2)?;
    ymd(year, month, day)
}

fn number(text: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    number.iter().all(u8::is_ascii_digit).then_some(())?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

fn separator(text: &[u8]) -> &[u8] {
    match text {
        [b'-' | b'_' | b'.' | b'/', rest @ ..] => {
            let word = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            if word > 0 && rest.get(word) == Some(&b'=') { &rest[word + 1..] } else { rest }
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Time;

    fn written(day: &str) -> Meta {
        let day: NaiveDate = day.parse().expect("a day");
        let time = day.and_hms_opt(12, 0, 0).expect("noon").and_utc();
        Meta { mtime: time.timestamp_nanos_opt().map(Time), ..Meta::file(1) }
    }

    fn show(day: Option<NaiveDate>) -> String {
        day.map_or("none".to_owned(), |day| day.to_string())
    }

    #[test]
    fn the_day_of_a_name_is_found_however_it_is_written() {
        for name in [
            "AWSLogs/123456789012/CloudTrail/eu-west-1/2026/11/21/1234_CloudTrail_eu-west-1_20261121T0005Z_x.json.gz",
            "logs/2026-11-21-00-00-00-0123456789ABCDEF",
            "bucket2026-11-21-05-00-00-0001",
            "bucket_usage_2026_11_21_05_00_00_1a2b_v0",
            "resourceId=/x/y=2026/m=11/d=21/h=05/m=00/PT1H.json",
            "backup-2020-01-01/2026/11/21/0005.log",
        ] {
            assert_eq!(show(dates(name).last()), "2026-11-21", "{name}");
        }
        for name in ["audit.log.1", "123456789012", "2026/13/40", "v1-20-300"] {
            assert_eq!(show(dates(name).last()), "none", "{name}");
        }
    }

    #[test]
    fn the_last_day_of_a_directory_is_found_at_its_end() {
        for (dir, day) in [
            ("AWSLogs/1/2026", "2026-12-31"),
            ("AWSLogs/1/2026/11", "2026-11-30"),
            ("AWSLogs/1/2026/11/21", "2026-11-21"),
            ("x/y=2026/m=02", "2026-02-28"),
            ("x/y=2026/m=02/d=03", "2026-02-03"),
            ("logs/2026-11-21", "2026-11-21"),
            ("logs/20261121", "2026-11-21"),
            ("logs/dt=2026-11-21", "2026-11-21"),
            ("AWSLogs/123456789012", "none"),
            ("2026/11/21/eu-west-1", "none"),
            ("11/21", "none"),
            ("", "none"),
        ] {
            assert_eq!(show(last_day(dir)), day, "{dir}");
        }
    }

    #[test]
    fn an_object_is_read_once_and_forgotten_when_its_day_is_over() {
        let mut consumed = Consumed::default();
        let meta = written("2026-11-21");
        assert!(!consumed.has("a", &meta));
        for name in ["b", "a", "c"] {
            consumed.add(name, &meta);
        }
        assert!(consumed.has("a", &meta) && consumed.has("c", &meta) && !consumed.has("d", &meta));
        assert!(!consumed.has("a", &Meta { len: 2, ..meta.clone() }), "it has grown");
        consumed.begin("2026-11-22T23:00:00Z".parse().expect("a time"));
        assert_eq!(consumed.objects(), 3, "names may be of a zone that is behind");
        consumed.begin("2026-11-23T00:00:00Z".parse().expect("a time"));
        assert_eq!(consumed.objects(), 0);
        assert!(consumed.has("d", &meta), "of a day that is over");
        assert!(!consumed.has("2026-11-22", &meta), "named after a day that is not");
    }
}
