//! Which renames are worth doing at the destination too, by what both stores show. Moves save bytes and decide
//! nothing: both ends of every hint are deep names of the same window, so whatever happens here is looked at
//! again below both before the checkpoint moves.

use crate::names::Hint;
use crate::store::{Capabilities, ErrorKind, Kind, Listed, Meta, RESERVED, Store, StoreError, Time};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use syncd_parsers::RelPath;
use tracing::debug;

/// How many other names a path is followed to through a window's renames.
const ROUTES_MAX: usize = 32;
/// How many ends of a part's renames are tried at all.
const ENDS_MAX: usize = 200_000;
/// Look-ups under way at one time.
const LOOKS_AT_ONCE: usize = 64;
/// How many entries of a directory are compared before it is taken for the one that was renamed.
const SAMPLE_MAX: usize = 16;
/// How many directories are listed for that.
const SAMPLE_DIRS_MAX: usize = 8;
/// How many (size, time) pairs are remembered below renamed names; beyond it every file there counts as having a twin.
const TWINS_MAX: usize = 4_000_000;

/// Renames as roads between paths, in both directions, the newest first.
#[derive(Debug, Default)]
pub struct Routes {
    forward: Roads,
    backward: Roads,
}

type Roads = BTreeMap<RelPath, Vec<RelPath>>;

impl Routes {
    /// Of renames that are given newest first, where that is known.
    #[must_use]
    pub fn of<'a>(hints: impl IntoIterator<Item = &'a Hint>) -> Self {
        let mut routes = Self::default();
        for hint in hints {
            for to in targets(hint) {
                routes.forward.entry(hint.from.clone()).or_default().push(to.clone());
                routes.backward.entry(to).or_default().push(hint.from.clone());
            }
        }
        routes
    }

    /// Where the thing at `path` may have gone, nearest first, of those the newest, at most 32; not `path` itself.
    #[must_use]
    pub fn forward(&self, path: &RelPath) -> Vec<RelPath> {
        follow(&self.forward, &self.forward, path)
    }

    /// The same for a thing that is known to have been at `path` before any rename but those of `since`, which are among these.
    #[must_use]
    pub fn forward_since(&self, since: &Self, path: &RelPath) -> Vec<RelPath> {
        follow(&since.forward, &self.forward, path)
    }

    /// Where the thing at `path` may have come from, as [`Routes::forward`].
    #[must_use]
    pub fn backward(&self, path: &RelPath) -> Vec<RelPath> {
        follow(&self.backward, &self.backward, path)
    }

    /// Every path that a rename, or several, may have led to; ancestors first.
    fn ends(&self) -> BTreeSet<RelPath> {
        let direct = self.backward.keys();
        direct.clone().cloned().chain(direct.flat_map(|to| self.forward(to))).take(ENDS_MAX).collect()
    }
}

/// Both readings of a target that may have been a directory.
fn targets(hint: &Hint) -> Vec<RelPath> {
    let mut targets = vec![hint.to.clone()];
    if hint.into && !hint.from.is_root() {
        targets.extend(hint.to.join(hint.from.name()));
    }
    targets
}

/// `first`: the roads from `start` itself.
fn follow(first: &Roads, roads: &Roads, start: &RelPath) -> Vec<RelPath> {
    let mut found: Vec<RelPath> = Vec::new();
    if first.is_empty() {
        return found;
    }
    let mut next = 0;
    let (mut at, mut roads_here) = (start.clone(), first);
    loop {
        for ancestor in at.ancestors() {
            for to in roads_here.get(&ancestor).into_iter().flatten() {
                let Some(path) = at.rebase(&ancestor, to) else { continue };
                if path != *start && !found.contains(&path) {
                    found.push(path);
                }
                if found.len() == ROUTES_MAX {
                    return found;
                }
            }
        }
        match found.get(next) {
            Some(path) => (at, roads_here) = (path.clone(), roads),
            None => return found,
        }
        next += 1;
    }
}

/// A rename that was done at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub from: RelPath,
    pub to: RelPath,
}

