//! Times as people and logs write them: the zone of a log whose lines carry none, and points in time
//! on the command line. Reads no clock.

use chrono::{DateTime, Datelike, Duration, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use std::fmt;
use std::str::FromStr;

/// The time zone in which a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

/// A zone that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time zone; examples: UTC, Asia/Shanghai, +08:00")]
pub struct ZoneError {
    pub text: String,
}

/// A point in time that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no time; examples: 2022-06-01T12:00:00Z, 2022-06-01T20:00:00+08:00, \
     2022-06-01-12:00:00 (in the zone of the log), 2h (before now)"
)]
pub struct TimeError {
    pub text: String,
}

impl Zone {
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// The time in UTC. Of an hour that the clock shows twice it is the first, so that nothing counts as
    /// known too early; a time that the clock skips moves forward by what was skipped.
    #[must_use]
    pub fn earliest(self, local: NaiveDateTime) -> DateTime<Utc> {
        self.resolve(local).0
    }

    /// The same, but of an hour that the clock shows twice it is the second.
    #[must_use]
    pub fn latest(self, local: NaiveDateTime) -> DateTime<Utc> {
        self.resolve(local).1
    }

    /// How far the zone is ahead of UTC at `time`.
    #[must_use]
    pub fn ahead(self, time: DateTime<Utc>) -> Duration {
        Duration::seconds(i64::from(self.offset_at(time.naive_utc()).local_minus_utc()))
    }

    /// What the clock shows there.
    #[must_use]
    pub fn local(self, time: DateTime<Utc>) -> NaiveDateTime {
        time.naive_utc() + self.ahead(time)
    }

    /// True if the clock there shows UTC all the year, as it does since 2020 or not at all.
    #[must_use]
    pub fn is_utc(self) -> bool {
        let days = [18_262, 18_353, 18_444, 18_536]; // the quarters of 2020
        days.into_iter().all(|days| self.ahead(DateTime::UNIX_EPOCH + Duration::days(days)).is_zero())
    }

    fn resolve(self, local: NaiveDateTime) -> (DateTime<Utc>, DateTime<Utc>) {
        let offsets = match self {
            Self::Fixed(offset) => LocalResult::Single(offset),
            Self::Named(zone) => fixed(zone.offset_from_local_datetime(&local)),
        };
        match offsets {
            LocalResult::Single(offset) => (utc(local, offset), utc(local, offset)),
            LocalResult::Ambiguous(one, other) => {
                let (one, other) = (utc(local, one), utc(local, other));
                (one.min(other), one.max(other))
            }
            LocalResult::None => {
                let time = utc(local, self.offset_at(local - Duration::hours(26)));
                (time, time)
            }
        }
    }

    fn offset_at(self, utc: NaiveDateTime) -> FixedOffset {
        match self {
            Self::Fixed(offset) => offset,
            Self::Named(zone) => zone.offset_from_utc_datetime(&utc).fix(),
        }
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let named = text.parse::<Tz>().map(Self::Named).ok();
        let signed = || text.starts_with(['+', '-']).then(|| text.parse::<FixedOffset>().ok()).flatten();
        named.or_else(|| signed().map(Self::Fixed)).ok_or_else(|| ZoneError { text: text.to_owned() })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(zone) => f.write_str(zone.name()),
            Self::Fixed(offset) => write!(f, "{offset}"),
        }
    }
}

/// A duration that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration; examples: 1s, 15m, 24h")]
pub struct DurationError {
    pub text: String,
}

/// A duration as people write it.
///
/// # Errors
///
/// The text is none.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let parsed = humantime::parse_duration(text).ok().and_then(|duration| Duration::from_std(duration).ok());
    parsed.ok_or_else(|| DurationError { text: text.to_owned() })
}

