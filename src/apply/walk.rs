//! The walk: names from the top, and below deep names both sides' listings merged as streams. Decides nothing about
//! a file (`leaf.rs`), puts off what comes last (`finish.rs`).

use super::leaf::Leaf;
use super::{PutOff, Renamed, Shared, Stop, is_file, lock};
use crate::names::{Line, Names, Node};
use crate::report::{Did, add};
use crate::settle::{self, Action};
use crate::spool::Sorted;
use crate::store::{ErrorKind, Listed, Meta, Named, Odd, Store, StoreError};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use syncd_parsers::RelPath;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Names that are visited at one time.
const VISITS_MAX: usize = 64;
/// Names below one directory that are looked up at one time.
const LOOKS_MAX: usize = 32;
/// How often a directory is entered that goes away and comes back meanwhile.
const ENTRIES_MAX: usize = 5;
/// From how many names on a listing of their directory may be cheaper than asking for each.
const LISTED_FROM: usize = 8;

const BOTH: &str = "the source has keys below this one: it is both an object and a prefix";

/// What both sides show at one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Pair {
    pub source: Option<Meta>,
    pub destination: Option<Meta>,
}

/// A place on the way down, and what is known from above.
#[derive(Clone)]
pub(super) struct Place {
    pub path: RelPath,
    pub why: Option<Arc<Line>>,
    /// Files below (or at) this path to which lines said that something was written.
    pub written: Arc<BTreeSet<RelPath>>,
    pub renamed: Arc<Renamed>,
    /// At or below an end of a rename.
    pub below_rename: bool,
    /// At or below a deep name: a line said that something went here, or nobody asked for lines.
    pub went: bool,
    /// Size and time are known to prove nothing here.
    pub distrust: bool,
    /// The source has an object at a path above, which only a flat store can.
    pub below_object: bool,
}

/// A name that is to be settled, and what both sides show there.
struct Visit<'a> {
    place: Place,
    node: &'a Node,
    pair: Pair,
}

impl Place {
    /// Knows nothing yet.
    pub(super) fn root(renamed: &Arc<Renamed>) -> Self {
        Self {
            path: RelPath::root(),
            why: None,
            written: Arc::default(),
            renamed: renamed.clone(),
            below_rename: false,
            went: false,
            distrust: false,
            below_object: false,
        }
    }

    fn child(&self, name: &[u8]) -> Result<Self, syncd_parsers::PathError> {
        let path = self.path.join(name)?;
        let below_rename = self.below_rename || self.renamed.ends.contains(&path);
        Ok(Self { path, below_rename, ..self.clone() })
    }

    pub(super) fn line(&self) -> Option<&Line> {
        self.why.as_deref()
    }
}

impl Shared {
    /// Settles what the tree of names says.
    pub(super) async fn walk(self: Arc<Self>, names: &Names, renamed: &Arc<Renamed>) -> Result<(), Stop> {
        let place = Place { below_rename: renamed.ends.contains(&RelPath::root()), ..Place::root(renamed) };
        let pair = self.look_at_roots().await?;
        if !pair.source.as_ref().is_some_and(Meta::is_dir) {
            return Err(Stop::NoRoot);
        }
        let crew = Crew::of(&self.files);
        let mut ahead = vec![Visit { place, node: names.root(), pair }];
        let mut visits = FuturesUnordered::new();
        loop {
            let room = ahead.len().min(VISITS_MAX.saturating_sub(visits.len()));
            visits.extend(ahead.drain(ahead.len() - room..).map(|visit| self.visit(visit, &crew)));
            let Some(below) = visits.try_next().await? else { break };
            ahead.extend(below);
        }
        drop(visits);
        crew.done().await.map(drop)
    }

