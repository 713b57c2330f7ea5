//! Turns the ids of a log into paths, as far as the log itself told what they are called. Which ids a log has, and
//! what a record says of them, is its dialect's own.
//!
//! Dialects spell such paths in a way of their own, which no path of a log can have, since it begins with no slash:
//!
//! | spelling | what it says |
//! |---|---|
//! | `id:ID` | whatever has this id, under all its names |
//! | `id:PARENT/NAME` | this name in the directory with the id `PARENT` |
//! | `id:PARENT/NAME␀=ID` | the same; it is, or was, a name of `ID`, which was just made if it is new |
//! | `id:PARENT/NAME␀+ID` | the same; `ID` may have other names, too |
//! | `id:PARENT/NAME␀=ID␀/PATH` | the same, where the log gives the path as well |
//! | `id:?` | the log cannot tell what changed, nor which ids are still called what they were |
//!
//! `␀` is a byte zero, which no name holds.

use crate::change::{Entry, Op};
use crate::dialect::Resolve;
use memchr::memchr;
use std::collections::HashMap;

/// How many ids are kept; beyond them everything is forgotten, and what comes next is scanned for.
const IDS_MAX: usize = if cfg!(test) { 1 << 10 } else { 1 << 18 };
/// How many names of one id are kept; beyond them it is one whose names are not known.
const NAMES_MAX: usize = 64;
/// Bytes of a path; Linux opens none that is longer, and a chain of directories that goes in circles has no end.
const PATH_MAX: usize = 4096;

/// The spelling of what cannot be told.
pub(crate) const UNKNOWN: &[u8] = b"id:?";

/// What an id is taught by a record that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taught {
    /// Made under this name, or one that is known got it.
    Only,
    /// It may have others.
    OneMore,
}

/// Spells whatever has this id.
pub(crate) fn thing(id: &[u8]) -> Vec<u8> {
    [b"id:", id].concat()
}

/// Spells a name in a directory, and whose it is. `path` is empty where the log gives none.
pub(crate) fn name(parent: &[u8], name: &[u8], taught: Taught, id: &[u8], path: &[u8]) -> Vec<u8> {
    let mark: &[u8] = if taught == Taught::Only { b"\0=" } else { b"\0+" };
    let path = if path.is_empty() { Vec::new() } else { [b"\0", path].concat() };
    [b"id:", parent, b"/", name, mark, id, &path].concat()
}

/// What the log has told so far.
pub(crate) struct Ids {
    root: &'static [u8],
    known: HashMap<Vec<u8>, Known>,
}

/// The names of one id, the last one last.
#[derive(Default)]
struct Known {
    names: Vec<Name>,
    /// It has no others.
    is_all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    parent: Vec<u8>,
    name: Vec<u8>,
}