/// A point in time: RFC 3339, `2022-01-01-12:00:00` in the zone of the log, or a duration before `now`.
///
/// # Errors
///
/// The text is none of these.
pub fn parse_time(text: &str, zone: Zone, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeError> {
    let absolute = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let local = || NaiveDateTime::parse_from_str(text, "%Y-%m-%d-%H:%M:%S%.f").ok().map(|time| zone.earliest(time));
    let ago = || {
        let age = Duration::from_std(humantime::parse_duration(text).ok()?).ok()?;
        now.checked_sub_signed(age)
    };
    absolute().or_else(local).or_else(ago).ok_or_else(|| TimeError { text: text.to_owned() })
}

/// A time without its year, in the year in which it was written into a file that was changed last at `modified`: the latest
/// in which it is not later than that by more than a day, since clocks and zones differ. Both are times of one zone.
#[must_use]
pub fn with_year(time: NaiveDateTime, modified: NaiveDateTime) -> NaiveDateTime {
    let latest = modified + Duration::days(1);
    let in_year = |back: i32| time.with_year(latest.year() - back).filter(|time| *time <= latest);
    (0..=8).find_map(in_year).unwrap_or(time) // a 29th of February may be eight years away
}

/// A warning if the last line of the log that is being written and the file's modification time differ by
/// whole hours: then the zone is likely wrong, and with it every window's end.
#[must_use]
pub fn whole_hours_off(log: &str, zone: Zone, last: DateTime<Utc>, modified: DateTime<Utc>) -> Option<String> {
    let hours = whole_hours(last, modified)?;
    let likely = zone.ahead(modified).num_minutes() + hours * 60;
    Some(format!(
        "the last line of {log} is {} than the file's modification time: the log is likely written in {}, \
         for example --log-timezone {}",
        apart(hours),
        spelled(likely),
        example(likely, modified),
    ))
}

/// The same of a log whose times say their zone: then a clock is wrong.
#[must_use]
pub fn utc_whole_hours_off(log: &str, last: DateTime<Utc>, modified: DateTime<Utc>) -> Option<String> {
    let hours = whole_hours(last, modified)?;
    Some(format!(
        "the last line of {log} is {} than the file's modification time: the clock of the log's writer or that of the \
         store that holds it is set to another zone",
        apart(hours)
    ))
}

/// By how many hours two times differ, if these are whole.
fn whole_hours(last: DateTime<Utc>, modified: DateTime<Utc>) -> Option<i64> {
    const SLACK_SECONDS: i64 = 5 * 60;
    let off = (last - modified).num_seconds();
    let hours = (off + off.signum() * 1800) / 3600;
    (hours != 0 && hours.abs() <= 14 && (off - hours * 3600).abs() <= SLACK_SECONDS).then_some(hours)
}

fn apart(hours: i64) -> String {
    format!("{} h {}", hours.abs(), if hours > 0 { "later" } else { "earlier" })
}

/// `UTC+8`, `UTC-3:30`.
fn spelled(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
    match (hours, rest) {
        (0, 0) => "UTC".to_owned(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, rest) => format!("UTC{sign}{hours}:{rest:02}"),
    }
}

/// A zone that is so far ahead of UTC at that time: one that many clusters run in, else the bare offset.
fn example(minutes: i64, time: DateTime<Utc>) -> String {
    const COMMON: [Tz; 14] = [
        Tz::UTC,
        Tz::Asia__Shanghai,
        Tz::Asia__Tokyo,
        Tz::Asia__Kolkata,
        Tz::Europe__London,
        Tz::Europe__Berlin,
        Tz::Europe__Athens,
        Tz::Europe__Moscow,
        Tz::America__New_York,
        Tz::America__Chicago,
        Tz::America__Denver,
        Tz::America__Los_Angeles,
        Tz::America__Sao_Paulo,
        Tz::Australia__Sydney,
    ];
    let fits = |zone: &&Tz| Zone::Named(**zone).ahead(time).num_minutes() == minutes;
    let bare = || {
        let sign = if minutes < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    };
    COMMON.iter().find(fits).map_or_else(bare, |zone| zone.name().to_owned())
}

fn fixed<O: Offset>(offsets: LocalResult<O>) -> LocalResult<FixedOffset> {
    offsets.map(|offset| offset.fix())
}

fn utc(local: NaiveDateTime, offset: FixedOffset) -> DateTime<Utc> {
    (local - Duration::seconds(i64::from(offset.local_minus_utc()))).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect(text)
    }

    fn local(text: &str) -> NaiveDateTime {
        text.parse().expect(text)
    }

    fn zone(text: &str) -> Zone {
        text.parse().expect(text)
    }

    #[test]
    fn a_zone_is_a_name_or_an_offset_and_prints_as_it_was_written() {
        for text in ["UTC", "Asia/Shanghai", "+08:00", "-03:30"] {
            assert_eq!(zone(text).to_string(), text);
        }
        for text in ["", "Mars/Olympus", "8", "utc+8"] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_local_time_becomes_utc() {
        let noon = local("2022-06-01T12:00:00");
        for (text, utc) in [("UTC", "12"), ("Asia/Shanghai", "04"), ("+08:00", "04"), ("America/New_York", "16")] {
            let expected = at(&format!("2022-06-01T{utc}:00:00Z"));
            assert_eq!(zone(text).earliest(noon), expected, "{text}");
            assert_eq!(zone(text).latest(noon), expected, "{text}");
        }
    }

    #[test]
    fn of_a_doubled_hour_both_readings_are_known() {
        let doubled = local("2022-10-30T02:30:00");
        assert_eq!(zone("Europe/Berlin").earliest(doubled), at("2022-10-30T00:30:00Z"));
        assert_eq!(zone("Europe/Berlin").latest(doubled), at("2022-10-30T01:30:00Z"));
    }

    #[test]
    fn a_skipped_time_moves_forward() {
        assert_eq!(zone("Europe/Berlin").earliest(local("2022-03-27T02:30:00")), at("2022-03-27T01:30:00Z"));
        assert_eq!(zone("America/New_York").earliest(local("2022-03-13T02:30:00")), at("2022-03-13T07:30:00Z"));
        assert_eq!(zone("Pacific/Apia").earliest(local("2011-12-30T12:00:00")), at("2011-12-30T22:00:00Z"));
    }

    #[test]
    fn a_time_without_its_year_is_the_latest_that_its_file_allows() {
        for (time, modified, year) in [
            ("0004-01-01T00:00:01", "2027-01-01T00:00:05", 2027),
            ("0004-12-31T23:59:59", "2027-01-01T00:00:05", 2026),
            ("0004-12-31T23:59:59", "2026-12-31T23:00:00", 2026),
            ("0004-01-01T07:00:00", "2026-12-31T23:00:00", 2027),
            ("0004-06-01T00:00:00", "2026-05-30T23:00:00", 2025),
            ("0004-02-29T00:00:00", "2027-01-05T00:00:00", 2024),
            ("0004-02-29T00:00:00", "2103-01-05T00:00:00", 2096),
        ] {
            assert_eq!(with_year(local(time), local(modified)).year(), year, "{time} in a file of {modified}");
        }
    }

    #[test]
    fn a_zone_that_is_sometimes_utc_is_not_utc() {
        assert!(zone("UTC").is_utc() && zone("+00:00").is_utc() && zone("Etc/UTC").is_utc());
        assert!(!zone("Europe/London").is_utc() && !zone("Asia/Shanghai").is_utc());
    }

    #[test]
    fn a_time_is_written_in_four_ways() {
        let now = at("2022-06-01T12:00:00Z");
        let shanghai = zone("Asia/Shanghai");
        for (text, expected) in [
            ("2022-06-01T12:00:00Z", "2022-06-01T12:00:00Z"),
            ("2022-06-01T12:00:00.250+02:00", "2022-06-01T10:00:00.250Z"),
            ("2022-01-01-12:00:00", "2022-01-01T04:00:00Z"),
            ("2h", "2022-06-01T10:00:00Z"),
            ("90m", "2022-06-01T10:30:00Z"),
        ] {
            assert_eq!(parse_time(text, shanghai, now), Ok(at(expected)), "{text}");
        }
        for text in ["", "yesterday", "2022-06-01", "-2h"] {
            assert!(parse_time(text, shanghai, now).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_hours_between_line_and_file_name_the_likely_zone() {
        let warn = |zone: Zone, last: &str| whole_hours_off("a.log", zone, at(last), at("2022-06-01T12:00:00Z"));
        assert_eq!(
            warn(Zone::UTC, "2022-06-01T19:58:00Z").expect("eight hours off"),
            "the last line of a.log is 8 h later than the file's modification time: the log is likely written in \
             UTC+8, for example --log-timezone Asia/Shanghai"
        );
        let behind = warn(zone("Asia/Shanghai"), "2022-06-01T04:03:00Z").expect("eight hours off");
        assert!(behind.ends_with("written in UTC, for example --log-timezone UTC"), "{behind}");
        let half = warn(zone("+05:30"), "2022-06-01T11:00:00Z").expect("one hour off");
        assert!(half.ends_with("UTC+4:30, for example --log-timezone +04:30"), "{half}");
    }

    #[test]
    fn other_differences_between_line_and_file_say_nothing_about_the_zone() {
        for last in ["12:00:00", "12:04:00", "11:57:00", "12:30:00", "14:10:00"] {
            let last = at(&format!("2022-06-01T{last}Z"));
            assert_eq!(whole_hours_off("a.log", Zone::UTC, last, at("2022-06-01T12:00:00Z")), None, "{last}");
        }
        let days = whole_hours_off("a.log", Zone::UTC, at("2022-06-03T12:00:00Z"), at("2022-06-01T12:00:00Z"));
        assert_eq!(days, None);
    }
}
