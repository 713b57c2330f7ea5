//! Paths to keys and back, and the two spellings of keys on the wire. Pure; knows no server.

use syncd_parsers::RelPath;
use syncd_parsers::path::PathError;

/// S3's limit, for the whole key with its prefix.
const KEY_BYTES: usize = 1024;

/// The keys of a store: its prefix, empty or ending in a slash.
#[derive(Debug, Clone)]
pub(super) struct Keys(String);

/// Why no key can stand for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("S3 keys are UTF-8, this name is not")]
    NotUtf8,
    #[error("the key would have {0} bytes, S3 allows 1024")]
    TooLong(usize),
    #[error("the root is not an object")]
    Root,
    #[error("the prefix is not a path: {0}")]
    Prefix(#[from] PathError),
}

impl Keys {
    /// Below `prefix`, with or without slashes at its ends.
    pub(super) fn new(prefix: &str) -> Result<Self, KeyError> {
        let prefix = prefix.trim_matches('/');
        RelPath::new(prefix)?;
        Ok(Self(if prefix.is_empty() { String::new() } else { format!("{prefix}/") }))
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0
    }

    /// The key of the object at `path`.
    pub(super) fn file(&self, path: &RelPath) -> Result<String, KeyError> {
        if path.is_root() {
            return Err(KeyError::Root);
        }
        let name = path.as_str().ok_or(KeyError::NotUtf8)?;
        checked(format!("{}{name}", self.0))
    }

    /// What the keys below `path` begin with, which is also the key of its marker; empty for the root of a whole bucket.
    pub(super) fn dir(&self, path: &RelPath) -> Result<String, KeyError> {
        if path.is_root() { Ok(self.0.clone()) } else { checked(self.file(path)? + "/") }
    }
}

fn checked(key: String) -> Result<String, KeyError> {
    if key.len() > KEY_BYTES { Err(KeyError::TooLong(key.len())) } else { Ok(key) }
}

/// The value of `x-amz-copy-source`, which the SDK sends as it is.
pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    percent_encode(format!("{bucket}/{key}").as_bytes(), keep)
}

/// Each byte that `keep` refuses as `%XX`.
pub(super) fn percent_encode(bytes: &[u8], keep: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if keep(*byte) { text.push(char::from(*byte)) } else { text.push_str(&format!("%{byte:02X}")) }
    }
    text
}

/// Undoes `%XX`; what is no such triple stays as it is.
pub(super) fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = triple(rest).unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn triple(text: &[u8]) -> Option<(u8, &[u8])> {
    let (b'%', [high, low, after @ ..]) = text.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, after))
}

/// A key of a listing that was asked for with `encoding-type=url`: like a form, a space is a plus.
pub(super) fn decode_listed(text: &str) -> Vec<u8> {
    percent_decode(&text.replace('+', " "))
}

/// True if the key can stand in an XML request (a batch delete); control characters cannot, however they are escaped.
pub(super) fn fits_xml(key: &str) -> bool {
    key.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect(text)
    }

    #[test]
    fn a_path_is_a_key_below_the_prefix() {
        for (prefix, file, dir) in [("", "a/b", "a/b/"), ("p", "p/a/b", "p/a/b/"), ("/p/q/", "p/q/a/b", "p/q/a/b/")] {
            let keys = Keys::new(prefix).expect(prefix);
            assert_eq!(keys.file(&path("a/b")).as_deref(), Ok(file));
            assert_eq!(keys.dir(&path("a/b")).as_deref(), Ok(dir));
        }
    }

    #[test]
    fn the_root_is_a_prefix_and_no_object() {
        let keys = Keys::new("p").expect("a prefix");
        assert_eq!(keys.dir(&RelPath::root()).as_deref(), Ok("p/"));
        assert_eq!(keys.file(&RelPath::root()), Err(KeyError::Root));
        assert_eq!(Keys::new("").expect("no prefix").dir(&RelPath::root()).as_deref(), Ok(""));
    }

    #[test]
    fn names_that_no_key_can_spell_are_refused() {
        let keys = Keys::new("p").expect("a prefix");
        assert_eq!(keys.file(&RelPath::new(vec![0xff]).expect("a path")), Err(KeyError::NotUtf8));
        assert_eq!(keys.file(&path(&"x".repeat(1022))).map(|key| key.len()), Ok(1024));
        assert_eq!(keys.file(&path(&"x".repeat(1023))), Err(KeyError::TooLong(1025)));
        assert_eq!(keys.dir(&path(&"x".repeat(1022))), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn a_prefix_that_is_no_path_is_refused() {
        for prefix in ["a//b", "a/../b", "."] {
            assert!(Keys::new(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn a_copy_source_is_encoded_but_for_slashes() {
        assert_eq!(copy_source("b", "a b/ü+%\n"), "b/a%20b/%C3%BC%2B%25%0A");
    }

    #[test]
    fn listed_keys_are_decoded_once() {
        assert_eq!(decode_listed("a+b%2Bc/%E6%97%A5%0A%2525"), "a b+c/日\n%25".as_bytes());
        assert_eq!(percent_decode("100%/%zz/%4"), b"100%/%zz/%4");
    }

    #[test]
    fn control_characters_do_not_fit_xml() {
        assert!(fits_xml("a b/\t\r\n日😀"));
        for key in ["\u{1}", "\u{1b}", "\u{fffe}"] {
            assert!(!fits_xml(key), "{key:?}");
        }
    }
}
