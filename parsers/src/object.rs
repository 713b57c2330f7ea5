//! Names the objects of a bucket: bucket and key in, entries out. How a log spells either is its dialect's own.

use crate::change::{Entry, Op};
use crate::field;
use chrono::NaiveDateTime;

/// Where a dialect says which objects one record names. A bucket is written without slashes around it; stores with
/// accounts give `account/container`. Keys are bytes after the decoding that the field has, without the slash
/// that stands between bucket and key.
pub(crate) struct Objects<'a> {
    time: NaiveDateTime,
    user: Option<&'a str>,
    out: &'a mut Vec<Entry>,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(time: NaiveDateTime, user: Option<&'a str>, out: &'a mut Vec<Entry>) -> Self {
        Self { time, user: user.filter(|user| !user.is_empty()), out }
    }

    /// Names one object. A key that ends in a slash is the marker of a directory: written, it is a directory made; removed, it
    /// is only looked at, for nothing below it is removed with it, and Hadoop removes the markers of all directories above
    /// each file that it writes. Without a key anything in the bucket may have changed.
    pub(crate) fn name(&mut self, op: Op, bucket: &[u8], key: &[u8]) {
        let (op, key) = match key.strip_suffix(b"/") {
            Some(marked) if op == Op::Write => (Op::Mkdir, marked),
            Some(marked) if op == Op::Delete => (Op::Attr, marked),
            Some(marked) => (op, marked),
            None => (op, key),
        };
        if key.is_empty() || bucket.is_empty() {
            self.rescan_bucket(bucket)
        } else {
            self.push(op, path_of(bucket, key))
        }
    }

    /// The directory of an object: something beside it may have changed, too.
    pub(crate) fn rescan_parent(&mut self, bucket: &[u8], key: &[u8]) {
        let path = path_of(bucket, key.strip_suffix(b"/").unwrap_or(key));
        self.push(Op::Rescan, field::parent(&path).to_vec());
    }

    /// The whole bucket; everything, if not even that is known.
    pub(crate) fn rescan_bucket(&mut self, bucket: &[u8]) {
        self.bucket(Op::Rescan, bucket);
    }

    /// A bucket itself was made or removed.
    pub(crate) fn bucket(&mut self, op: Op, bucket: &[u8]) {
        let op = if bucket.is_empty() { Op::Rescan } else { op };
        self.push(op, [b"/", bucket].concat());
    }

    fn push(&mut self, op: Op, path: Vec<u8>) {
        let user = self.user.map(str::to_owned);
        self.out.push(Entry { time: self.time, op, path, to: None, into: false, user });
    }
}

fn path_of(bucket: &[u8], key: &[u8]) -> Vec<u8> {
    if bucket.is_empty() { b"/".to_vec() } else { [b"/", bucket, b"/", key].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: impl Fn(&mut Objects)) -> Vec<(Op, String)> {
        let mut out = Vec::new();
        name(&mut Objects::new(NaiveDateTime::default(), Some("etl"), &mut out));
        out.into_iter().map(|entry| (entry.op, String::from_utf8(entry.path).expect("text"))).collect()
    }

    #[test]
    fn a_key_with_a_slash_at_its_end_is_a_directory() {
        let named = named(|objects| {
            objects.name(Op::Write, b"b", b"a//x");
            objects.name(Op::Write, b"b", b"a/dir/");
            objects.name(Op::Delete, b"b", b"a/dir/");
        });
        let expected = [(Op::Write, "/b/a//x"), (Op::Mkdir, "/b/a/dir"), (Op::Attr, "/b/a/dir")];
        assert_eq!(named, expected.map(|(op, path)| (op, path.to_owned())));
    }

    #[test]
    fn what_names_less_is_looked_at_more_widely() {
        let named = named(|objects| {
            objects.name(Op::Delete, b"b", b"");
            objects.name(Op::Delete, b"b", b"/");
            objects.rescan_parent(b"b", b"a/x");
            objects.rescan_parent(b"b", b"x");
            objects.rescan_parent(b"b", b"d/");
            objects.rescan_bucket(b"");
            objects.name(Op::Write, b"", b"x");
            objects.bucket(Op::Delete, b"");
        });
        let paths = ["/b", "/b", "/b/a", "/b", "/b", "/", "/", "/"].map(|path| (Op::Rescan, path.to_owned()));
        assert_eq!(named, paths);
    }
}
