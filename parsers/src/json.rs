//! The pieces that dialects of JSON records share: strings as bytes, statuses, and what can still be read
//! of a record that was cut off. What a field means is each dialect's own.

use crate::error::ParseError;
use memchr::{memchr, memmem};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Reads one record. Fields that the type does not name are skipped, not decoded.
///
/// # Errors
///
/// It is not one JSON object, or a field has another type: always malformed, since JSON escapes newlines.
pub fn read<'a, T: Deserialize<'a>>(record: &'a [u8], expected: &'static str) -> Result<T, ParseError> {
    serde_json::from_slice(record).map_err(|error| ParseError::malformed(column(record, &error), expected))
}

/// In bytes from the start of the record, which may have several lines.
fn column(record: &[u8], error: &serde_json::Error) -> usize {
    let mut newlines = memchr::memchr_iter(b'\n', record);
    let line = error.line().checked_sub(2).and_then(|before| newlines.nth(before)).map_or(0, |newline| newline + 1);
    (line + error.column().saturating_sub(1)).min(record.len())
}

/// A JSON string as bytes: a record may hold what is no UTF-8. Of an array its first string counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    #[must_use]
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.0
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn to_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, text: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text.as_bytes())))
    }

    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_vec())))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let first = values.next_element()?;
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.unwrap_or_default())
    }
}

/// An HTTP status, which some logs write as a number and some as a string; zero, if it is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(u64);

impl Status {
    /// Nothing was done: a redirection, or a refusal. A server that failed half way, and one whose client went away (499),
    /// may have done something.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self.0, 300..=498)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = Status;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an HTTP status")
    }

    fn visit_u64<E: de::Error>(self, status: u64) -> Result<Status, E> {
        Ok(Status(status))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Status, E> {
        Ok(Status::default())
    }

    fn visit_str<E: de::Error>(self, status: &str) -> Result<Status, E> {
        Ok(Status(status.parse().unwrap_or_default()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Status, E> {
        Ok(Status::default())
    }
}

/// The first string with this key in a record that cannot be read whole, wherever it stands. A string inside of another
/// cannot be meant: its quotes would be escaped.
#[must_use]
pub fn salvage<'a>(record: &'a [u8], key: &str) -> Option<Text<'a>> {
    let start = memmem::find(record, format!("\"{key}\":\"").as_bytes())? + key.len() + 3;
    let text = &record[start..];
    let mut end = 1;
    loop {
        end += memchr(b'"', &text[end..])?;
        let backslashes = text[..end].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return serde_json::from_slice(&text[..=end]).ok();
        }
        end += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_need_not_be_utf8_and_may_stand_in_an_array() {
        let cases: [(&[u8], &[u8]); 5] = [
            (br#""a\n\"b""#, b"a\n\"b"),
            (br#""\ud83d\ude00""#, "😀".as_bytes()),
            (b"\"\xff\"", b"\xff"),
            (br#"["x","y",{}]"#, b"x"),
            (b"[]", b""),
        ];
        for (json, text) in cases {
            assert_eq!(read::<Text>(json, "a string").expect("reads").as_bytes(), text, "{json:?}");
        }
    }

    #[test]
    fn refusals_are_told_from_what_may_have_happened() {
        let is_refusal = |json: &str| read::<Status>(json.as_bytes(), "a status").expect("reads").is_refusal();
        assert!(["404", "\"403\"", "304"].into_iter().all(is_refusal));
        assert!(!["200", "\"204\"", "499", "500", "\"-\"", "null", "-1", "0"].into_iter().any(is_refusal));
    }

    #[test]
    fn an_error_names_its_place_in_records_of_several_lines() {
        let error = read::<Vec<Text>>(b"[\n\"a\",\n  x]", "strings").expect_err("not JSON");
        assert_eq!((error.column, error.expected), (9, "strings"));
    }

    #[test]
    fn a_cut_record_still_gives_its_whole_strings() {
        let record = br#"{"api":{"bucket":"b","object":"a\"\\","requestPath":"/b/a"#;
        assert_eq!(salvage(record, "object").expect("is whole").as_bytes(), b"a\"\\");
        assert_eq!(salvage(record, "requestPath"), None);
        assert_eq!(salvage(record, "key"), None);
    }
}
