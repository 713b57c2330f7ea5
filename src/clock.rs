//! The one place that reads the machine's clock. Everything else is given the time.

use crate::store::Time;
use chrono::{DateTime, Utc};

/// Now, to the microsecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the edge")]
pub fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

/// A time as stores keep it; the ends of the range for what lies outside (before 1677, after 2262).
#[must_use]
pub fn store_time(time: DateTime<Utc>) -> Time {
    let outside = if time.timestamp() < 0 { i64::MIN } else { i64::MAX };
    Time(time.timestamp_nanos_opt().unwrap_or(outside))
}
