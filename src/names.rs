//! `Names`: the changes of a window as a tree of paths to settle, and its renames as hints. Pure: no order,
//! no I/O, no clock.
//!
//! Adding a change is idempotent and commutes with adding any other, so a window may be read in any order,
//! doubled, and cut anywhere.

use crate::store::RESERVED;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use syncd_parsers::{Change, Op, RelPath};

/// How far below a name to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The path alone.
    Plain,
    /// The path with everything below it.
    Deep,
}

/// The log line that gave a name, kept so that a plan can explain itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    pub time: DateTime<Utc>,
    pub log: Arc<str>,
    pub offset: u64,
    pub op: Op,
    pub user: Option<Arc<str>>,
}

/// How many renames, and how many removals, are remembered. Lines overtake each other by milliseconds, so it takes only to be
/// more than happens in some seconds.
const LATELY_MAX: usize = 1_024;

/// A rename line, as a reason to look for a move. Decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hint {
    pub from: RelPath,
    pub to: RelPath,
    /// `to` may be a directory that `from` went into.
    pub into: bool,
}

/// A path in the tree of names. A node without a name of its own is the ancestor of one, which is looked at
/// like a plain name, since ancestors are made without lines of their own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Node {
    deep: bool,
    written: Written,
    line: Option<Arc<Line>>,
    children: BTreeMap<Box<[u8]>, Node>,
}

/// Whether content was written at a path, so that the file may be open, or have changed, under another name too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    #[default]
    No,
    /// And it was seen under this name since, so that only what is renamed from now on takes it elsewhere.
    Seen,
    /// A line says so: renames that were read before may have taken it elsewhere already.
    Said,
}

impl Hint {
    /// Not after any hint that begins at `path` or below it.
    #[must_use]
    pub fn first_from(path: &RelPath) -> Self {
        Self { from: path.clone(), to: RelPath::root(), into: false }
    }

    /// What a line says of a move, if it says so.
    fn of(change: &Change) -> Option<Self> {
        let to = change.to.as_ref()?;
        let theirs = !(is_reserved(to) || is_reserved(&change.path));
        theirs.then(|| Self { from: change.path.clone(), to: to.clone(), into: change.into })
    }
}

/// What was read and done a moment ago, for lines that were overtaken by others where a window was cut. The oldest is
/// forgotten first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    hints: VecDeque<Hint>,
    #[serde(default)]
    removed: VecDeque<RelPath>,
    #[serde(default)]
    left: VecDeque<RelPath>,
}

/// In which way a path of the destination has lost what the source had there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It is being removed: it may be what a rename took away whose line is still to come.
    Removed,
    /// The destination may not have what the source had there: it was owed, or was written and gone before a line said so.
    Left,
}

impl Lately {
    /// A line was read: where a rename led is where a writer writes whose own line is still to come.
    pub fn read(&mut self, change: &Change) {
        if let Some(hint) = Hint::of(change) {
            push(&mut self.hints, hint);
        }
    }

    pub fn lose(&mut self, path: &RelPath, how: Gone) {
        let ring = if how == Gone::Removed { &mut self.removed } else { &mut self.left };
        push(ring, path.clone());
    }