    /// Settles everything at and below the ends of renames once more.
    pub(super) async fn walk_renamed(self: Arc<Self>, renamed: &Arc<Renamed>) -> Result<(), Stop> {
        renamed.doubtful.store(true, Ordering::SeqCst);
        let crew = Crew::of(&self.files);
        for path in renamed.topmost() {
            let Some(pair) = self.look_at_both(&path).await? else { continue };
            self.touched(&path);
            let place = Place { path, below_rename: true, went: true, ..Place::root(renamed) };
            crew.spawn(self.clone().deep(place, pair)).await?;
        }
        crew.done().await.map(drop)
    }

    /// To owe the root would be to owe everything: a run that cannot look at it is made again.
    async fn look_at_roots(&self) -> Result<Pair, Stop> {
        let root = RelPath::root();
        let looks = futures::join!(self.look(&self.source, &root), self.look(&self.destination, &root));
        let source = looks.0.map_err(|cause| Stop::Unreachable { side: "source", cause })?;
        let destination = looks.1.map_err(|cause| Stop::Unreachable { side: "destination", cause })?;
        Ok(Pair { source, destination })
    }

    /// Below renamed names nothing that the destination holds is replaced before all is known that could be a twin there, and
    /// every doubt is gone: what is replaced may be what gives rise to one, and a crash would leave no trace of it.
    pub(super) async fn postpone(&self, place: &Place, clear: bool) -> Result<bool, Stop> {
        if place.below_rename {
            if clear && !place.renamed.doubtful.load(Ordering::SeqCst) {
                self.see_twins(&place.path).await;
            }
            lock(&place.renamed.postponed).push((place.path.clone(), place.line().cloned()))?;
        }
        Ok(place.below_rename)
    }

    /// Both looks, or `None` if one failed and the path is owed.
    pub(super) async fn look_at_both(&self, path: &RelPath) -> Result<Option<Pair>, Stop> {
        let looks = futures::join!(self.look(&self.source, path), self.look(&self.destination, path));
        match looks {
            (Ok(source), Ok(destination)) => Ok(Some(Pair { source, destination })),
            (Err(error), _) | (_, Err(error)) => self.owe_error(path, error, None).await.map(|()| None),
        }
    }

