//! The audit root: which of the paths that a log names lie below it, and what a line means for the
//! tree there. Pure; knows no files, no time zones and no dialect.

use std::fmt;
use syncd_parsers::{Entry, Op, PathError, RelPath};

/// The directory that is kept in step, as the log spells it: `/data`, or `/` for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    root: RelPath,
    /// What lies below it and is not followed all the same.
    except: Option<RelPath>,
}

/// Where a path of the log lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At or below the audit root.
    Inside(RelPath),
    /// Above the audit root: what happens to it happens to the root as well.
    Above,
    Outside,
    /// No path of a tree.
    Odd(&'static str),
}

/// What a change does to the tree below the audit root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub op: Op,
    pub path: RelPath,
    pub to: Option<RelPath>,
    pub into: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scoped {
    Inside(Effect),
    Outside,
    /// A path that no store can hold as it is spelled, and why.
    Odd(&'static str),
}

/// An audit root that is no absolute path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit root {text:?}: {reason}; it is an absolute path as the audit log spells it, for example /data")]
pub struct ScopeError {
    pub text: String,
    pub reason: &'static str,
}

impl Scope {
    /// Takes an absolute path; slashes at its end or doubled ones do not matter.
    ///
    /// # Errors
    ///
    /// The path is not absolute, or has a component `.` or `..`.
    pub fn new(text: &str) -> Result<Self, ScopeError> {
        let root = normal(text.as_bytes()).map_err(|reason| ScopeError { text: text.to_owned(), reason })?;
        Ok(Self { root, except: None })
    }

    /// Leaves out what lies at or below one path of the tree: the log itself, which would else be news to itself for ever.
    #[must_use]
    pub fn without(self, path: RelPath) -> Self {
        Self { except: Some(path), ..self }
    }

    /// What `entry` means here. A rename across the border is the removal of what left, or a look at
    /// all of what came (it may be a tree); whatever happens to the audit root itself, or above it, is a
    /// look at everything.
    #[must_use]
    pub fn apply(&self, entry: &Entry) -> Scoped {
        let at = self.place(&entry.path);
        match (entry.op, &entry.to) {
            (Op::Rename, Some(to)) => match certain_target(entry, to) {
                Some(target) => rename(at, self.place(&target), false),
                None => rename(at, self.place(to), entry.into),
            },
            (Op::Delete | Op::Rename | Op::Rescan, _) => tree(entry.op, at),
            (Op::Write | Op::Mkdir | Op::Attr, _) => alone(entry.op, at),
        }
    }

    /// Where a path of the log lies.
    #[must_use]
    pub fn place(&self, raw: &[u8]) -> Place {
        match normal(raw) {
            Err(reason) => Place::Odd(reason),
            Ok(path) if self.root.is_root() => self.inside(path),
            Ok(path) => match path.rebase(&self.root, &RelPath::root()) {
                Some(path) => self.inside(path),
                None if self.root.is_within(&path) => Place::Above,
                None => Place::Outside,
            },
        }
    }

    /// Where a path of the tree lies.
    fn inside(&self, path: RelPath) -> Place {
        match &self.except {
            Some(except) if path.is_within(except) => Place::Outside,
            _ => Place::Inside(path),
        }
    }
}

/// The audit root as the log spells it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.root.is_root() { f.write_str("/") } else { write!(f, "/{}", self.root) }
    }
}

/// An end of a rename that no store can hold is as good as outside, as long as the other end is inside.
fn rename(from: Place, to: Place, into: bool) -> Scoped {
    match (from, to) {
        (Place::Above, _) | (_, Place::Above) => Scoped::Inside(look(RelPath::root())),
        (Place::Inside(path), _) if path.is_root() => Scoped::Inside(look(path)),
        (Place::Inside(path), Place::Inside(to)) => Scoped::Inside(Effect { op: Op::Rename, path, to: Some(to), into }),
        (Place::Inside(path), Place::Outside | Place::Odd(_)) => Scoped::Inside(one(Op::Delete, path)),
        (Place::Outside | Place::Odd(_), Place::Inside(to)) => Scoped::Inside(look(to)),
        (Place::Outside, Place::Outside) => Scoped::Outside,
        (Place::Odd(reason), _) | (_, Place::Odd(reason)) => Scoped::Odd(reason),
    }
}