    /// Oldest first.
    pub fn lost(&self, how: Gone) -> impl Iterator<Item = &RelPath> {
        if how == Gone::Removed { self.removed.iter() } else { self.left.iter() }
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T) {
    if ring.len() >= LATELY_MAX {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// What to look at.
#[derive(Debug, Default)]
pub struct Names {
    root: Node,
    hints: BTreeSet<Hint>,
    nodes: usize,
    texts: HashSet<Arc<str>>,
    lately: Lately,
    /// See [`Names::of_keys`].
    each_key: bool,
    owed: BTreeSet<RelPath>,
}

impl Names {
    /// For a flat source, where each key stands for itself and a listing may hide it: each name is kept though one above it is
    /// deep.
    #[must_use]
    pub fn of_keys() -> Self {
        Self { each_key: true, ..Self::default() }
    }

    /// What was gathered; names of the same kind are gathered on.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let each_key = self.each_key;
        std::mem::replace(self, Self { each_key, ..Self::default() })
    }

    #[must_use]
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Self {
        let mut names = Self::default();
        changes.into_iter().for_each(|change| names.add(change));
        names
    }

    /// Adds what one change names: a rename both its ends, a delete its path, a rescan its path, each with
    /// everything below; anything else its path alone.
    pub fn add(&mut self, change: &Change) {
        let line = self.line_of(change);
        let reach = match change.op {
            Op::Write | Op::Mkdir | Op::Attr => Reach::Plain,
            Op::Rename | Op::Delete | Op::Rescan => Reach::Deep,
        };
        let written = if change.op == Op::Write { Written::Said } else { Written::No };
        self.insert(&change.path, reach, written, Some(line.clone()));
        if let Some(to) = &change.to {
            self.insert(to, Reach::Deep, Written::No, Some(line));
            self.hints.extend(Hint::of(change));
        }
    }

    /// Names a path that no line of this window gave: what is owed from before.
    pub fn add_deep(&mut self, path: &RelPath) {
        self.owed.insert(path.clone());
        self.insert(path, Reach::Deep, Written::No, None);
    }

    /// Names a file whose content may change, or has changed, without a further line.
    pub fn add_written(&mut self, path: &RelPath, written: Written) {
        self.insert(path, Reach::Plain, written, None);
    }

    /// Takes along what was read and done before. It names nothing.
    pub fn remember(&mut self, lately: Lately) {
        self.lately = lately;
    }

    /// What was added by [`Names::add_deep`].
    #[must_use]
    pub fn owed(&self) -> &BTreeSet<RelPath> {
        &self.owed
    }

    #[must_use]
    pub fn lately(&self) -> &Lately {
        &self.lately
    }

    /// [`Names::hints`], and those that were read before, newest first, each once.
    #[must_use]
    pub fn known_hints(&self) -> Vec<&Hint> {
        let mut seen: HashSet<&Hint> = self.hints.iter().collect();
        let before = self.lately.hints.iter().rev().filter(|hint| seen.insert(hint)).collect::<Vec<_>>();
        self.hints.iter().chain(before).collect()
    }

    /// Gives each path in `written`, which are [`Names::written`], its other names too: a file that was being written when it, or a directory
    /// above it, was renamed is still being written under the new name, and no line will say so. Returns these names, each with
    /// the path.
    pub fn follow_written(
        &mut self,
        written: &BTreeMap<RelPath, Written>,
        others: impl Fn(&RelPath, Written) -> Vec<RelPath>,
    ) -> BTreeSet<(RelPath, RelPath)> {
        let others = |(path, how): (&RelPath, &Written)| {
            others(path, *how).into_iter().map(|name| (name, path.clone())).collect::<Vec<_>>()
        };
        let names: BTreeSet<(RelPath, RelPath)> = written.iter().flat_map(others).collect();
        names.iter().for_each(|(name, _)| self.add_written(name, Written::Seen));
        names
    }

    /// The files to which something was written.
    #[must_use]
    pub fn written(&self) -> BTreeMap<RelPath, Written> {
        self.root.written_below(&RelPath::root())
    }

    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// In a fixed order; a hint stands here once however many lines gave it.
    #[must_use]
    pub fn hints(&self) -> &BTreeSet<Hint> {
        &self.hints
    }

    /// Nodes and hints: what the memory budget of a part is counted in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes + self.hints.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root == Node::default()
    }

    fn insert(&mut self, path: &RelPath, reach: Reach, written: Written, line: Option<Arc<Line>>) {
        if is_reserved(path) {
            return;
        }
        let mark = Mark { reach, written, line, each_key: self.each_key };
        let added = self.root.insert(path.components(), &mark);
        self.nodes = self.nodes.saturating_add_signed(added);
    }

    fn line_of(&mut self, change: &Change) -> Arc<Line> {
        Arc::new(Line {
            time: change.time,
            log: self.text(&change.log),
            offset: change.offset,
            op: change.op,
            user: change.user.as_deref().map(|user| self.text(user)),
        })
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}

/// What syncd keeps for itself at a destination is no part of what is kept in step, whatever a line says.
fn is_reserved(path: &RelPath) -> bool {
    path.components().next() == Some(RESERVED.as_bytes())
}

struct Mark {
    reach: Reach,
    written: Written,
    line: Option<Arc<Line>>,
    each_key: bool,
}

impl Node {
    #[must_use]
    pub fn is_deep(&self) -> bool {
        self.deep
    }

    /// True unless this is here only for what is named below it.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.deep || self.is_written() || self.line.is_some()
    }

    /// A line said that content was written here: size and time may still be those from before.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.written != Written::No
    }

