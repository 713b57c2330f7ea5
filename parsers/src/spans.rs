//! When a log spoke: the times of its records as spans, so that where it was silent can be told. Pure; what a silence
//! means is for others to say.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::ops::Sub;

/// Records that are no further apart are of one span.
pub const QUIET: TimeDelta = TimeDelta::minutes(10);
/// A log of forged times could have as many spans as lines. What comes beyond is left out: it looks silent where it was not.
pub const SPANS_MAX: usize = 1000;

/// Times at which something was written, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span<T> {
    pub from: T,
    pub to: T,
}

/// In order, and more than [`QUIET`] apart. The same whatever the order in which times are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spans<T>(Vec<Span<T>>);

impl<T> Default for Spans<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord + Sub<Output = TimeDelta>> Spans<T> {
    pub fn add(&mut self, time: T) {
        match self.0.last_mut() {
            Some(last) if last.from <= time && time <= last.to => {}
            Some(last) if last.to < time && time - last.to <= QUIET => last.to = time,
            _ => self.join(Span { from: time, to: time }),
        }
    }

    pub fn append(&mut self, others: &Self) {
        others.0.iter().for_each(|span| self.join(*span));
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Span<T>> {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn join(&mut self, span: Span<T>) {
        let start = self.0.partition_point(|one| one.to < span.from && span.from - one.to > QUIET);
        let end = self.0.partition_point(|one| one.from <= span.to || one.from - span.to <= QUIET);
        let near = &self.0[start..end.max(start)];
        if near.is_empty() && self.0.len() >= SPANS_MAX {
            return;
        }
        let from = near.first().map_or(span.from, |first| first.from.min(span.from));
        let to = near.last().map_or(span.to, |last| last.to.max(span.to));
        self.0.splice(start..end.max(start), [Span { from, to }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDateTime};

    fn at(minute: i64) -> NaiveDateTime {
        DateTime::from_timestamp(minute * 60, 0).expect("a time").naive_utc()
    }

    fn spans(minutes: &[i64]) -> Vec<(i64, i64)> {
        let mut spans = Spans::default();
        minutes.iter().for_each(|minute| spans.add(at(*minute)));
        let minute = |time: NaiveDateTime| time.and_utc().timestamp() / 60;
        spans.iter().map(|span| (minute(span.from), minute(span.to))).collect()
    }

    #[test]
    fn times_that_are_near_each_other_are_one_span_in_any_order() {
        let times = [0, 5, 15, 40, 50, 100];
        let expected = [(0, 15), (40, 50), (100, 100)];
        assert_eq!(spans(&times), expected);
        for first in 0..times.len() {
            let mut turned = times;
            turned.rotate_left(first);
            assert_eq!(spans(&turned), expected);
            turned.reverse();
            assert_eq!(spans(&turned), expected);
        }
    }

    #[test]
    fn a_time_between_two_spans_makes_them_one() {
        assert_eq!(spans(&[0, 20, 10]), [(0, 20)]);
        assert_eq!(spans(&[0, 22, 11]), [(0, 0), (11, 11), (22, 22)]);
    }

    #[test]
    fn more_spans_than_the_limit_are_left_out() {
        let far: Vec<i64> = (0..2 * SPANS_MAX as i64).map(|number| number * 60).collect();
        assert_eq!(spans(&far).len(), SPANS_MAX);
    }
}
