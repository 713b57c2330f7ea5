//! Listings: pages of keys, and pages of one directory's names merged into entries. Whether what a
//! listing lacks is gone is not decided here.

use super::super::{ErrorKind, Kind, Listed, Meta, Named, Odd, RESERVED, StoreError};
use super::S3;
use super::attrs::bare_tag;
use super::error::failure;
use super::keys::decode_listed;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::collections::VecDeque;
use syncd_parsers::RelPath;

/// What a page of a listing holds, in the order of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// The whole key, or the prefix that keys have in common, which ends in a slash.
    pub(super) key: Vec<u8>,
    /// `None` for a common prefix.
    pub(super) object: Option<Object>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) len: u64,
    pub(super) tag: Option<String>,
    /// `None` for the standard one.
    pub(super) class: Option<String>,
}

/// One page, and the token of the next if there is one.
pub(super) struct Page {
    pub(super) found: Vec<Found>,
    pub(super) next: Option<String>,
}

/// Which keys a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Up to the next slash, what is beyond as one prefix.
    Names,
    /// All, however deep.
    All,
}

const PAGE: i32 = 1000;
const STANDARD: &str = "STANDARD";

impl S3 {
    /// The first key that begins with `prefix`: the marker itself, if there is one.
    pub(super) async fn first_below(
        &self,
        op: &'static str,
        path: &RelPath,
        prefix: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(1);
        let answer = request.encoding_type(EncodingType::Url).send().await.map_err(|e| failure(op, path, e))?;
        Ok(found(&answer).into_iter().map(|found| found.key).next())
    }

    /// One page of the keys that begin with `prefix`.
    pub(super) async fn page(
        &self,
        (op, path): (&'static str, &RelPath),
        prefix: &str,
        depth: Depth,
        token: Option<String>,
    ) -> Result<Page, StoreError> {
        let delimiter = (depth == Depth::Names).then(|| "/".to_owned());
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(PAGE);
        let request = request.set_delimiter(delimiter).set_continuation_token(token);
        let answer = request.encoding_type(EncodingType::Url).send().await.map_err(|e| failure(op, path, e))?;
        let next = answer.next_continuation_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if answer.is_truncated() == Some(true) && next.is_none() {
            return Err(StoreError::new(op, path, ErrorKind::Other).because("a listing stopped in the middle"));
        }
        Ok(Page { found: found(&answer), next: next.filter(|_| answer.is_truncated() == Some(true)) })
    }

    pub(super) fn list_dir<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        let lister = Lister { s3: self, dir: dir.clone(), state: State::Begin, merge: Merge::default(), any: false };
        let step = |mut lister: Lister<'a>| async move { Ok(lister.next().await?.map(|listed| (listed, lister))) };
        stream::try_unfold(lister, step).boxed()
    }
}

/// The objects and prefixes of an answer. Keys are encoded only if the answer says so: not all servers do as they are asked.
fn found(answer: &ListObjectsV2Output) -> Vec<Found> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let spelled = |key: &str| if encoded { decode_listed(key) } else { key.as_bytes().to_vec() };
    let objects = answer.contents().iter().filter_map(|object| {
        let len = object.size().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
        let tag = object.e_tag().map(bare_tag);
        let class = object.storage_class().map(|class| class.as_str().to_owned()).filter(|class| class != STANDARD);
        Some(Found { key: spelled(object.key()?), object: Some(Object { len, tag, class }) })
    });
    let prefixes = answer.common_prefixes().iter();
    let prefixes = prefixes.filter_map(|common| Some(Found { key: spelled(common.prefix()?), object: None }));
    let mut found: Vec<Found> = objects.chain(prefixes).collect();
    found.sort();
    found
}

/// The listing of one directory, page by page.
struct Lister<'a> {
    s3: &'a S3,
    dir: RelPath,
    state: State,
    merge: Merge,
    /// Some key was seen below the directory, be it the marker: the directory is there.
    any: bool,
}

enum State {
    Begin,
    After(String),
    End,
}

impl Lister<'_> {
    async fn next(&mut self) -> Result<Option<Listed>, StoreError> {
        loop {
            if let Some(listed) = self.merge.ready.pop_front() {
                return Ok(Some(listed));
            }
            let token = match std::mem::replace(&mut self.state, State::End) {
                State::Begin => None,
                State::After(token) => Some(token),
                State::End => return Ok(None),
            };
            self.read_page(token).await?;
        }
    }

    async fn read_page(&mut self, token: Option<String>) -> Result<(), StoreError> {
        let missing = || StoreError::new("list", &self.dir, ErrorKind::NotFound);
        let prefix = self.s3.keys.dir(&self.dir).map_err(|cause| missing().because(cause))?;
        let page = self.s3.page(("list", &self.dir), &prefix, Depth::Names, token).await?;
        self.any |= !page.found.is_empty();
        for found in page.found {
            let Some(name) = found.key.strip_prefix(prefix.as_bytes()) else { continue };
            if !(self.dir.is_root() && is_reserved(name)) {
                self.merge.take(name, found.object);
            }
        }
        match page.next {
            Some(token) => self.state = State::After(token),
            None if !self.any && !self.dir.is_root() => return Err(missing()),
            None => self.merge.finish(),
        }
        Ok(())
    }
}

fn is_reserved(name: &[u8]) -> bool {
    name.strip_suffix(b"/").unwrap_or(name) == RESERVED.as_bytes()
}