    /// Settles one name; returns those directly below it that are next.
    async fn visit<'a>(self: &Arc<Self>, visit: Visit<'a>, crew: &Crew) -> Result<Vec<Visit<'a>>, Stop> {
        let Visit { mut place, node, pair } = visit;
        place.why = node.line().cloned().or(place.why);
        if !self.source.capabilities().tree {
            return self.visit_key(place, node, pair, crew).await;
        }
        if node.is_deep() {
            place.written = Arc::new(written_below(&place.path, node));
            place.went = true;
            let shared = self.clone();
            crew.spawn(async move { shared.deep_named(place, pair).await }).await?;
            return Ok(Vec::new());
        }
        match &pair.source {
            None => self.absent(&place, node, &pair).await.map(|()| Vec::new()),
            Some(source) if source.is_dir() => self.visit_dir(place, node, pair).await,
            Some(_) => self.visit_file(place, node, pair, crew).await.map(|()| Vec::new()),
        }
    }

    /// In a flat store each key stands for itself, whatever is above or below it, and a listing may hide it: so what is named
    /// below is looked at, each by its own name, whatever was found here.
    async fn visit_key<'a>(
        self: &Arc<Self>,
        mut place: Place,
        node: &'a Node,
        pair: Pair,
        crew: &Crew,
    ) -> Result<Vec<Visit<'a>>, Stop> {
        let is_object = pair.source.as_ref().is_some_and(|source| !source.is_dir());
        if pair.source.is_some() && place.below_object && self.destination.capabilities().tree {
            self.owe(&place.path, "the source has an object above this key", place.line())?;
        } else if node.is_deep() {
            place.written = Arc::new(written_below(&place.path, node));
            place.went = true;
            self.clone().deep_named(place.clone(), pair).await?;
        } else if is_object && pair.destination.as_ref().is_some_and(Meta::is_dir) {
            // What the destination has below it is cleared away first: nothing may be copied there meanwhile.
            let leaf = Leaf { written: node.is_written(), place: place.clone() };
            self.settle_leaf(leaf, pair).await?;
        } else if is_object {
            self.visit_file(place.clone(), node, pair, crew).await?;
        } else if pair.source.is_some() {
            return self.visit_dir(place, node, pair).await;
        } else {
            self.absent(&place, node, &pair).await?;
        }
        place.below_object |= is_object;
        self.visits_below(&place, node, true).await
    }

    /// The source has nothing here, and so nothing below: one look answers for all names there.
    async fn absent(&self, place: &Place, node: &Node, pair: &Pair) -> Result<(), Stop> {
        add(&self.tally.settled_paths, 1);
        if pair.destination.is_some() {
            self.see_lost_twins(place).await;
        }
        self.gone(place, written_below(&place.path, node), pair.destination.is_some())
    }

    /// The source has nothing here any more. What goes has a line that names it with everything below, and only with that
    /// line it is removed: it may be a rename, which still needs it. (In a flat store a directory goes without a line.)
    pub(super) fn gone(&self, place: &Place, written: BTreeSet<RelPath>, held: bool) -> Result<(), Stop> {
        let waits = !place.went && self.source.capabilities().tree;
        if waits {
            self.leave_written(&written);
        }
        if held {
            lock(&self.carried).extend(written);
        }
        if held && !waits { self.remove_later(&place.path, place.line()) } else { Ok(()) }
    }

    /// In a tree nothing is below a file: what was written there went before the line was read that says so.
    fn leave_below(&self, path: &RelPath, written: &BTreeSet<RelPath>) {
        if !written.is_empty() && self.source.capabilities().tree {
            self.leave_written(within(path, written).filter(|written| *written != path));
        }
    }

    fn leave_written<'a>(&self, written: impl IntoIterator<Item = &'a RelPath>) {
        for path in written {
            self.leave(path);
            lock(&self.left).insert(path.clone());
        }
    }

    pub(super) fn remove_later(&self, path: &RelPath, why: Option<&Line>) -> Result<(), Stop> {
        self.put_off(PutOff::Remove { path: path.clone(), why: why.cloned() })
    }

    async fn visit_file(self: &Arc<Self>, place: Place, node: &Node, pair: Pair, crew: &Crew) -> Result<(), Stop> {
        if node.children().len() > 0 {
            self.leave_below(&place.path, &written_below(&place.path, node));
        }
        let leaf = Leaf { written: node.is_written(), place };
        let shared = self.clone();
        crew.spawn(async move { shared.settle_leaf(leaf, pair).await }).await
    }

    async fn visit_dir<'a>(self: &Arc<Self>, place: Place, node: &'a Node, pair: Pair) -> Result<Vec<Visit<'a>>, Stop> {
        let Entry::Made(made) = self.make_dir(&place, &pair).await? else { return Ok(Vec::new()) };
        if node.children().len() == 0 && !made.acted {
            return Ok(Vec::new());
        }
        self.dir_time_later(&place.path);
        let visits = self.visits_below(&place, node, made.existed).await?;
        if made.existed {
            self.see_dir(&place.path, node, &pair, &visits);
        }
        Ok(visits)
    }

    /// A directory's time changes with its entries. Where it did, and nothing that is named would do that, a line is missing, or
    /// still to come. Costs no look; after a run that did not come to its end the times at the destination prove nothing.
    fn see_dir(&self, path: &RelPath, node: &Node, pair: &Pair, visits: &[Visit<'_>]) {
        let keep = [&self.source, &self.destination].iter().all(|store| store.capabilities().dir_times);
        if !keep || path.is_root() || !self.acts() || self.options.interrupted_since.is_some() {
            return;
        }
        // What only the way down to a name leads through is no reason, unless that was made, or is gone, without a line of its own.
        let same = |visit: &Visit<'_>| settle::are_dirs(visit.pair.source.as_ref(), visit.pair.destination.as_ref());
        let passed = |visit: &Visit<'_>| !visit.node.is_named() && same(visit);
        let explained = node.is_named() || visits.len() < node.children().len() || !visits.iter().all(passed);
        let time = settle::newer_dir(pair.source.as_ref(), pair.destination.as_ref(), self.destination.capabilities());
        if explained || time.is_some() {
            self.notebook.see_dir(path, time.filter(|_| !explained));
        }
    }

    /// What is named directly below, with both looks. `existed`: the destination may have something there.
    async fn visits_below<'a>(&self, place: &Place, node: &'a Node, existed: bool) -> Result<Vec<Visit<'a>>, Stop> {
        let names: Vec<&[u8]> = node.children().map(|(name, _)| name).collect();
        let (mut sources, mut destinations) =
            futures::join!(self.look_below(&self.source, &place.path, &names), async {
                match existed {
                    true => self.look_below(&self.destination, &place.path, &names).await,
                    false => HashMap::new(),
                }
            });
        let mut visits = Vec::new();
        for (name, node) in node.children() {
            let Ok(child) = place.child(name) else { continue };
            let source = sources.remove(name).unwrap_or(Ok(None));
            let destination = destinations.remove(name).unwrap_or(Ok(None));
            match (source, destination) {
                (Ok(source), Ok(destination)) => {
                    visits.push(Visit { place: child, node, pair: Pair { source, destination } });
                }
                (Err(error), _) | (_, Err(error)) => self.owe_error(&child.path, error, child.line()).await?,
            }
        }
        Ok(visits)
    }

    /// Looks at some names of one directory: by a listing where that is likely to be cheaper, and by name for
    /// everything that the listing did not show, since what a listing lacks is a question and not an answer.
    async fn look_below<'n>(
        &self,
        store: &Arc<dyn Store>,
        dir: &RelPath,
        names: &[&'n [u8]],
    ) -> HashMap<&'n [u8], Result<Option<Meta>, StoreError>> {
        let mut found = self.listed_below(store, dir, names).await;
        let mut looks = FuturesUnordered::new();
        for name in names.iter().copied() {
            if found.contains_key(name) {
                continue;
            }
            looks.push(self.look_named(store, dir, name));
            if looks.len() >= LOOKS_MAX
                && let Some((name, looked)) = looks.next().await
            {
                found.insert(name, looked);
            }
        }
        while let Some((name, looked)) = looks.next().await {
            found.insert(name, looked);
        }
        found
    }

    async fn look_named<'n>(
        &self,
        store: &Arc<dyn Store>,
        dir: &RelPath,
        name: &'n [u8],
    ) -> (&'n [u8], Result<Option<Meta>, StoreError>) {
        let path = dir.join(name).expect("a name in the tree was a component of a path");
        (name, self.look(store, &path).await)
    }

    async fn listed_below<'n>(
        &self,
        store: &Arc<dyn Store>,
        dir: &RelPath,
        names: &[&'n [u8]],
    ) -> HashMap<&'n [u8], Result<Option<Meta>, StoreError>> {
        let per_look = store.capabilities().listed_per_lookup;
        let mut found = HashMap::new();
        if names.len() < LISTED_FROM || per_look <= 1 {
            return found;
        }
        let mut wanted: HashMap<&[u8], &'n [u8]> = HashMap::new();
        for name in names.iter().copied() {
            wanted.insert(name, name);
        }
        let mut listing = store.list(dir).take(names.len().saturating_mul(per_look) / 2);
        while let Some(Ok(listed)) = listing.next().await {
            if let Listed::Entry(Named { name, meta }) = listed
                && let Some(name) = wanted.get(name.as_slice())
            {
                found.insert(*name, Ok(Some(meta)));
                if found.len() == names.len() {
                    break;
                }
            }
        }
        found
    }

    /// The same for a path that no listing of its directory showed, and that may be both an object and a prefix.
    pub(super) async fn deep_named(self: Arc<Self>, place: Place, pair: Pair) -> Result<bool, Stop> {
        let is_leaf = pair.source.as_ref().is_some_and(|source| !source.is_dir());
        let is_both = is_leaf && !self.source.capabilities().tree && self.has_below(&self.source, &place.path).await;
        if is_both && self.destination.capabilities().tree {
            return self.owe(&place.path, BOTH, place.line()).map(|()| false);
        }
        let acted = self.clone().deep(place.clone(), pair).await?;
        if is_both { Ok(acted | self.deep_below(&place).await?) } else { Ok(acted) }
    }

    /// Settles what is below a path that is an object on both sides.
    async fn deep_below(self: &Arc<Self>, place: &Place) -> Result<bool, Stop> {
        let existed = self.has_below(&self.destination, &place.path).await;
        match self.both_listings(place, existed).await {
            Ok(below) => self.settle_below(place, below).await,
            Err(error) => self.owe_error(&place.path, error, place.line()).await.map(|()| false),
        }
    }

    /// Whether a listing of a path shows anything, or fails.
    async fn has_below(&self, store: &Arc<dyn Store>, path: &RelPath) -> bool {
        let first = self.again(|| async { store.list(path).next().await.transpose() }).await;
        match first {
            Ok(first) => first.is_some(),
            Err(error) => error.kind != ErrorKind::NotFound,
        }
    }

    /// Settles a path and everything below it; true if that changed anything.
    pub(super) fn deep(self: Arc<Self>, place: Place, pair: Pair) -> BoxFuture<'static, Result<bool, Stop>> {
        async move {
            match &pair.source {
                Some(source) if source.is_dir() => self.deep_dir(place, pair).await,
                Some(_) => {
                    self.leave_below(&place.path, &place.written);
                    let leaf = Leaf { written: place.written.contains(&place.path), place };
                    self.settle_leaf(leaf, pair).await
                }
                None => {
                    add(&self.tally.settled_paths, 1);
                    if pair.destination.is_some() {
                        self.see_lost_twins(&place).await;
                    }
                    let written = within(&place.path, &place.written).cloned().collect();
                    self.gone(&place, written, pair.destination.is_some()).map(|()| false)
                }
            }
        }
        .boxed()
    }

    async fn deep_dir(self: Arc<Self>, place: Place, mut pair: Pair) -> Result<bool, Stop> {
        let (made, below) = match self.enter(&place, &mut pair).await? {
            Some(entered) => entered,
            None if pair.source.as_ref().is_some_and(Meta::is_dir) => return Ok(self.acts()),
            None => return self.deep(place, pair).await,
        };
        let acted = self.settle_below(&place, below).await? | made.acted;
        self.set_dir_attrs(&place, &pair, acted).await?;
        Ok(acted)
    }

    async fn settle_below(self: &Arc<Self>, place: &Place, below: Merged) -> Result<bool, Stop> {
        let files = Crew::of(&self.files);
        let dirs = Crew::of(&self.dirs);
        for entry in below {
            let (name, pair) = entry?;
            let Ok(child) = place.child(&name) else { continue };
            let shared = self.clone();
            let is_dir = |meta: &Option<Meta>| meta.as_ref().is_some_and(Meta::is_dir);
            if is_dir(&pair.source) {
                dirs.fork(shared.deep(child, pair)).await?;
            } else {
                files.fork(shared.deep(child, pair)).await?;
            }
        }
        Ok(dirs.done().await? | files.done().await?)
    }

    /// Makes sure that the destination has the directory, and lists both sides. `None` if it is no directory any more, as
    /// `pair` then shows, or if it is owed.
    async fn enter(&self, place: &Place, pair: &mut Pair) -> Result<Option<(Made, Merged)>, Stop> {
        for _ in 0..ENTRIES_MAX {
            if let Err(error) = self.complete(&place.path, pair).await {
                return self.owe_error(&place.path, error, place.line()).await.map(|()| None);
            }
            if !pair.source.as_ref().is_some_and(Meta::is_dir) {
                return Ok(None);
            }
            let made = match self.make_dir(place, pair).await? {
                Entry::Made(made) => made,
                Entry::Postponed => return Ok(None),
                Entry::Owed => return Ok(None),
            };
            match self.both_listings(place, made.existed).await {
                Ok(below) => return Ok(Some((made, below))),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return self.owe_error(&place.path, error, place.line()).await.map(|()| None),
            }
            match self.look_at_both(&place.path).await? {
                Some(again) => *pair = again,
                None => return Ok(None),
            }
        }
        self.owe(&place.path, "the directory was gone each time that it was listed", place.line()).map(|()| None)
    }

    async fn both_listings(&self, place: &Place, existed: bool) -> Result<Merged, StoreError> {
        let spill = |error: io::Error| StoreError::new("list", &place.path, ErrorKind::Other).because(error);
        let sorted = |store: &Arc<dyn Store>| {
            let store = store.clone();
            async move { self.again(|| async { Sorted::of(store.list(&place.path), spill).await }).await }
        };
        let (source, destination) = futures::join!(sorted(&self.source), async {
            if existed { sorted(&self.destination).await } else { Ok(Sorted::empty()) }
        });
        let (mut source, mut destination) = (source?, destination?);
        for (side, odd) in
            [("source", std::mem::take(&mut source.odd)), ("destination", std::mem::take(&mut destination.odd))]
        {
            for odd in odd {
                self.owe_odd(place, side, &odd);
            }
        }
        Merged::of(source, destination).map_err(spill)
    }

    /// What cannot be named is owed at its directory's path, with its own spelling in the reason.
    fn owe_odd(&self, place: &Place, side: &str, odd: &Odd) {
        let name = odd.name.escape_ascii();
        let reason = format!("the {side} holds \"{name}\" here: {}", odd.reason);
        let path = place.path.join(&odd.name).unwrap_or_else(|_| place.path.clone());
        if let Err(error) = self.owe(&path, &reason, place.line()) {
            tracing::error!(%path, %error, "an owed path could not be noted");
        }
    }

    /// True for a directory that a flat destination need not make: it is there as soon as keys below it are, as at the source.
    fn is_implied(&self, source: Option<&Meta>) -> bool {
        source.is_some_and(Meta::is_implied) && !self.destination.capabilities().tree
    }

    async fn set_dir_attrs(&self, place: &Place, pair: &Pair, acted: bool) -> Result<(), Stop> {
        let source = pair.source.as_ref().filter(|source| !(place.path.is_root() || self.is_implied(Some(source))));
        let Some(source) = source else { return Ok(()) };
        let holds = self.destination.capabilities();
        let dir = pair.destination.as_ref().filter(|there| there.is_dir()); // else it was made just now, to be filled
        let differ = dir.is_none_or(|there| settle::attrs_differ(source, there, holds));
        let filled = acted && holds.dir_times;
        if !(differ || filled) {
            return Ok(());
        }
        if !self.acts() {
            let told = !differ || dir.is_none(); // as a directory to be made
            return if told { Ok(()) } else { self.tell_difference(&place.path, Did::SetAttrs, place.line()) };
        }
        if differ && dir.is_some() {
            add(&self.tally.attrs_paths, 1);
            self.tell(&place.path, Did::SetAttrs, place.line());
        }
        match self.again(|| self.destination.set_attrs(&place.path, source)).await {
            Ok(()) => Ok(()),
            Err(error) => self.owe_error(&place.path, error, place.line()).await,
        }
    }

    /// Looks up what listings left out of either side.
    pub(super) async fn complete(&self, path: &RelPath, pair: &mut Pair) -> Result<(), StoreError> {
        let partial = |meta: &Option<Meta>| meta.as_ref().is_some_and(|meta| !meta.complete);
        if partial(&pair.source) {
            pair.source = self.look(&self.source, path).await?;
        }
        if partial(&pair.destination) {
            pair.destination = self.look(&self.destination, path).await?;
        }
        Ok(())
    }

    pub(super) fn tell_difference(&self, path: &RelPath, did: Did, why: Option<&Line>) -> Result<(), Stop> {
        add(&self.tally.differing_paths, 1);
        self.tell(path, did, why);
        Ok(())
    }

    /// Makes sure that the destination has a directory here, as far as that can be had now.
    async fn make_dir(&self, place: &Place, pair: &Pair) -> Result<Entry, Stop> {
        add(&self.tally.settled_paths, 1);
        let (source, there) = (pair.source.as_ref(), pair.destination.as_ref());
        let decision = settle::decide(source, there, self.destination.capabilities(), settle::Trust::FULL);
        if decision.action != Action::MakeDir {
            let acted = decision.action == Action::SetAttrs;
            return Ok(Entry::Made(Made { existed: true, acted }));
        }
        let may_hold = |there: &Meta| there.is_dir() || !self.destination.capabilities().tree; // keys lie below objects, too
        let (implied, existed) = (self.is_implied(source), there.is_some_and(may_hold));
        if implied && there.is_none() {
            return Ok(Entry::Made(Made { existed: false, acted: false }));
        }
        if !self.acts() {
            self.tell_difference(&place.path, Did::MakeDir, place.line())?;
            return Ok(Entry::Made(Made { existed, acted: true }));
        }
        if decision.clear && self.postpone(place, true).await? {
            return Ok(Entry::Postponed);
        }
        if decision.clear
            && let Some((source, there)) = source.zip(there)
            && !self.clear(place, source, there).await?
        {
            return Ok(Entry::Owed);
        }
        if implied {
            return Ok(Entry::Made(Made { existed: true, acted: true }));
        }
        let wanted = settle::writable(source.expect("a directory is made where the source has one"));
        match self.again(|| self.destination.mkdir(&place.path, &wanted)).await {
            Ok(()) => {
                add(&self.tally.made_dirs, 1);
                self.tell(&place.path, Did::MakeDir, place.line());
                Ok(Entry::Made(Made { existed, acted: true }))
            }
            Err(error) => self.owe_error(&place.path, error, place.line()).await.map(|()| Entry::Owed),
        }
    }

    /// What is about to go at the destination may be the twin of what takes its name: all of it below a renamed name, and above
    /// renamed names what is below those.
    pub(super) async fn see_lost_twins(&self, place: &Place) {
        let Place { path, renamed, .. } = place;
        if place.below_rename {
            return self.see_twins(path).await;
        }
        for end in within(path, &renamed.ends) {
            self.see_twins(end).await;
        }
    }

    /// Counts the files at and below a path of the destination among those that could be twins. What cannot be seen may be one.
    pub(super) async fn see_twins(&self, path: &RelPath) {
        if self.count_twins(path).await.is_err_and(|error| error.kind != ErrorKind::NotFound) {
            lock(&self.twins).doubt_all();
        }
    }

    async fn count_twins(&self, path: &RelPath) -> Result<(), StoreError> {
        let unit = self.time_unit();
        let there = self.look(&self.destination, path).await?;
        if there.as_ref().is_some_and(is_file) {
            lock(&self.twins).see(path, None, there.as_ref(), unit);
            return Ok(());
        }
        let mut ahead = vec![path.clone()];
        while let Some(dir) = ahead.pop() {
            let mut listing = self.destination.list(&dir);
            while let Some(listed) = listing.try_next().await? {
                let Listed::Entry(entry) = listed else { continue };
                let Ok(path) = dir.join(&entry.name) else { continue };
                if entry.meta.is_dir() {
                    ahead.push(path);
                } else {
                    lock(&self.twins).see(&path, None, Some(&entry.meta), unit);
                }
            }
        }
        Ok(())
    }
}