/// Something a move displaced: it waits below [`RESERVED`], since another move may want it, and goes with the deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// A numbered directory that holds it under the name that it had.
    pub path: RelPath,
    /// Where it was; `None` where a run that ended early left it.
    pub was: Option<RelPath>,
}

impl Aside {
    /// Of its directory; 0 where that is none of ours.
    #[must_use]
    pub fn number(&self) -> u64 {
        std::str::from_utf8(self.path.name()).ok().and_then(|name| name.parse().ok()).unwrap_or(0)
    }
}

/// What earlier runs that ended early put aside, as far as it can be listed.
pub async fn left_aside(destination: &dyn Store) -> Vec<Aside> {
    let root = aside_root();
    let mut listing = destination.list(&root);
    let mut left = Vec::new();
    while let Some(Ok(listed)) = listing.next().await {
        if let Listed::Entry(entry) = listed {
            left.extend(root.join(&entry.name).map(|path| Aside { path, was: None }));
        }
    }
    left
}

/// What was moved.
#[derive(Debug, Default)]
pub struct Moved {
    pub moves: Vec<Move>,
    pub aside: Vec<Aside>,
}

/// Where displaced things wait.
#[must_use]
pub fn aside_root() -> RelPath {
    RelPath::new(format!("{RESERVED}/aside")).expect("a constant path")
}

/// Does every move that `hints` make worth doing. A failed look or rename leaves that move undone: the settling
/// that follows copies what a move would have saved. What has to be put aside is numbered from `aside_from` on.
pub async fn perform(source: &dyn Store, destination: &dyn Store, hints: &BTreeSet<Hint>, aside_from: u64) -> Moved {
    let routes = Routes::of(hints);
    let mut mover = Mover {
        source: Looks::at(source),
        destination: Looks::at(destination),
        moved: Moved::default(),
        places: BTreeMap::new(),
        renames: 0,
        next_aside: aside_from,
    };
    for end in mover.promising(&routes).await {
        match mover.fill(&end, &routes.backward(&end)).await {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Unavailable => break,
            Err(error) => debug!(path = %end, %error, "no move here"),
        }
    }
    mover.moved
}

struct Mover<'a> {
    source: Looks<'a>,
    destination: Looks<'a>,
    moved: Moved,
    /// Every rename done so far, displacements too, by its old name, numbered in order: from here one knows where a
    /// thing is now.
    places: BTreeMap<RelPath, Vec<(usize, RelPath)>>,
    renames: usize,
    next_aside: u64,
}