/// Where a rename led if the line can mean only one thing: what lay below `to` went into it, since `to`
/// was there and was a directory.
fn certain_target(entry: &Entry, to: &[u8]) -> Option<Vec<u8>> {
    if !entry.into {
        return None;
    }
    let (path, to) = (normal(&entry.path).ok()?, normal(to).ok()?);
    if path == to || !path.is_within(&to) {
        return None;
    }
    let target = to.join(path.name()).ok()?;
    Some([b"/", target.as_bytes()].concat())
}

fn tree(op: Op, at: Place) -> Scoped {
    match at {
        Place::Inside(path) if path.is_root() => Scoped::Inside(look(path)),
        Place::Inside(path) => Scoped::Inside(one(if op == Op::Rename { Op::Rescan } else { op }, path)),
        Place::Above => Scoped::Inside(look(RelPath::root())),
        Place::Outside => Scoped::Outside,
        Place::Odd(reason) => Scoped::Odd(reason),
    }
}

fn alone(op: Op, at: Place) -> Scoped {
    match at {
        Place::Inside(path) => Scoped::Inside(one(op, path)),
        Place::Above | Place::Outside => Scoped::Outside,
        Place::Odd(reason) => Scoped::Odd(reason),
    }
}

fn look(path: RelPath) -> Effect {
    one(Op::Rescan, path)
}

fn one(op: Op, path: RelPath) -> Effect {
    Effect { op, path, to: None, into: false }
}

/// An absolute path without the slashes that mean nothing.
fn normal(raw: &[u8]) -> Result<RelPath, &'static str> {
    let [b'/', rest @ ..] = raw else { return Err("not an absolute path") };
    let path = match RelPath::new(rest) {
        Err(PathError::EmptyName) => RelPath::new(without_empty_names(rest)),
        path => path,
    };
    path.map_err(|error| match error {
        PathError::EmptyName => "a path with an empty name",
        PathError::DotName => "a path with a name that is `.` or `..`",
        PathError::Nul => "a path with a NUL byte",
    })
}