    /// The last line that named this very path.
    #[must_use]
    pub fn line(&self) -> Option<&Arc<Line>> {
        self.line.as_ref()
    }

    /// The node of a path, if the tree holds one.
    #[must_use]
    pub fn find(&self, path: &RelPath) -> Option<&Node> {
        path.components().try_fold(self, |node, name| node.children.get(name))
    }

    /// The named paths directly below, in the order of their names.
    pub fn children(&self) -> impl ExactSizeIterator<Item = (&[u8], &Node)> {
        self.children.iter().map(|(name, node)| (&**name, node))
    }

    /// The files at and below this node, which stands at `path`, to which something was written.
    #[must_use]
    pub fn written_below(&self, path: &RelPath) -> BTreeMap<RelPath, Written> {
        let mut written = BTreeMap::new();
        self.visit(path, &mut |path, node| {
            if node.is_written() {
                written.insert(path.clone(), node.written);
            }
        });
        written
    }

    /// Calls `see` for this node, which stands at `path`, and for all below it, in the order of a walk.
    pub fn visit(&self, path: &RelPath, see: &mut impl FnMut(&RelPath, &Node)) {
        let mut ahead = vec![(path.clone(), self)];
        while let Some((path, node)) = ahead.pop() {
            see(&path, node);
            let below = |name: &[u8]| path.join(name).expect("a name in the tree was a component of a path");
            ahead.extend(node.children.iter().rev().map(|(name, node)| (below(name), node)));
        }
    }

    /// Returns by how many nodes the tree grew; deep names swallow what stood below them, so it may shrink.
    fn insert<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>, mark: &Mark) -> isize {
        let (mut node, mut added) = (self, 0);
        for name in names {
            if node.deep && mark.written == Written::No && !mark.each_key {
                return added; // part of the deep name; `written` is the one thing that it does not say
            }
            node = match node.children.entry(name.into()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    added += 1;
                    place.insert(Node::default())
                }
            };
        }
        added + node.mark(mark)
    }

    fn mark(&mut self, mark: &Mark) -> isize {
        self.written = self.written.max(mark.written);
        if mark.line > self.line {
            self.line.clone_from(&mark.line);
        }
        if mark.reach == Reach::Plain || self.deep {
            return 0;
        }
        self.deep = true;
        if mark.each_key || self.children.is_empty() {
            return 0;
        }
        let before = self.count();
        self.keep_written();
        self.count() - before
    }

    /// Strips what a deep name makes redundant below it.
    fn keep_written(&mut self) {
        let written = self.written_below(&RelPath::root());
        drop(std::mem::take(&mut self.children));
        for (path, written) in written.into_iter().filter(|(path, _)| !path.is_root()) {
            self.insert(path.components(), &Mark { reach: Reach::Plain, written, line: None, each_key: false });
        }
    }

    fn count(&self) -> isize {
        let (mut count, mut ahead) = (0, vec![self]);
        while let Some(node) = ahead.pop() {
            ahead.extend(node.children.values());
            count += 1;
        }
        count - 1
    }
}

/// Nothing here calls itself, least of all the dropping: a log may name a path of thousands of levels.
impl Drop for Node {
    fn drop(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let mut ahead = vec![std::mem::take(&mut self.children)];
        while let Some(mut children) = ahead.pop() {
            let below = children.values_mut().map(|node| std::mem::take(&mut node.children));
            ahead.extend(below.filter(|children| !children.is_empty()));
        }
    }
}