impl Mover<'_> {
    /// Ends at which the source has something, ancestors first. Most routes lead nowhere, so this is looked at first, and
    /// everything that the moves then ask for is looked at together.
    async fn promising(&mut self, routes: &Routes) -> BTreeSet<RelPath> {
        let mut ends = routes.ends();
        self.source.learn(&ends).await;
        ends.retain(|end| !end.is_root() && self.source.known.get(end).is_some_and(Option::is_some));
        let befores: BTreeSet<RelPath> = ends.iter().flat_map(|end| routes.backward(end)).collect();
        self.destination.learn(ends.union(&befores)).await;
        ends
    }

    /// Brings to `end` what the destination holds under one of the names that the source's thing there had before.
    async fn fill(&mut self, end: &RelPath, befores: &[RelPath]) -> Result<(), StoreError> {
        let mut held = Vec::new();
        for before in befores {
            let place = self.place_of(before);
            if let Some(meta) = self.destination.look(&place).await? {
                held.push((place, meta));
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        let Some(wanted) = self.source.look(end).await? else { return Ok(()) };
        let occupant = self.destination.look(end).await?;
        if let Some(occupant) = &occupant
            && self.alike(end, &wanted, end, occupant).await?
        {
            return Ok(());
        }
        for (place, meta) in held {
            if place != *end
                && !place.is_root()
                && self.alike(end, &wanted, &place, &meta).await?
                && self.is_free(&place, &meta).await?
            {
                return self.rename(&place, end, occupant.is_some()).await;
            }
        }
        Ok(())
    }

    /// True if the source has at `place` nothing that looks like what the destination holds there.
    async fn is_free(&mut self, place: &RelPath, held: &Meta) -> Result<bool, StoreError> {
        if place.is_within(&aside_root()) {
            return Ok(true);
        }
        match self.source.look(place).await? {
            None => Ok(true),
            Some(there) => Ok(!self.alike(place, &there, place, held).await?),
        }
    }

    /// Whether `wanted` at the source looks like `held` at the destination.
    async fn alike(&self, path: &RelPath, wanted: &Meta, place: &RelPath, held: &Meta) -> Result<bool, StoreError> {
        let holds = self.destination.store.capabilities();
        match (wanted.kind, held.kind) {
            (Kind::File, Kind::File) => Ok(wanted.len > 0 && same_version(wanted, held, holds)),
            (Kind::Dir, Kind::Dir) => self.same_sample(path, place).await,
            _ => Ok(false),
        }
    }

    /// Files tell, however far down; directories of the same names only where no file is to be seen: two tables
    /// have the same partitions.
    async fn same_sample(&self, path: &RelPath, place: &RelPath) -> Result<bool, StoreError> {
        let (mut files, mut dirs) = (Sample::default(), Sample::default());
        let mut ahead = VecDeque::from([path.clone()]);
        for _ in 0..SAMPLE_DIRS_MAX {
            let Some(dir) = ahead.pop_front() else { break };
            let listed: Vec<_> = self.source.store.list(&dir).take(SAMPLE_MAX).collect().await;
            for listed in listed {
                let Listed::Entry(entry) = listed? else { continue };
                let Some((at, below)) = both_names(&dir, &entry.name, path, place) else { continue };
                if files.seen >= SAMPLE_MAX {
                    break;
                }
                let sample = if entry.meta.is_dir() { &mut dirs } else { &mut files };
                sample.add(self.is_held(&at, entry.meta.clone(), &below).await?);
                if entry.meta.is_dir() {
                    ahead.push_back(at);
                }
            }
        }
        Ok(if files.seen > 0 { files.is_same() } else { dirs.is_same() })
    }

    async fn is_held(&self, path: &RelPath, listed: Meta, below: &RelPath) -> Result<bool, StoreError> {
        let Some(held) = self.destination.store.lookup(below).await? else { return Ok(false) };
        let whole = if listed.complete { Some(listed) } else { self.source.store.lookup(path).await? };
        let holds = self.destination.store.capabilities();
        Ok(whole.is_some_and(|wanted| same_version(&wanted, &held, holds)))
    }

    /// Either may be the other's ancestor: then what has to go first is put aside with what is wanted in it.
    async fn rename(&mut self, from: &RelPath, to: &RelPath, occupied: bool) -> Result<(), StoreError> {
        let below_itself = to.is_within(from);
        let mut at = if below_itself { self.put_aside(from).await? } else { from.clone() };
        if !self.make_parents(to).await? {
            return Ok(());
        }
        if occupied && !below_itself {
            let aside = self.put_aside(to).await?;
            at = from.rebase(to, &aside).unwrap_or(at);
        }
        self.destination.store.rename(&at, to).await?;
        self.note(&at, to);
        self.moved.moves.push(Move { from: from.clone(), to: to.clone() });
        Ok(())
    }

    /// Returns where it is now.
    async fn put_aside(&mut self, path: &RelPath) -> Result<RelPath, StoreError> {
        let root = aside_root();
        let reserved = root.parent().expect("the root of what is set aside has a parent");
        let dir = root.join(self.next_aside.to_string().as_bytes()).expect("a number is a name");
        let aside = dir.join(path.name()).expect("the last name of a path is a name");
        for dir in [&reserved, &root, &dir] {
            self.destination.store.mkdir(dir, &Meta::dir()).await?;
        }
        self.next_aside += 1;
        self.moved.aside.push(Aside { path: dir, was: Some(path.clone()) });
        self.destination.store.rename(path, &aside).await?;
        self.note(path, &aside);
        Ok(aside)
    }

    /// Makes the missing directories above `path` as the source has them; false if that cannot be, because
    /// something else is in the way.
    async fn make_parents(&mut self, path: &RelPath) -> Result<bool, StoreError> {
        let mut ancestors: Vec<RelPath> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        for ancestor in ancestors {
            match self.destination.look(&ancestor).await? {
                Some(meta) if meta.is_dir() => {}
                Some(_) => return Ok(false),
                None => {
                    let Some(meta) = self.source.look(&ancestor).await?.filter(Meta::is_dir) else { return Ok(false) };
                    self.destination.store.mkdir(&ancestor, &crate::settle::writable(&meta)).await?;
                    self.destination.forget(&ancestor);
                }
            }
        }
        Ok(true)
    }

    fn note(&mut self, from: &RelPath, to: &RelPath) {
        self.destination.forget(from);
        self.destination.forget(to);
        self.places.entry(from.clone()).or_default().push((self.renames, to.clone()));
        self.renames += 1;
    }

    /// Where that is now which stood at `path` when the window began.
    fn place_of(&self, path: &RelPath) -> RelPath {
        let (mut at, mut since) = (path.clone(), 0);
        while let Some((number, from, to)) = self.next_rename(&at, since) {
            at = at.rebase(&from, to).unwrap_or(at);
            since = number + 1;
        }
        at
    }

    /// The first rename, from number `since` on, that took what stood at `path` somewhere else.
    fn next_rename(&self, path: &RelPath, since: usize) -> Option<(usize, RelPath, &RelPath)> {
        let of = |from: RelPath| {
            let all = self.places.get(&from).into_iter().flatten();
            all.filter(|(number, _)| *number >= since).map(move |(number, to)| (*number, from.clone(), to)).next()
        };
        path.ancestors().filter_map(of).min_by_key(|(number, ..)| *number)
    }
}

/// How many of a few entries are the same on both sides.
#[derive(Debug, Default)]
struct Sample {
    seen: usize,
    same: usize,
}

impl Sample {
    fn add(&mut self, same: bool) {
        self.seen += 1;
        self.same += usize::from(same);
    }

    fn is_same(&self) -> bool {
        self.same > 0 && self.same * 2 >= self.seen
    }
}

/// The paths of one entry below `path` and, as far down, below `place`.
fn both_names(dir: &RelPath, name: &[u8], path: &RelPath, place: &RelPath) -> Option<(RelPath, RelPath)> {
    let at = dir.join(name).ok()?;
    let below = at.rebase(path, place)?;
    Some((at, below))
}

/// Two files of one size and time, or two things of one kind.
fn same_version(source: &Meta, destination: &Meta, holds: &Capabilities) -> bool {
    source.kind == destination.kind
        && (source.kind != Kind::File
            || (source.len == destination.len
                && crate::settle::same_time(source.mtime, destination.mtime, holds) != Some(false)))
}

/// Look-ups of one store, remembered. What is below something absent is known without asking: not true of a flat store that
/// hides keys, but here the worst that comes of it is a copy.
struct Looks<'a> {
    store: &'a dyn Store,
    known: BTreeMap<RelPath, Option<Meta>>,
}