/// Whether the destination has the directory now.
enum Entry {
    Made(Made),
    /// What stands in the way may be a twin: it is looked at again when that is known.
    Postponed,
    Owed,
}

/// What became of a directory.
struct Made {
    /// The destination had it, so there may be something in it.
    existed: bool,
    acted: bool,
}

fn written_below(path: &RelPath, node: &Node) -> BTreeSet<RelPath> {
    node.written_below(path).into_keys().collect()
}

/// Those of the paths that are at or below one.
pub(super) fn within<'a>(path: &'a RelPath, paths: &'a BTreeSet<RelPath>) -> impl Iterator<Item = &'a RelPath> {
    paths.range(path.clone()..).take_while(move |below| below.is_within(path))
}

type Entries = std::iter::Peekable<Box<dyn Iterator<Item = io::Result<Named>> + Send>>;

/// Two sorted listings as one: each name once, with what either side has.
struct Merged {
    source: Entries,
    destination: Entries,
}

impl Merged {
    fn of(source: Sorted, destination: Sorted) -> io::Result<Self> {
        Ok(Self { source: source.into_entries()?.peekable(), destination: destination.into_entries()?.peekable() })
    }
}

impl Iterator for Merged {
    type Item = io::Result<(Vec<u8>, Pair)>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (self.source.peek(), self.destination.peek()) {
            (None, None) => return None,
            (Some(Ok(source)), Some(Ok(destination))) => source.name.cmp(&destination.name),
            (Some(_), None) | (Some(Err(_)), _) => Less,
            (None, Some(_)) | (_, Some(Err(_))) => Greater,
        };
        let mut take = |side: bool| if side { self.source.next() } else { self.destination.next() };
        let source = if order == Greater { None } else { take(true) };
        let destination = if order == Less { None } else { take(false) };
        debug_assert!(order != Equal || (source.is_some() && destination.is_some()));
        Some(pair_of(source, destination))
    }
}

