//! What a request to an object store did to names, once its dialect has read it; which operations do what is each
//! dialect's own table.

use crate::change::{Entry, Op};
use crate::object::Objects;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Changes no object.
    Nothing,
    /// Changes the object that it names.
    Names(Op),
    /// Changes the directory that it names, whether its name ends in a slash or not, and perhaps all below it.
    Directory(Op),
    /// Changes the bucket itself.
    Bucket(Op),
    /// Changes objects of the bucket and does not name them.
    Inside,
    /// Changes objects, perhaps of other buckets, and does not name them.
    Anywhere,
    /// Not known here: something changed near the object.
    Unknown,
}

impl Effect {
    /// Says what it means for one bucket and each key that the record may name. Without a key, the bucket.
    pub(crate) fn say(self, objects: &mut Objects, bucket: &[u8], keys: &[impl AsRef<[u8]>]) {
        match (self, keys) {
            (Self::Nothing, _) => (),
            (Self::Bucket(op), _) => objects.bucket(op, bucket),
            (Self::Anywhere, _) => objects.rescan_bucket(b""),
            (Self::Inside, _) | (Self::Names(_) | Self::Directory(_) | Self::Unknown, []) => {
                objects.rescan_bucket(bucket)
            }
            (Self::Names(op), keys) => keys.iter().for_each(|key| objects.name(op, bucket, key.as_ref())),
            (Self::Directory(op), keys) => keys.iter().for_each(|key| {
                let key = key.as_ref();
                objects.name(op, bucket, key.strip_suffix(b"/").unwrap_or(key));
            }),
            (Self::Unknown, keys) => keys.iter().for_each(|key| objects.rescan_parent(bucket, key.as_ref())),
        }
    }

    /// The same for a request that named a version: what is there now may be an older one.
    pub(crate) fn of_version(self) -> Self {
        match self {
            Self::Names(_) => Self::Names(Op::Rescan),
            other => other,
        }
    }
}

/// Whether an HTTP status proves that a request changed nothing. One that broke off (5xx, and 499 where the client
/// went away) may have changed what it names.
pub(crate) fn is_refusal(status: u16) -> bool {
    (300..500).contains(&status) && status != 499
}

/// Three digits.
pub(crate) fn status(text: &[u8]) -> Option<u16> {
    let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = text else { return None };
    Some(u16::from(*a - b'0') * 100 + u16::from(*b - b'0') * 10 + u16::from(*c - b'0'))
}

/// Removes what several readings of one record repeat. There are few.
pub(crate) fn remove_doubles(out: &mut Vec<Entry>, start: usize) {
    let mut at = start;
    while at < out.len() {
        if out[start..at].contains(&out[at]) {
            out.remove(at);
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_no_proves_that_nothing_changed() {
        let refusals = [304, 308, 400, 403, 404, 412, 498];
        let others = [100, 200, 204, 206, 299, 499, 500, 503];
        assert!(refusals.into_iter().all(is_refusal) && !others.into_iter().any(is_refusal));
    }

    #[test]
    fn a_status_has_three_digits() {
        assert_eq!(status(b"204"), Some(204));
        for text in ["", "20", "2044", "2x4", "-", "904", "000"] {
            assert_eq!(status(text.as_bytes()), None, "{text}");
        }
    }
}