impl<'a> Looks<'a> {
    fn at(store: &'a dyn Store) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    async fn look(&mut self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        let mut ancestors: Vec<RelPath> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        for ancestor in ancestors {
            if !self.look_once(&ancestor).await?.is_some_and(|meta| meta.is_dir()) {
                return Ok(None);
            }
        }
        self.look_once(path).await
    }

    /// Looks at many paths, level by level from the top, many at a time. What could not be looked at stays unknown.
    async fn learn<'p>(&mut self, paths: impl IntoIterator<Item = &'p RelPath>) {
        let mut levels: BTreeMap<usize, BTreeSet<RelPath>> = BTreeMap::new();
        for path in paths.into_iter().flat_map(RelPath::ancestors) {
            levels.entry(path.components().count()).or_default().insert(path);
        }
        for level in levels.into_values() {
            let wanted: Vec<RelPath> = level.into_iter().filter(|path| self.is_worth_a_look(path)).collect();
            let store = self.store;
            let looks = stream::iter(wanted).map(|path| async move { (store.lookup(&path).await, path) });
            let looked: Vec<_> = looks.buffer_unordered(LOOKS_AT_ONCE).collect().await;
            self.known.extend(looked.into_iter().filter_map(|(meta, path)| Some((path, meta.ok()?))));
        }
    }

    fn is_worth_a_look(&self, path: &RelPath) -> bool {
        let is_dir = |path: &RelPath| self.known.get(path).is_some_and(|meta| meta.as_ref().is_some_and(Meta::is_dir));
        let below_dir = path.parent().is_none_or(|parent| parent.is_root() || is_dir(&parent));
        below_dir && !self.known.contains_key(path)
    }

    async fn look_once(&mut self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        let meta = self.store.lookup(path).await?;
        self.known.insert(path.clone(), meta.clone());
        Ok(meta)
    }

    fn forget(&mut self, path: &RelPath) {
        let below = self.known.range(path.clone()..).map(|(known, _)| known);
        let gone: Vec<RelPath> = below.take_while(|known| known.is_within(path)).cloned().collect();
        gone.iter().for_each(|path| drop(self.known.remove(path)));
    }
}

