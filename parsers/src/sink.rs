//! Takes what one record names, each thing once however many readings name it. What a path means is
//! the dialect's own.

use crate::change::{Entry, Op};
use crate::field::{self, Head, Key, Marks};
use chrono::NaiveDateTime;

/// Where a dialect says what one record names.
pub(crate) struct Sink<'a> {
    time: NaiveDateTime,
    ugi: Option<&'a [u8]>,
    /// Where the entries of this record begin.
    start: usize,
    out: &'a mut Vec<Entry>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(head: &Head, marks: &Marks<'a>, out: &'a mut Vec<Entry>) -> Self {
        Self { time: head.time, ugi: marks.text(Key::Ugi), start: out.len(), out }
    }

    /// For a log whose records are not made of marks.
    pub(crate) fn plain(time: NaiveDateTime, user: Option<&'a [u8]>, out: &'a mut Vec<Entry>) -> Self {
        Self { time, ugi: user, start: out.len(), out }
    }

    pub(crate) fn name(&mut self, op: Op, path: &[u8]) {
        self.push(op, path, None, false);
    }

    pub(crate) fn rename(&mut self, path: &[u8], to: &[u8], into: bool) {
        self.push(Op::Rename, path, Some(to), into);
    }

    /// How many entries the record gave so far.
    pub(crate) fn count(&self) -> usize {
        self.out.len() - self.start
    }

    fn push(&mut self, op: Op, path: &[u8], to: Option<&[u8]>, into: bool) {
        let is_same = |entry: &Entry| entry.op == op && entry.path == path && entry.to.as_deref() == to;
        if !self.out[self.start..].iter().any(is_same) {
            let user = self.ugi.and_then(field::user);
            let (path, to) = (path.to_vec(), to.map(<[u8]>::to_vec));
            self.out.push(Entry { time: self.time, op, path, to, into, user });
        }
    }
}
