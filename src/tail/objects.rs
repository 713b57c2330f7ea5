//! Logs that appear as whole objects, in no order: which are there, and which were read. Order by name or time means
//! nothing there, so what was read is a set; it is kept for the days from which more may still come.

use super::survey::{LogFile, Survey, look_into};
use super::{Fingerprint, TailError, sha256};
use crate::store::{Meta, Store};
use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many digits of a SHA-256 stand for one object.
const DIGITS: usize = 24;

/// How far back directories are looked through for objects that appeared when their day was over.
const LATE_DAYS: Days = Days::new(31);

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

    /// True if objects of a day are forgotten when [`Self::begin`] is called with this time: what was written since the last
    /// time that this was so is still known from what was read.
    #[must_use]
    pub fn forgets(&self, time: DateTime<Utc>) -> bool {
        self.since.is_some_and(|since| since < day_before(time))
    }

    /// True if the name is one of a day of which nothing was expected any more.
    #[must_use]
    pub fn is_late(&self, name: &str) -> bool {
        dates(name).last().is_some_and(|day| self.is_over(day))
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
    unread(logs, consumed, wanted, consumed.since).await
}

/// The same, with those that appeared in the directories of a month before. Has to be asked for before days are forgotten.
///
/// # Errors
///
/// The directory cannot be listed.
pub async fn late_objects(
    logs: &dyn Store,
    consumed: &Consumed,
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Survey, TailError> {
    let first = consumed.since.and_then(|since| since.checked_sub_days(LATE_DAYS));
    unread(logs, consumed, wanted, first).await
}

async fn unread(
    logs: &dyn Store,
    consumed: &Consumed,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    first: Option<NaiveDate>,
) -> Result<Survey, TailError> {
    let mut calendars = Calendars { first, seen: BTreeSet::new() };
    let mut walk = look_into(logs, wanted, |dir| calendars.may_matter(&dir.to_string())).await?;
    if walk.logs.is_empty() {
        // The days in the names may be those of something else.
        walk = look_into(logs, wanted, |_| true).await?;
    }
    let found = walk.logs.len();
    walk.logs.retain(|found| found.meta.len > 0 && !consumed.has(&found.name, &found.meta));
    let files = walk.logs.into_iter().map(|found| LogFile::whole(found, Fingerprint::exact(b""))).collect();
    Ok(Survey { files, found, gaps: Vec::new(), warnings: walk.warnings })
}

/// Which directories are of days that are over. A directory `2026` may be of a year, and as well of a customer: it is of a
/// year where days were seen below a neighbour, or below itself.
struct Calendars {
    /// Days before it are over.
    first: Option<NaiveDate>,
    /// What years, months and days stand below.
    seen: BTreeSet<String>,
}

impl Calendars {
    /// Of neighbours the later ones have to be asked about first.
    fn may_matter(&mut self, dir: &str) -> bool {
        let Some(span) = Span::of(dir) else { return true };
        if span.is_day {
            self.seen.extend(span.below.map(str::to_owned));
        }
        let is_sure = span.below.is_none_or(|below| self.seen.contains(below));
        !(is_sure && self.first.is_some_and(|first| span.last < first))
    }
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

/// The days that a directory is of, going by the end of its name: `2026`, `2026/11`, `2026/11/21`, `2026-11-21`,
/// `year=2026/month=11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span<'a> {
    last: NaiveDate,
    is_day: bool,
    /// The directory that holds the years; `None` if one name is the whole date.
    below: Option<&'a str>,
}

impl<'a> Span<'a> {
    fn of(dir: &'a str) -> Option<Self> {
        let names: Vec<&str> = dir.rsplit('/').take(3).map(value).collect();
        let number = |back: usize, digits: usize| names.get(back).and_then(|name| whole_number(name, digits));
        let part = |last: NaiveDate, names| Self { last, is_day: names == 3, below: Some(above(dir, names)) };
        match [number(2, 4), number(1, 2), number(0, 2)] {
            [Some(year), Some(month), Some(day)] => return Some(part(ymd(year, month, day)?, 3)),
            [.., Some(month)] => return Some(part(last_of_month(number(1, 4)?, month)?, 2)),
            _ => {}
        }
        match number(0, 4) {
            Some(year) => Some(part(ymd(year, 12, 31)?, 1)),
            None => {
                let date =
                    names.first().filter(|name| matches!(name.len(), 8 | 10)).and_then(|name| dates(name).next());
                date.map(|last| Self { last, is_day: true, below: None })
            }
        }
    }
}

/// What a name such as `month=11` tells.
fn value(name: &str) -> &str {
    name.rsplit_once('=').map_or(name, |(_, value)| value)
}

fn whole_number(name: &str, digits: usize) -> Option<u32> {
    number(name.as_bytes(), digits).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

fn last_of_month(year: u32, month: u32) -> Option<NaiveDate> {
    ymd(year, month, 1)?.checked_add_months(Months::new(1))?.pred_opt()
}

/// The directory so many levels up; empty for the topmost.
fn above(dir: &str, levels: usize) -> &str {
    dir.rsplitn(levels + 1, '/').nth(levels).unwrap_or("")
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

    fn last_day(dir: &str) -> Option<NaiveDate> {
        Span::of(dir).map(|span| span.last)
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
            ("2026/11/21/05", "none"),
            ("2026/11-21", "none"),
            ("11/21", "none"),
            ("", "none"),
        ] {
            assert_eq!(show(last_day(dir)), day, "{dir}");
        }
    }

    /// The directories that are entered, of these and those above them.
    fn entered(dirs: &[&str]) -> Vec<String> {
        let mut calendars = Calendars { first: Some("2026-11-20".parse().expect("a day")), seen: BTreeSet::new() };
        let mut entered = Vec::new();
        let mut ahead = vec![String::new()];
        while let Some(dir) = ahead.pop() {
            if !calendars.may_matter(&dir) {
                continue;
            }
            let inside = if dir.is_empty() { String::new() } else { format!("{dir}/") };
            let below = dirs.iter().filter_map(|other| other.strip_prefix(&inside)?.split('/').next());
            let below: BTreeSet<String> =
                below.filter(|name| !name.is_empty()).map(|name| inside.clone() + name).collect();
            ahead.extend(below);
            entered.push(dir);
        }
        entered
    }

    #[test]
    fn a_year_is_a_year_where_days_stand_below_it_or_below_a_neighbour() {
        let of_years = ["a/2026/11/21", "a/2026/10/31", "a/2025/12/31", "a/2024/01/01"];
        assert_eq!(entered(&of_years), ["", "a", "a/2026", "a/2026/11", "a/2026/11/21"]);
        // Where all years are over, one look is taken into the last one.
        assert_eq!(entered(&["a/2025/12/31", "a/2025/12/30", "a/2024/12/31"]), ["", "a", "a/2025", "a/2025/12"]);
        // Customers, whose numbers look like years, and months.
        assert_eq!(entered(&["1999/x", "2020/07/x"]), ["", "2020", "2020/07", "2020/07/x", "1999", "1999/x"]);
        let hive = ["y=2026/m=11/d=21/h=05", "y=2025/m=12/d=31/h=00"];
        assert_eq!(entered(&hive), ["", "y=2026", "y=2026/m=11", "y=2026/m=11/d=21", "y=2026/m=11/d=21/h=05"]);
        assert_eq!(entered(&["2026-11-19", "2026-11-20", "20261119"]), ["", "2026-11-20"]);
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