/// Files below renamed names, by size and time, to find *twins*: a rename, done here or only at the source, can leave
/// one twin where the other belongs, and size and time would call them equal.
///
/// A rename of a directory keeps the names of its files, so a file can only be taken for one of its own name,
/// unless its name is the end of a rename itself.
#[derive(Debug, Default)]
pub struct Twins {
    renamed_names: HashSet<Box<[u8]>>,
    /// At which path, if it was one.
    seen: HashMap<u64, Option<u64>>,
    /// Files were seen of which a listing does not tell the time: each may be the twin of any of its size.
    untimed: bool,
    overflow: bool,
}

impl Twins {
    /// Takes in the renames of a part.
    pub fn rename(&mut self, hints: &BTreeSet<Hint>) {
        let ends = |hint: &Hint| [Box::from(hint.from.name()), Box::from(hint.to.name())];
        let renamed = hints.iter().filter(|hint| hint.from.name() != hint.to.name());
        self.renamed_names.extend(renamed.flat_map(ends));
    }

    /// Counts what stands at a path: one file if both sides show the same size and time, else each. What stands at one path in
    /// several parts counts once.
    pub fn see(&mut self, path: &RelPath, source: Option<&Meta>, destination: Option<&Meta>, unit: i64) {
        let key =
            |meta: &Meta| (meta.kind == Kind::File && meta.len > 0).then_some((meta.len, whole(meta.mtime, unit)));
        let (one, other) = (source.and_then(key), destination.and_then(key));
        for version in [one, other.filter(|other| one != Some(*other))].into_iter().flatten() {
            self.untimed |= version.1.is_none();
            self.count(&version, path);
            self.count(&(version, path.name()), path);
        }
    }

    /// True if size and time do not tell this file from another one below the renamed names.
    #[must_use]
    pub fn has_twin(&self, name: &[u8], meta: &Meta, unit: i64) -> bool {
        let seen = |time: Option<i64>| {
            let version = (meta.len, time);
            let key = if self.renamed_names.contains(name) { hash(&version) } else { hash(&(version, name)) };
            self.seen.get(&key)
        };
        let time = whole(meta.mtime, unit);
        self.overflow || seen(time).is_some_and(Option::is_none) || (time.is_some() && seen(None).is_some())
    }

    /// From now on every file counts as having a twin.
    pub fn doubt_all(&mut self) {
        self.overflow = true;
    }

    /// True if [`Twins::has_twin`] could be true for anything.
    #[must_use]
    pub fn any(&self) -> bool {
        self.overflow || self.untimed || self.seen.values().any(Option::is_none)
    }

    fn count(&mut self, key: &impl Hash, path: &RelPath) {
        if self.seen.len() >= TWINS_MAX {
            self.overflow = true;
            return;
        }
        let here = hash(path);
        let seen = self.seen.entry(hash(key)).or_insert(Some(here));
        *seen = seen.filter(|there| *there == here);
    }
}

fn whole(time: Option<Time>, unit: i64) -> Option<i64> {
    time.map(|Time(nanos)| nanos.div_euclid(unit))
}