fn without_empty_names(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|name| !name.is_empty()).collect();
    names.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDateTime;

    /// `OP PATH [TO]`, where `into` stands for a rename that may lead into its target.
    fn entry(line: &str) -> Entry {
        let words: Vec<&str> = line.split(' ').collect();
        let op = match words[0] {
            "write" => Op::Write,
            "mkdir" => Op::Mkdir,
            "rename" | "into" => Op::Rename,
            "delete" => Op::Delete,
            "attr" => Op::Attr,
            "rescan" => Op::Rescan,
            other => panic!("no operation {other}"),
        };
        let to = words.get(2).map(|to| to.as_bytes().to_vec());
        let path = words[1].as_bytes().to_vec();
        Entry { time: NaiveDateTime::default(), op, path, to, into: words[0] == "into", user: None }
    }

    fn show(scoped: &Scoped) -> String {
        match scoped {
            Scoped::Outside => "outside".to_owned(),
            Scoped::Odd(reason) => format!("odd: {reason}"),
            Scoped::Inside(effect) => {
                let op = serde_json::to_value(effect.op).expect("serialises");
                let to = effect.to.as_ref().map_or(String::new(), |to| format!(" {to}"));
                let into = if effect.into { " into" } else { "" };
                format!("{} {}{to}{into}", op.as_str().expect("a word"), effect.path)
            }
        }
    }

    fn check(root: &str, table: &[(&str, &str)]) {
        let scope = Scope::new(root).expect("a root");
        for (line, expected) in table {
            assert_eq!(show(&scope.apply(&entry(line))), *expected, "{line} below {root}");
        }
    }

    #[test]
    fn what_is_left_out_is_outside_and_what_holds_it_is_not() {
        let scope = Scope::new("/bucket").expect("a root").without(RelPath::new("logs").expect("a path"));
        for (path, inside) in
            [("/bucket/logs", false), ("/bucket/logs/x", false), ("/bucket/logs2", true), ("/bucket", true)]
        {
            assert_eq!(matches!(scope.place(path.as_bytes()), Place::Inside(_)), inside, "{path}");
        }
    }

    #[test]
    fn only_what_lies_below_the_root_counts() {
        check(
            "/data",
            &[
                ("write /data/a/b", "write a/b"),
                ("write /data//a/", "write a"),
                ("write /data2/a", "outside"),
                ("write /dat", "outside"),
                ("write /data", "write ."),
                ("attr /data", "attr ."),
                ("attr /", "outside"),
                ("mkdir /", "outside"),
                ("delete /data/a", "delete a"),
                ("rescan /data/a", "rescan a"),
                ("delete /x", "outside"),
            ],
        );
    }

    #[test]
    fn a_rename_across_the_border_is_a_delete_or_a_look_at_what_came() {
        check(
            "/data",
            &[
                ("rename /data/a /data/b", "rename a b"),
                ("into /data/a /data/b", "rename a b into"),
                ("rename /data/a /trash/a", "delete a"),
                ("rename /tmp/t /data/t", "rescan t"),
                ("into /tmp/t /data/t", "rescan t"),
                ("rename /tmp/a /tmp/b", "outside"),
                ("rename /data/a", "rescan a"),
            ],
        );
    }

    #[test]
    fn what_happens_to_the_root_or_above_it_concerns_everything() {
        check(
            "/a/b",
            &[
                ("rename /a /x", "rescan ."),
                ("rename /x /a", "rescan ."),
                ("rename /x /a/b", "rescan ."),
                ("into /x /a/b", "rescan ."),
                ("into /x /a", "rescan ."),
                ("rename /a/b /a/c", "rescan ."),
                ("delete /a", "rescan ."),
                ("delete /a/b", "rescan ."),
                ("rescan /", "rescan ."),
            ],
        );
    }

    #[test]
    fn a_rename_into_a_directory_above_it_can_only_lead_below_that_directory() {
        check(
            "/a/b",
            &[
                ("into /a/tmp/x /a", "outside"),
                ("into /a/tmp/b /a", "rescan ."),
                ("into /a/b/d/x /a/b", "rename d/x x"),
                ("into /a/b/d/x /a", "delete d/x"),
                ("into /a/b/d/e/x /a/b/d", "rename d/e/x d/x"),
            ],
        );
    }

    #[test]
    fn the_root_of_everything_has_nothing_outside() {
        check("/", &[("write /a", "write a"), ("rename /a /b", "rename a b"), ("delete /", "rescan .")]);
    }

    #[test]
    fn a_path_that_is_none_is_odd() {
        check(
            "/data",
            &[
                ("write data/a", "odd: not an absolute path"),
                ("write /data/../x", "odd: a path with a name that is `.` or `..`"),
                ("rename /data/a /data/./b", "delete a"),
                ("rename a /data/b", "rescan b"),
                ("rename /a/.. /b", "odd: a path with a name that is `.` or `..`"),
            ],
        );
    }

    #[test]
    fn a_root_is_shown_as_the_log_spells_it() {
        for (text, shown) in [("/data/", "/data"), ("//a//b", "/a/b"), ("/", "/")] {
            assert_eq!(Scope::new(text).expect(text).to_string(), shown);
        }
        assert!(Scope::new("data").is_err());
        assert!(Scope::new("").is_err());
    }
}