/// A path in the spelling above.
enum Spelled<'a> {
    Path,
    Thing(&'a [u8]),
    Name { name: Name, id: Option<(Taught, &'a [u8])>, path: Option<&'a [u8]> },
    Unknown,
}

impl<'a> Spelled<'a> {
    fn of(path: &'a [u8]) -> Self {
        let Some(spelled) = path.strip_prefix(b"id:") else { return Self::Path };
        if path == UNKNOWN {
            return Self::Unknown;
        }
        let Some(slash) = memchr(b'/', spelled) else { return Self::Thing(spelled) };
        let mut parts = spelled[slash + 1..].splitn(3, |byte| *byte == 0);
        let name = Name { parent: spelled[..slash].to_vec(), name: parts.next().unwrap_or_default().to_vec() };
        let id = parts.next().and_then(|part| match part.split_first()? {
            (b'=', id) => Some((Taught::Only, id)),
            (_, id) => Some((Taught::OneMore, id)),
        });
        Self::Name { name, id, path: parts.next() }
    }
}

impl Resolve for Ids {
    fn resolve(&mut self, entry: Entry, out: &mut Vec<Entry>) {
        let paths = match (Spelled::of(&entry.path), entry.to.as_deref().map(Spelled::of)) {
            (Spelled::Path, None | Some(Spelled::Path)) => return out.push(entry),
            (Spelled::Name { name, id, path }, Some(Spelled::Name { name: new, path: to, .. })) => {
                let from = self.path_of(&name, path);
                self.move_name(&name, &new, id);
                let to = self.path_of(&new, to);
                from.zip(to).map(|(from, to)| vec![(from, Some(to))])
            }
            (Spelled::Name { name, id, path }, None) => {
                let path = self.path_of(&name, path);
                match entry.op {
                    Op::Delete => self.forget_name(&name, id),
                    _ => self.learn(&name, id),
                }
                path.map(|path| vec![(path, None)])
            }
            (Spelled::Thing(id), None) => {
                self.paths_of(id).map(|paths| paths.into_iter().map(|path| (path, None)).collect())
            }
            _ => {
                self.known.clear();
                None
            }
        };
        match paths {
            Some(paths) => {
                out.extend(paths.into_iter().map(|(path, to)| Entry { path, to, user: entry.user.clone(), ..entry }));
            }
            None => out.push(Entry { op: Op::Rescan, path: b"/".to_vec(), to: None, into: false, ..entry }),
        }
    }
}

impl Ids {
    /// `root` is the id of the directory that is `/`.
    pub(crate) fn new(root: &'static [u8]) -> Self {
        Self { root, known: HashMap::new() }
    }

    fn learn(&mut self, name: &Name, id: Option<(Taught, &[u8])>) {
        let Some((taught, id)) = id else { return };
        self.make_room();
        let is_new = !self.known.contains_key(id);
        let known = self.known.entry(id.to_vec()).or_default();
        known.is_all = if is_new { taught == Taught::Only } else { known.is_all && known.names.len() < NAMES_MAX };
        if known.names.len() < NAMES_MAX && !known.names.contains(name) {
            known.names.push(name.clone());
        }
    }

    /// What has no name left is only kept so that late records of it name nothing.
    fn make_room(&mut self) {
        if self.known.len() < IDS_MAX {
            return;
        }
        self.known.retain(|_, known| !known.names.is_empty());
        if self.known.len() > IDS_MAX / 2 {
            self.known.clear();
        }
    }

    /// What was not known before may have other names.
    fn move_name(&mut self, old: &Name, new: &Name, id: Option<(Taught, &[u8])>) {
        let Some((_, id)) = id else { return };
        if let Some(known) = self.known.get_mut(id) {
            known.names.retain(|name| name != old);
        }
        self.learn(new, Some((Taught::OneMore, id)));
    }

    fn forget_name(&mut self, name: &Name, id: Option<(Taught, &[u8])>) {
        let Some((_, id)) = id else { return };
        if let Some(known) = self.known.get_mut(id) {
            known.names.retain(|one| one != name);
            if known.names.is_empty() && !known.is_all {
                self.known.remove(id);
            }
        }
    }

    /// None if one of them is not known.
    fn paths_of(&self, id: &[u8]) -> Option<Vec<Vec<u8>>> {
        if id == self.root {
            return Some(vec![b"/".to_vec()]);
        }
        let known = self.known.get(id).filter(|known| known.is_all)?;
        known.names.iter().map(|name| self.path_of(name, None)).collect()
    }

    /// From the root, through the directories above; else what the log gave.
    fn path_of(&self, name: &Name, given: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut names = vec![&*name.name];
        let mut parent = &*name.parent;
        let mut length = name.name.len() + 1;
        while parent != self.root {
            let Some(above) = self.known.get(parent).and_then(|known| known.names.last()) else { break };
            length += above.name.len() + 1;
            if length > PATH_MAX {
                break;
            }
            names.push(&above.name);
            parent = &above.parent;
        }
        if parent != self.root || length > PATH_MAX {
            return given.map(<[u8]>::to_vec);
        }
        Some(names.iter().rev().flat_map(|name| [b"/", *name].concat()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDateTime;

    fn entry(op: Op, path: Vec<u8>, to: Option<Vec<u8>>) -> Entry {
        Entry { time: NaiveDateTime::default(), op, path, to, into: false, user: None }
    }

    fn one(op: Op, path: &str) -> Entry {
        entry(op, path.replace('␀', "\0").into_bytes(), None)
    }

    fn rename(path: &str, to: &str) -> Entry {
        entry(Op::Rename, path.replace('␀', "\0").into_bytes(), Some(to.replace('␀', "\0").into_bytes()))
    }

    fn resolved(entries: impl IntoIterator<Item = Entry>) -> Vec<String> {
        let mut ids = Ids::new(b"R");
        let mut out = Vec::new();
        entries.into_iter().for_each(|entry| ids.resolve(entry, &mut out));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = |entry: &Entry| match &entry.to {
            Some(to) => format!("{:?} {} -> {}", entry.op, text(&entry.path), text(to)),
            None => format!("{:?} {}", entry.op, text(&entry.path)),
        };
        out.iter().map(line).collect()
    }

    #[test]
    fn what_was_made_in_the_log_is_found_below_the_root() {
        let found = resolved([
            one(Op::Mkdir, "id:R/a␀=1"),
            one(Op::Write, "id:1/x␀=2"),
            one(Op::Write, "id:2"),
            one(Op::Attr, "id:R"),
        ]);
        assert_eq!(found, ["Mkdir /a", "Write /a/x", "Write /a/x", "Attr /"]);
    }

    #[test]
    fn a_renamed_directory_takes_along_what_is_below_it() {
        let found = resolved([
            one(Op::Mkdir, "id:R/a␀=1"),
            one(Op::Write, "id:1/x␀=2"),
            rename("id:R/a␀=1", "id:R/b␀=1"),
            one(Op::Write, "id:2"),
        ]);
        assert_eq!(found[2..], ["Rename /a -> /b", "Write /b/x"]);
    }

    #[test]
    fn a_file_with_two_names_is_named_by_both() {
        let found = resolved([
            one(Op::Write, "id:R/a␀=1"),
            one(Op::Write, "id:R/b␀+1"),
            one(Op::Write, "id:1"),
            one(Op::Delete, "id:R/a␀=1"),
            one(Op::Write, "id:1"),
        ]);
        assert_eq!(found[2..], ["Write /a", "Write /b", "Delete /a", "Write /b"]);
    }

    #[test]
    fn what_is_older_than_the_log_is_scanned_for() {
        let found = resolved([
            one(Op::Write, "id:1"),
            one(Op::Write, "id:1/x␀=2"),
            one(Op::Delete, "id:1/x␀=2␀/d/x"),
            rename("id:R/old␀=3", "id:R/new␀=3"),
            one(Op::Write, "id:3/x␀=4"),
            one(Op::Attr, "id:3"),
            rename("id:1/x␀=2", "id:R/x␀=2"),
        ]);
        let all = "Rescan /";
        assert_eq!(found, [all, all, "Delete /d/x", "Rename /old -> /new", "Write /new/x", all, all]);
    }

    #[test]
    fn a_second_name_of_a_file_that_is_older_than_the_log_does_not_stand_for_the_first() {
        assert_eq!(resolved([one(Op::Write, "id:R/b␀+1"), one(Op::Write, "id:1")]), ["Write /b", "Rescan /"]);
    }

    #[test]
    fn a_file_whose_last_name_went_names_nothing() {
        let found = resolved([one(Op::Write, "id:R/a␀=1"), one(Op::Delete, "id:R/a␀=1"), one(Op::Write, "id:1")]);
        assert_eq!(found, ["Write /a", "Delete /a"]);
    }

    #[test]
    fn after_what_cannot_be_told_nothing_is_known() {
        let found = resolved([one(Op::Mkdir, "id:R/a␀=1"), one(Op::Rescan, "id:?"), one(Op::Write, "id:1")]);
        assert_eq!(found[1..], ["Rescan /", "Rescan /"]);
    }

    #[test]
    fn directories_in_a_circle_are_no_path() {
        let found = resolved([one(Op::Mkdir, "id:1/a␀=2"), one(Op::Mkdir, "id:2/b␀=1"), one(Op::Write, "id:1/x␀=3")]);
        assert_eq!(found, ["Rescan /"; 3]);
    }

    #[test]
    fn paths_of_the_log_stay_as_they_are_and_no_id_leaves() {
        let found =
            resolved([one(Op::Write, "/id:1"), rename("/a", "/b"), rename("id:1", "/b"), rename("/a", "id:1/x")]);
        assert_eq!(found, ["Write /id:1", "Rename /a -> /b", "Rescan /", "Rescan /"]);
    }

    #[test]
    fn more_names_than_are_kept_are_scanned_for() {
        let links = (0..NAMES_MAX).map(|number| one(Op::Write, &format!("id:R/b{number}␀+1")));
        let found = resolved([one(Op::Write, "id:R/a␀=1")].into_iter().chain(links).chain([one(Op::Write, "id:1")]));
        assert_eq!(found.last().map(String::as_str), Some("Rescan /"));
    }

    #[test]
    fn ids_that_have_no_name_left_are_the_first_to_be_forgotten() {
        let mut ids = Ids::new(b"R");
        let mut out = Vec::new();
        ids.resolve(one(Op::Write, "id:R/kept␀=kept"), &mut out);
        for number in 0..=IDS_MAX {
            ids.resolve(one(Op::Write, &format!("id:R/x␀=n{number}")), &mut out);
            ids.resolve(one(Op::Delete, &format!("id:R/x␀=n{number}")), &mut out);
        }
        assert!(ids.known.contains_key(b"kept".as_slice()) && ids.known.len() < IDS_MAX);
    }

    #[test]
    fn ids_beyond_the_limit_make_it_forget() {
        let mut ids = Ids::new(b"R");
        let mut out = Vec::new();
        for number in 0..=IDS_MAX {
            ids.resolve(one(Op::Write, &format!("id:R/x␀=n{number}")), &mut out);
        }
        assert_eq!(ids.known.len(), 1);
    }
}