fn hash(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mem::Memory;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect(text)
    }

    fn routes(hints: &[(&str, &str, bool)]) -> Routes {
        let hint = |(from, to, into): &(&str, &str, bool)| Hint { from: path(from), to: path(to), into: *into };
        Routes::of(&hints.iter().map(hint).collect::<Vec<_>>())
    }

    fn file(len: u64, time: i64) -> Meta {
        Meta { mtime: Some(Time(time)), ..Meta::file(len) }
    }

    fn trees() -> (Memory, Memory) {
        let (source, destination) = (Memory::tree(), Memory::tree());
        for name in ["x", "y"] {
            source.write(&path(&format!("b/{name}")), "same");
            destination.write(&path(&format!("a/{name}")), "same");
        }
        source.write(&path("c/z"), "other");
        (source, destination)
    }

    fn hints(hints: &[(&str, &str, bool)]) -> BTreeSet<Hint> {
        let hint = |(from, to, into): &(&str, &str, bool)| Hint { from: path(from), to: path(to), into: *into };
        hints.iter().map(hint).collect()
    }

    #[tokio::test]
    async fn what_was_renamed_is_moved() {
        let (source, destination) = trees();
        let moved = perform(&source, &destination, &hints(&[("a", "b", true)]), 0).await;
        assert_eq!(moved.moves, [Move { from: path("a"), to: path("b") }]);
        assert!(destination.snapshot().contains_key(&path("b/y")));
    }

    #[tokio::test]
    async fn routes_that_lead_nowhere_cost_a_look_at_their_topmost_ancestor() {
        let (source, destination) = trees();
        let chain: Vec<String> = (0..20).map(|nr| format!("gone{nr}")).collect();
        let chain: Vec<(&str, &str, bool)> =
            chain.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str(), true)).collect();
        perform(&source, &destination, &hints(&chain), 0).await;
        let (source, destination) = (source.calls().lookup, destination.calls().lookup);
        assert!(source <= 19 && destination == 0, "{source} at the source, {destination} at the destination");
    }

    #[test]
    fn a_path_is_followed_through_chains_and_renamed_ancestors() {
        let routes = routes(&[("a/x", "a/y", false), ("a", "b", false), ("b", "c", true)]);
        let texts = |paths: Vec<RelPath>| paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(texts(routes.forward(&path("a/x"))), "a/y b/x b/y c/x c/b/x c/y c/b/y");
        assert_eq!(texts(routes.backward(&path("c/y"))), "b/y a/y a/x");
    }

    #[test]
    fn a_cycle_of_renames_ends() {
        let routes = routes(&[("a", "b", false), ("b", "a", false)]);
        assert_eq!(routes.forward(&path("a")), [path("b")]);
    }

    #[test]
    fn files_of_a_renamed_directory_have_twins_only_of_their_own_name() {
        let hint = Hint { from: path("t"), to: path("t_old"), into: false };
        let mut twins = Twins::default();
        twins.rename(&BTreeSet::from([hint]));
        twins.see(&path("t/part-1"), Some(&file(7, 7)), None, 1);
        twins.see(&path("t/part-2"), Some(&file(7, 7)), None, 1);
        twins.see(&path("t/part-1"), Some(&file(7, 7)), None, 1);
        assert!(!twins.has_twin(b"part-1", &file(7, 7), 1));
        twins.see(&path("t_old/part-1"), None, Some(&file(7, 7)), 1);
        assert!(twins.has_twin(b"part-1", &file(7, 7), 1) && !twins.has_twin(b"part-2", &file(7, 7), 1));
    }

    #[test]
    fn a_file_that_was_renamed_itself_may_be_the_twin_of_any() {
        let hint = Hint { from: path("a"), to: path("b"), into: false };
        let mut twins = Twins::default();
        twins.rename(&BTreeSet::from([hint]));
        twins.see(&path("b"), Some(&file(7, 7)), Some(&file(7, 7)), 1);
        assert!(!twins.has_twin(b"b", &file(7, 7), 1), "the same file seen on both sides is one file");
        twins.see(&path("z"), Some(&file(7, 7)), None, 1);
        assert!(twins.has_twin(b"b", &file(7, 7), 1));
    }
}
