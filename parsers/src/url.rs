//! The spellings of keys in URLs, each undone once. Which field has which spelling, and how often, is the dialects' to know.

use memchr::memchr;
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Undoes `%20`. A `%` without two hexadecimal digits after it stays, and so does a `+`. Borrows where there is nothing to undo.
#[must_use]
pub fn percent(text: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(text).into()
}

/// Undoes `+` and `%20` as HTML forms and Go's `url.QueryEscape` write them.
#[must_use]
pub fn form(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'+', text).is_none() {
        return percent(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent(&spaced).into_owned())
}

/// What stands before the first `?`, and what after it: empty if there is none.
#[must_use]
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'?', target) {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    }
}

/// Whether a query has a parameter of this name, with or without a value. Names are not decoded.
#[must_use]
pub fn has_parameter(query: &[u8], name: &[u8]) -> bool {
    parameters(query).any(|(own, _)| own == name)
}

/// Whether a query has a parameter of this name, and never without a value.
#[must_use]
pub fn has_value(query: &[u8], name: &[u8]) -> bool {
    let mut values = parameters(query).filter(|(own, _)| *own == name).map(|(_, value)| value).peekable();
    values.peek().is_some() && values.all(|value| !value.is_empty())
}

/// The parameters of a query as they are written. Some logs write the query twice with another `?` between: it separates, too.
pub fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let parts = query.split(|byte| matches!(byte, b'&' | b'?')).filter(|part| !part.is_empty());
    parts.map(|part| match memchr(b'=', part) {
        Some(equals) => (&part[..equals], &part[equals + 1..]),
        None => (part, &b""[..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_is_undone_once() {
        assert_eq!(&*percent(b"a%2520b+c%ff%zz%4"), b"a%20b+c\xff%zz%4");
        assert_eq!(&*form(b"a%2520b+c%2Bd"), b"a%20b c+d");
        assert!(matches!(percent(b"plain/key"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_query_ends_the_key_and_may_be_written_twice() {
        let (path, query) = split_query(b"/data/k?append=&position=0?append=&position=0");
        assert_eq!(path, b"/data/k");
        assert!(has_parameter(query, b"append") && has_parameter(query, b"position"));
        assert!(!has_parameter(query, b"pos") && !has_parameter(b"", b""));
        assert!(has_value(query, b"position"));
        for other in [&b"append"[..], b"pos", b""] {
            assert!(!has_value(query, other));
        }
        assert!(!has_value(b"id=1&id=", b"id"), "which of them counts is the server's to choose");
    }
}
