//! `RelPath`, the only path type past the edges: a place in a store, relative to its root, as bytes.
//! Knows nothing of file systems, URIs or log formats.

use memchr::memchr;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// A path below a root: components joined by `/`, none of them empty, `.` or `..`, and no NUL byte.
/// The empty path is the root itself. Bytes need not be UTF-8.
///
/// The order is that of a walk: an ancestor comes before what is below it, and everything below one
/// path stands together. (Comparing bytes alone would put `a-b` between `a` and `a/b`.)
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Why some bytes are not a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("an empty name between two slashes")]
    EmptyName,
    #[error("a name that is `.` or `..`")]
    DotName,
    #[error("a NUL byte")]
    Nul,
}

impl RelPath {
    /// The root of a store.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes `a/b/c`, with neither a leading nor a trailing slash; the empty string is the root.
    ///
    /// # Errors
    ///
    /// A component is empty, `.` or `..`, or there is a NUL byte.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            check_names(&bytes)?;
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The path of `name` below this one.
    ///
    /// # Errors
    ///
    /// As for [`RelPath::new`]; a name with a slash in it is taken as several.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_names(name)?;
        Ok(self.with(name))
    }

    /// The path below `to` that stands where this one stands below `from`; `None` if it is not
    /// `from` or below it.
    #[must_use]
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.below(from)?;
        Some(if rest.is_empty() { to.clone() } else { to.with(rest) })
    }

    /// What remains of this path below `ancestor`: empty if they are equal, `None` if this path is elsewhere.
    #[must_use]
    pub fn below(&self, ancestor: &Self) -> Option<&[u8]> {
        if ancestor.is_root() {
            return Some(&self.0);
        }
        match self.0.strip_prefix(&*ancestor.0)? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// True if this path is `ancestor` or below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.below(ancestor).is_some()
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// The components from the top; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// This path and its ancestors, from itself up to and without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent).take_while(|path| !path.is_root())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, where it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    fn with(&self, rest: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + rest.len());
        bytes.extend_from_slice(&self.0);
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(rest);
        Self(bytes.into_boxed_slice())
    }
}

/// Of a path that is not empty.
fn check_names(bytes: &[u8]) -> Result<(), PathError> {
    let is_good = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if memchr(0, bytes).is_none() && bytes.split(|b| *b == b'/').all(is_good) {
        return Ok(());
    }
    bytes.split(|b| *b == b'/').try_for_each(check_name) // what is wrong first
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" => Err(PathError::EmptyName),
        b"." | b".." => Err(PathError::DotName),
        name if name.contains(&0) => Err(PathError::Nul),
        _ => Ok(()),
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let at = common_len(&self.0, &other.0);
        let rank = |path: &Self| path.0.get(at).map(|byte| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 });
        rank(self).cmp(&rank(other))
    }
}

/// How far two paths are the same: often far.
fn common_len(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 16;
    let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP));
    let start = STEP * steps.take_while(|(one, other)| one == other).count();
    start + one[start..].iter().zip(&other[start..]).take_while(|(one, other)| one == other).count()
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For people: control characters and broken UTF-8 are shown escaped, so that no name can forge a
/// line of output. The root is `.`.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write_escaped(f, &self.0) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { fmt::Write::write_char(f, c)? }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// A string where the path is UTF-8, else `{"hex": "…"}`.
impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.as_str() {
            return serializer.serialize_str(text);
        }
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("hex", &hex)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = RelPath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a relative path, as a string or as {\"hex\": \"…\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RelPath, E> {
        RelPath::new(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RelPath, A::Error> {
        let Some(("hex", hex)) = map.next_entry::<&str, String>()? else {
            return Err(de::Error::custom("expected the one key `hex`"));
        };
        let bytes =
            (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        let bytes: Option<Vec<u8>> = bytes.collect();
        RelPath::new(bytes.ok_or_else(|| de::Error::custom("not a hexadecimal string"))?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect(text)
    }

    #[test]
    fn only_proper_components_make_a_path() {
        for good in ["", "a", "a/b", "a b/ü", "...", "a/..b"] {
            assert!(RelPath::new(good).is_ok(), "{good:?}");
        }
        for bad in ["/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_pair_is_ordered_as_a_walk_meets_them() {
        let walk = ["", "a", "a/b", "a/b/c", "a/c", "a!", "a-b", "a-b/x", "ab", "b", "ü"];
        for above in ["", "sixteen bytes ab/", "fifteen bytes a/", "a name of some more bytes than thirty-two/"] {
            let path = |name: &str| path(format!("{above}{name}").trim_end_matches('/'));
            for (i, left) in walk.iter().enumerate() {
                for (j, right) in walk.iter().enumerate() {
                    assert_eq!(path(left).cmp(&path(right)), i.cmp(&j), "{left:?} and {right:?} below {above:?}");
                }
            }
        }
    }

    #[test]
    fn below_and_rebase_respect_component_borders() {
        assert_eq!(path("a/b/c").below(&path("a")), Some(&b"b/c"[..]));
        assert_eq!(path("a").below(&path("a")), Some(&b""[..]));
        assert_eq!(path("ab").below(&path("a")), None);
        assert_eq!(path("a/b").rebase(&path("a"), &path("x/y")), Some(path("x/y/b")));
        assert_eq!(path("a/b").rebase(&path("a"), &RelPath::root()), Some(path("b")));
        assert_eq!(path("a").rebase(&RelPath::root(), &path("x")), Some(path("x/a")));
    }

    #[test]
    fn json_keeps_names_that_are_not_utf8() {
        let odd = RelPath::new(vec![b'a', b'/', 0xff, b'\n']).expect("valid bytes");
        let json = serde_json::to_string(&odd).expect("serialises");
        assert_eq!(json, r#"{"hex":"612fff0a"}"#);
        assert_eq!(serde_json::from_str::<RelPath>(&json).expect("reads back"), odd);
        assert_eq!(serde_json::from_str::<RelPath>("\"a/b\"").expect("reads back"), path("a/b"));
        assert!(serde_json::from_str::<RelPath>("\"../x\"").is_err());
    }

    #[test]
    fn what_people_see_cannot_forge_a_line() {
        assert_eq!(path("a\nb").to_string(), "a\\nb");
        assert_eq!(RelPath::new(vec![0xff]).expect("valid").to_string(), "\\xff");
    }
}
