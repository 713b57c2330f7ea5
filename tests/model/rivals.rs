//! What others do, and what syncd would be without a part of its idea, as small as it can be: each has to fail on a share of the
//! histories on which syncd does not, or these histories prove nothing. And names as the design has them, as small, which may not.

use crate::deed::{Deed, Kind, Order, Step};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};
use syncd::store::mem::Memory;
use syncd_parsers::{Change, Op, RelPath};

/// A file's bytes, or none for a directory.
type Tree = BTreeMap<RelPath, Option<Vec<u8>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Each line done at the destination in the order of the lines; content is read then.
    ByTheBook,
    /// A window's renames first, in order and trusted, then a look at each path that its lines name.
    TrustedMoves,
    /// Names, but a rename and a delete do not name what is below.
    NoDeepNames,
    /// Names, but not what is above them.
    NoParents,
    /// The reference: names as they are meant.
    Names,
}

/// Without forged lines, and without writers whose close leaves none: no rival claims to bear these.
pub fn is_fair(deed: &Deed) -> bool {
    !matches!(deed, Deed::Forge(..) | Deed::Create(_) | Deed::Open(_) | Deed::Close(_))
}

/// Whether the history ends with both sides equal. Nothing happens while a window is applied.
pub fn ends_equal(rival: Rival, before: &[Deed], steps: &[Step]) -> bool {
    let mut source = Source::new(Kind::Hdfs);
    before.iter().for_each(|deed| source.act(&Step::plain(deed.clone())));
    source.forget_lines();
    let mut destination = snapshot(&source.store);
    for step in steps {
        source.act(step);
        if step.cut.is_some() {
            apply(rival, source.window(false, Order::AsWritten), &snapshot(&source.store), &mut destination);
        }
    }
    for _ in 0..2 {
        apply(rival, source.window(true, Order::AsWritten), &snapshot(&source.store), &mut destination);
    }
    destination == snapshot(&source.store)
}

fn snapshot(store: &Memory) -> Tree {
    let all = store.snapshot().into_iter();
    all.map(|(path, (meta, bytes))| (path, (!meta.is_dir()).then(|| bytes.to_vec()))).collect()
}

/// Lines come as they were written, which only some need.
fn apply(rival: Rival, lines: Vec<Change>, source: &Tree, destination: &mut Tree) {
    match rival {
        Rival::ByTheBook => lines.iter().for_each(|line| by_the_book(line, source, destination)),
        Rival::TrustedMoves => {
            lines.iter().filter(|line| line.op == Op::Rename).for_each(|line| by_the_book(line, source, destination));
            let named = lines.iter().flat_map(|line| [Some(line.path.clone()), line.to.clone()]).flatten();
            named.for_each(|path| settle(&path, false, source, destination));
        }
        Rival::NoDeepNames | Rival::NoParents | Rival::Names => {
            for (path, deep) in names(&lines, rival != Rival::NoParents) {
                settle(&path, deep && rival != Rival::NoDeepNames, source, destination);
            }
        }
    }
}

fn by_the_book(line: &Change, source: &Tree, destination: &mut Tree) {
    match (line.op, &line.to) {
        (Op::Rename, Some(to)) => rename(&line.path, to, destination),
        (Op::Delete, _) => remove(&line.path, destination),
        (Op::Rescan, _) => settle(&line.path, true, source, destination),
        _ => settle(&line.path, false, source, destination),
    }
}

fn rename(from: &RelPath, to: &RelPath, tree: &mut Tree) {
    if to.is_within(from) || !tree.contains_key(from) {
        return;
    }
    let moved: Tree = tree.iter().filter_map(|(path, node)| Some((path.rebase(from, to)?, node.clone()))).collect();
    remove(from, tree);
    remove(to, tree);
    tree.extend(moved);
}

fn remove(path: &RelPath, tree: &mut Tree) {
    tree.retain(|other, _| !other.is_within(path));
}

/// Each path once, deep if any line says so; ancestors first.
fn names(lines: &[Change], with_parents: bool) -> BTreeMap<RelPath, bool> {
    let mut names = BTreeMap::new();
    for line in lines {
        let deep = matches!(line.op, Op::Rename | Op::Delete | Op::Rescan);
        for path in [Some(&line.path), line.to.as_ref()].into_iter().flatten() {
            *names.entry(path.clone()).or_default() |= deep;
            let above = path.ancestors().skip(1).filter(|_| with_parents);
            above.for_each(|up| _ = names.entry(up).or_insert(false));
        }
    }
    names
}

/// What `settle` is, without moves, times and costs: the source's answer at one path, or at it and everything below.
fn settle(path: &RelPath, deep: bool, source: &Tree, destination: &mut Tree) {
    let below = |tree: &Tree| -> BTreeSet<RelPath> { tree.keys().filter(|at| at.is_within(path)).cloned().collect() };
    if deep {
        (&below(destination) - &below(source)).iter().for_each(|gone| drop(destination.remove(gone)));
        below(source).iter().for_each(|there| settle(there, false, source, destination));
        return;
    }
    match source.get(path) {
        None => remove(path, destination),
        Some(node) => {
            if node.is_some() || destination.get(path).is_some_and(Option::is_some) {
                remove(path, destination);
            }
            destination.insert(path.clone(), node.clone());
        }
    }
}
