//! What makes a removal right: an answer of the source for that very name. The calls that remove take an [`Evidence`], and
//! none is made anywhere else, so that no listing, error or guess can take its place.

use crate::moves::Aside;
use crate::store::{Meta, RESERVED};
use syncd_parsers::RelPath;

/// The source has not, at this path, what the destination has there.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    path: RelPath,
}

impl Evidence {
    /// The source was asked for the path, and has nothing there.
    pub(super) fn not_found(path: RelPath, answer: Option<&Meta>) -> Option<Self> {
        answer.is_none().then_some(Self { path })
    }

    /// The source was asked for the path, and has something there that cannot replace what stands in its way.
    pub(super) fn other_kind(path: RelPath, answer: &Meta, there: &Meta) -> Option<Self> {
        (answer.kind != there.kind).then_some(Self { path })
    }

    /// A move put it aside. The names that it had are settled with the move: nothing leads to it any more.
    pub(super) fn displaced(aside: &Aside) -> Option<Self> {
        let is_ours = aside.path.as_bytes().split(|byte| *byte == b'/').next() == Some(RESERVED.as_bytes());
        is_ours.then(|| Self { path: aside.path.clone() })
    }

    pub(super) fn path(&self) -> &RelPath {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("a path")
    }

    #[test]
    fn something_at_the_source_is_no_evidence() {
        let (file, dir) = (Meta::file(1), Meta::dir());
        assert!(Evidence::not_found(path("a"), Some(&file)).is_none());
        assert!(Evidence::other_kind(path("a"), &file, &Meta::file(2)).is_none());
        assert_eq!(Evidence::not_found(path("a"), None).expect("nothing is there").path(), &path("a"));
        assert_eq!(Evidence::other_kind(path("a"), &file, &dir).expect("a file is there").path(), &path("a"));
    }

    #[test]
    fn only_what_lies_aside_was_displaced() {
        let aside = |text: String| Aside { path: path(&text), was: None };
        assert!(Evidence::displaced(&aside("data/aside/1/a".to_owned())).is_none());
        assert!(Evidence::displaced(&aside(format!("{RESERVED}/aside/1/a"))).is_some());
    }
}
