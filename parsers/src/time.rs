//! Times that carry their zone, as JSON logs and web servers write them, brought to UTC.

use crate::field;
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `2026-11-21T06:08:51.302987103Z`, with any fraction or none; `+08:00` or `+0800` may stand for the `Z`.
#[must_use]
pub fn rfc3339(text: &[u8]) -> Option<NaiveDateTime> {
    let (zone, time) = field::timestamp(text).ok()?;
    time.checked_sub_signed(offset(zone)?)
}

/// `06/Feb/2019:00:00:38 +0000`, as web servers write it.
#[must_use]
pub fn access_log(text: &[u8]) -> Option<NaiveDateTime> {
    let [d1, d2, b'/', m1, m2, m3, b'/', year @ .., b':', h1, h2, b':', n1, n2, b':', s1, s2, b' ', o1, o2, o3, o4, o5] =
        text
    else {
        return None;
    };
    let month = MONTHS.iter().position(|month| *month == [*m1, *m2, *m3])?;
    let year = if year.len() == 4 { i32::try_from(number(year)?).ok()? } else { return None };
    let date = NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()? + 1, number(&[*d1, *d2])?)?;
    let time = date.and_hms_opt(number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?)?;
    time.checked_sub_signed(offset(&[*o1, *o2, *o3, *o4, *o5])?)
}

fn offset(text: &[u8]) -> Option<TimeDelta> {
    let (sign, hours, minutes) = match text {
        b"Z" => return Some(TimeDelta::zero()),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            (*sign, number(&[*h1, *h2])?, number(&[*m1, *m2])?)
        }
        _ => return None,
    };
    let offset = TimeDelta::minutes(i64::from(hours) * 60 + i64::from(minutes));
    Some(if sign == b'-' { -offset } else { offset })
}

/// At most nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(time: Option<NaiveDateTime>) -> String {
        time.map_or("none".to_owned(), |time| time.to_string())
    }

    #[test]
    fn every_zone_is_taken_off() {
        assert_eq!(shown(rfc3339(b"2026-11-21T06:08:51.302987103Z")), "2026-11-21 06:08:51.302987103");
        assert_eq!(shown(rfc3339(b"2026-11-21T06:08:51+08:00")), "2026-11-20 22:08:51");
        assert_eq!(shown(rfc3339(b"2026-11-21T06:08:51-0130")), "2026-11-21 07:38:51");
        assert_eq!(shown(access_log(b"06/Feb/2019:00:00:38 +0000")), "2019-02-06 00:00:38");
        assert_eq!(shown(access_log(b"06/Feb/2019:00:00:38 +0800")), "2019-02-05 16:00:38");
    }

    #[test]
    fn what_has_no_zone_or_is_no_time_is_refused() {
        for text in
            ["2026-11-21T06:08:51", "2026-11-21T06:08:51Zx", "2026-13-21T06:08:51Z", "2026-11-21T06:08:51+8", ""]
        {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
        for text in [
            "06/feb/2019:00:00:38 +0000",
            "06/Feb/19:00:00:38 +0000",
            "31/Feb/2019:00:00:38 +0000",
            "06/Feb/2019:00:00:38",
        ] {
            assert_eq!(access_log(text.as_bytes()), None, "{text}");
        }
    }
}