/// One line a name, sorted: `deep`, `plain` or (for ancestors) nothing, with `written`; then the hints. For tests and people.
impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = Vec::new();
        self.root.visit(&RelPath::root(), &mut |path, node| {
            if node.is_named() {
                let reach = if node.deep { "deep" } else { "plain" };
                lines.push(format!("{reach} {path}{}", if node.is_written() { " written" } else { "" }));
            }
        });
        for Hint { from, to, into } in &self.hints {
            lines.push(format!("hint {from} -> {to}{}", if *into { " or into it" } else { "" }));
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str, offset: u64) -> Change {
        let words: Vec<&str> = text.split_whitespace().collect();
        let op = match words[0] {
            "write" => Op::Write,
            "mkdir" => Op::Mkdir,
            "rename" | "into" => Op::Rename,
            "delete" => Op::Delete,
            "attr" => Op::Attr,
            other => panic!("no operation {other}"),
        };
        let path = |text: &str| RelPath::new(text).expect("a path");
        Change {
            time: DateTime::UNIX_EPOCH,
            op,
            path: path(words[1]),
            to: words.get(2).map(|to| path(to)),
            into: words[0] == "into",
            user: None,
            log: "log".into(),
            offset,
        }
    }

    fn names(changes: &str) -> Names {
        let changes: Vec<Change> =
            changes.lines().enumerate().map(|(at, line)| change(line.trim(), at as u64)).collect();
        Names::of(&changes)
    }

    fn check(changes: &str, expected: &str) {
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(names(changes).to_string(), expected.join("\n"));
        let backwards: Vec<&str> = changes.lines().rev().chain(changes.lines()).collect();
        assert_eq!(names(&backwards.join("\n")).to_string(), expected.join("\n"), "backwards and doubled");
    }

    #[test]
    fn a_file_written_then_moved_with_its_directory_is_looked_at_under_both_names() {
        check(
            "write a/x
             rename a b",
            "deep a
             plain a/x written
             deep b
             hint a -> b",
        );
    }

    #[test]
    fn a_deep_name_swallows_what_is_below_it() {
        check(
            "mkdir a/x
             attr a/x/y
             delete a
             mkdir a",
            "deep a",
        );
    }

    #[test]
    fn a_rename_that_may_go_into_a_directory_says_so() {
        check(
            "into a b",
            "deep a
             deep b
             hint a -> b or into it",
        );
    }

    #[test]
    fn no_line_names_what_syncd_keeps_for_itself() {
        check(
            "write .syncd/tmp/x
             rename .syncd a
             rename a .syncd/b
             write b/.syncd",
            "deep a
             plain b/.syncd written",
        );
    }

    #[test]
    fn the_last_line_explains_a_name_in_whatever_order_lines_come() {
        for order in ["attr a\nmkdir a", "mkdir a\nattr a"] {
            let names = names(order);
            assert_eq!(
                names.root().find(&RelPath::new("a").expect("a path")).and_then(Node::line).map(|line| line.offset),
                Some(1)
            );
        }
    }

    #[test]
    fn the_count_of_nodes_follows_what_is_kept() {
        let mut names = names("mkdir a/b/c\nmkdir a/b/d");
        assert_eq!(names.len(), 4);
        names.add(&change("delete a", 9));
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn a_rename_that_was_read_before_leads_on_and_is_no_reason_for_a_move() {
        let mut lately = Lately::default();
        lately.read(&change("rename a b", 0));
        lately.read(&change("rename a .syncd/x", 1));
        let mut names = names("write a/x");
        names.remember(lately);
        assert_eq!(names.hints().len(), 0);
        let routes = crate::moves::Routes::of(names.known_hints());
        names.follow_written(&names.written(), |path, _| routes.forward(path));
        assert_eq!(names.to_string(), "plain a/x written\nplain b/x written");
    }

    #[test]
    fn of_what_was_lost_the_oldest_is_forgotten_first() {
        let mut lately = Lately::default();
        let path = |number: usize| RelPath::new(number.to_string()).expect("a path");
        (0..=LATELY_MAX).for_each(|number| lately.lose(&path(number), Gone::Removed));
        lately.lose(&path(0), Gone::Left);
        assert_eq!(lately.lost(Gone::Removed).next(), Some(&path(1)));
        assert_eq!(lately.lost(Gone::Removed).count(), LATELY_MAX);
        assert_eq!(lately.lost(Gone::Left).collect::<Vec<_>>(), [&path(0)]);
    }

    #[test]
    fn a_written_file_is_followed_through_renames_above_it() {
        let mut names = names("write a/x\nrename a b\nrename b c/d");
        let routes = crate::moves::Routes::of(names.hints());
        names.follow_written(&names.written(), |path, _| routes.forward(path));
        let text = names.to_string();
        assert!(text.contains("plain b/x written") && text.contains("plain c/d/x written"), "{text}");
    }
}