fn pair_of(source: Option<io::Result<Named>>, destination: Option<io::Result<Named>>) -> io::Result<(Vec<u8>, Pair)> {
    let (source, destination) = (source.transpose()?, destination.transpose()?);
    let name = source.as_ref().or(destination.as_ref()).map(|entry| entry.name.clone()).unwrap_or_default();
    Ok((name, Pair { source: source.map(|entry| entry.meta), destination: destination.map(|entry| entry.meta) }))
}

/// Tasks that belong together, as many at a time as there are permits.
pub(super) struct Crew {
    permits: Arc<Semaphore>,
    tasks: Mutex<JoinSet<Result<bool, Stop>>>,
    acted: AtomicBool,
}

impl Crew {
    fn of(permits: &Arc<Semaphore>) -> Self {
        Self { permits: permits.clone(), tasks: Mutex::default(), acted: AtomicBool::new(false) }
    }

    /// Runs the work beside this task if there is a permit, else waits for it: so a walk that is inside a walk never waits
    /// for a permit that only itself could give back. (As a task of its own then, too: a tree may be a thousand levels deep,
    /// and the stack is not.)
    async fn fork(&self, work: impl Future<Output = Result<bool, Stop>> + Send + 'static) -> Result<(), Stop> {
        self.take_done()?;
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => self.start(permit, work),
            Err(_) => {
                let mut alone = JoinSet::new();
                alone.spawn(work);
                while let Some(done) = alone.join_next().await {
                    self.note(done??);
                }
            }
        }
        Ok(())
    }

    /// Runs the work beside this task as soon as there is a permit. Only for a task that holds none itself.
    async fn spawn(&self, work: impl Future<Output = Result<bool, Stop>> + Send + 'static) -> Result<(), Stop> {
        self.take_done()?;
        let permit = self.permits.clone().acquire_owned().await.expect("this semaphore is never closed");
        self.start(permit, work);
        Ok(())
    }

    fn start(&self, permit: OwnedSemaphorePermit, work: impl Future<Output = Result<bool, Stop>> + Send + 'static) {
        lock(&self.tasks).spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
    }

    fn take_done(&self) -> Result<(), Stop> {
        while let Some(done) = { lock(&self.tasks).try_join_next() } {
            self.note(done??);
        }
        Ok(())
    }

    fn note(&self, acted: bool) {
        self.acted.fetch_or(acted, Ordering::Relaxed);
    }

    /// Waits for all; true if any of them changed something.
    async fn done(self) -> Result<bool, Stop> {
        let mut tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut acted = self.acted.into_inner();
        while let Some(done) = tasks.join_next().await {
            acted |= done??;
        }
        Ok(acted)
    }
}