/// Turns the names of a directory into entries, each once, though `a` and `a/` may stand far apart
/// (`a-b` comes between). An object waits until no prefix of its name can follow. Names arrive in the
/// order of their bytes, so those that wait begin each with the one before: no more than a key has bytes.
/// (A server that lists in another order shows a name that is both as two entries.)
#[derive(Default)]
struct Merge {
    waiting: Vec<(Vec<u8>, Object)>,
    ready: VecDeque<Listed>,
}

impl Merge {
    /// `name` is relative to the directory; empty for its own marker.
    fn take(&mut self, name: &[u8], object: Option<Object>) {
        while let Some(sure) = self.waiting.pop_if(|(waiting, _)| with_slash(waiting).as_slice() < name) {
            self.ready.push_back(entry(sure));
        }
        match object {
            Some(object) if name.is_empty() => self.ready.extend(odd_marker(&object)),
            Some(object) => match reason_against(name) {
                Some(reason) => self.ready.push_back(odd(name, &reason)),
                None => self.waiting.push((name.to_vec(), object)),
            },
            None => self.take_prefix(name),
        }
    }

    fn take_prefix(&mut self, prefix: &[u8]) {
        let name = prefix.strip_suffix(b"/").unwrap_or(prefix);
        let both = self.waiting.pop_if(|(waiting, _)| waiting == name).is_some();
        self.ready.push_back(match reason_against(name) {
            Some(reason) => odd(prefix, &reason),
            None if both => odd(name, "both an object and a prefix"),
            None => {
                let meta = Meta { complete: false, ..Meta::dir() };
                Listed::Entry(Named { name: name.to_vec(), meta })
            }
        });
    }

    fn finish(&mut self) {
        self.ready.extend(self.waiting.drain(..).map(entry));
    }
}

fn with_slash(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

fn entry((name, object): (Vec<u8>, Object)) -> Listed {
    let meta = Meta { kind: Kind::File, tag: object.tag, complete: false, ..Meta::file(object.len) };
    Listed::Entry(Named { name, meta })
}

/// A directory's marker is empty; one that holds bytes is somebody's file under a name that no path has.
fn odd_marker(object: &Object) -> Option<Listed> {
    (object.len > 0).then(|| odd(b"", "an object that holds bytes and whose key ends in a slash"))
}

/// Why no path can end in this name.
fn reason_against(name: &[u8]) -> Option<String> {
    if std::str::from_utf8(name).is_err() {
        return Some("a key that is not UTF-8".to_owned());
    }
    RelPath::root().join(name).err().map(|error| error.to_string())
}

fn odd(name: &[u8], reason: &str) -> Listed {
    Listed::Odd(Odd { name: name.to_vec(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists names (a prefix ends in a slash), and shows files as `a`, directories as `a/`, the odd as `a: reason`.
    fn listed(names: &[&str]) -> Vec<String> {
        let mut merge = Merge::default();
        for name in names {
            let object = (!name.ends_with('/')).then_some(Object { len: 1, tag: None, class: None });
            merge.take(name.as_bytes(), object);
        }
        merge.finish();
        merge.ready.into_iter().map(shown).collect()
    }

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names = listed(names);
        names.sort();
        names
    }

    fn shown(listed: Listed) -> String {
        let text = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
        match listed {
            Listed::Entry(entry) if entry.meta.is_dir() => text(entry.name) + "/",
            Listed::Entry(entry) => text(entry.name),
            Listed::Odd(odd) => format!("{}: {}", text(odd.name), odd.reason),
        }
    }

    #[test]
    fn files_and_directories_come_each_once() {
        assert_eq!(sorted(&["a", "a-", "a.txt", "ab/", "b/", "c"]), ["a", "a-", "a.txt", "ab/", "b/", "c"]);
    }

    #[test]
    fn a_name_that_is_both_is_odd_once_however_far_apart() {
        let names = sorted(&["a", "a!", "a!-", "a!/", "a!x", "a-b", "a.txt", "a/", "a0", "b", "b/"]);
        let (files, odd): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| !name.contains("both"));
        assert_eq!(files, ["a!-", "a!x", "a-b", "a.txt", "a0"]);
        assert_eq!(odd, ["a!", "a", "b"].map(|name| format!("{name}: both an object and a prefix")));
    }

    #[test]
    fn keys_that_are_no_paths_are_odd_with_the_reason() {
        let names = listed(&["/", ".", "./", "..", "../"]);
        let dots = "a name that is `.` or `..`";
        let expected = ["/: an empty name between two slashes".to_owned()];
        let expected = expected.into_iter().chain([".", "./", "..", "../"].map(|name| format!("{name}: {dots}")));
        assert_eq!(names, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_marker_is_the_directory_itself_and_a_full_one_is_odd() {
        let mut merge = Merge::default();
        merge.take(b"", Some(Object { len: 0, tag: None, class: None }));
        assert!(merge.ready.is_empty());
        merge.take(b"", Some(Object { len: 1, tag: None, class: None }));
        assert!(matches!(merge.ready.pop_front(), Some(Listed::Odd(_))));
    }

    #[test]
    fn few_names_wait_in_a_large_directory() {
        let mut merge = Merge::default();
        for nr in 0..10_000 {
            merge.take(format!("f{nr:05}").as_bytes(), Some(Object { len: 1, tag: None, class: None }));
            assert!(merge.waiting.len() <= 1);
        }
        assert_eq!(merge.ready.len(), 9_999);
    }
}
