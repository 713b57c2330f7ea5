//! The end of a run: files that point to others, the deletes, what moves displaced, directory times. The one place
//! that removes anything from the destination.

use super::evidence::Evidence;
use super::walk::Pair;
use super::{PutOff, Shared, Stop, Watch, lock};
use crate::names::{Gone, Line};
use crate::report::{Did, add};
use crate::store::{ErrorKind, Listed, Meta, StoreError};
use futures::{Stream, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use syncd_parsers::RelPath;

/// Removals under way at one time.
const REMOVALS_MAX: usize = 32;

/// Removals that are proven together.
const PROVEN_MAX: usize = 1_000;
/// How often a prefix is listed again: once for each key that hid others below it, one above the other.
const LISTINGS_MAX: usize = 600;
/// How often what was put off may put off something again.
const ROUNDS_MAX: usize = 4;

/// What was put off: files to publish by rank, and removals.
#[derive(Default)]
struct Late {
    publishes: BTreeMap<usize, BTreeMap<RelPath, Publication>>,
    removals: BTreeMap<RelPath, Option<Line>>,
    /// Keys of a flat source below those: a listing of the destination may hide them.
    keys_below: BTreeMap<RelPath, Option<Line>>,
}

struct Publication {
    why: Option<Line>,
    distrust: bool,
    went: bool,
}

/// A removal that still has to be proven.
struct Removal {
    path: RelPath,
    there: Meta,
    /// Files at and below it, counted as far as the guard needs.
    files: u64,
    why: Option<Line>,
}

/// A removal that may be done.
struct Proven {
    evidence: Evidence,
    there: Meta,
    files: u64,
    why: Option<Line>,
}

/// What one look at the keys below a path led to.
struct Swept {
    /// The source has none of them.
    all: bool,
    removed: usize,
    /// With the path itself; what is below a directory comes after it.
    dirs: Vec<Evidence>,
}

/// A name that a listing of the destination shows.
struct Asked {
    /// `None`: the source has it, or nobody can ask for it.
    gone: Option<Evidence>,
    is_key: bool,
    is_prefix: bool,
}

/// Keeps what is below no other path; returns the rest.
fn keep_topmost<T>(paths: &mut BTreeMap<RelPath, T>) -> BTreeMap<RelPath, T> {
    let (mut top, mut kept, mut below): (Option<RelPath>, _, _) = (None, BTreeMap::new(), BTreeMap::new());
    for (path, item) in std::mem::take(paths) {
        if top.as_ref().is_some_and(|top| path.is_within(top)) {
            below.insert(path, item);
        } else {
            top = Some(path.clone());
            kept.insert(path, item);
        }
    }
    *paths = kept;
    below
}

impl Shared {
    pub(super) async fn finish(self: Arc<Self>) -> Result<(), Stop> {
        self.allow_aside().await?;
        for _ in 0..ROUNDS_MAX {
            let late = self.take_put_off()?;
            if late.publishes.is_empty() && late.removals.is_empty() {
                break;
            }
            self.clone().settle_late(late).await?;
        }
        self.owe_put_off()?;
        self.note_left()?;
        self.remove_aside().await?;
        self.set_dir_times().await?;
        self.check_root().await?;
        if self.acts() {
            let sync = self.again(|| self.destination.sync()).await;
            sync.map_err(|cause| Stop::Unreachable { side: "destination", cause })?;
        }
        Ok(())
    }

    /// Publishes, then removes. What is looked at again here may have changed, and put off something in its turn.
    async fn settle_late(self: Arc<Self>, late: Late) -> Result<(), Stop> {
        for (_, files) in late.publishes {
            self.publish(files).await?;
        }
        self.clone().remove_still_there(late.removals).await?;
        self.remove_still_there(late.keys_below).await
    }

    async fn remove_still_there(self: Arc<Self>, removals: BTreeMap<RelPath, Option<Line>>) -> Result<(), Stop> {
        let removals = self.still_there(removals).await?;
        if !self.options.removes {
            add(&self.tally.left_paths, removals.len() as u64);
            return Ok(());
        }
        self.allow(removals.iter().map(|removal| removal.files).sum())?;
        self.remove_all(removals).await
    }

    /// What was put off; in a tree a removal below another removal goes with it.
    fn take_put_off(&self) -> Result<Late, Stop> {
        let mut late = Late::default();
        for item in lock(&self.put_off).drain()? {
            match item? {
                PutOff::Publish { rank, path, why, distrust, went } => {
                    late.publishes.entry(rank).or_default().insert(path, Publication { why, distrust, went });
                }
                PutOff::Remove { path, why } => drop(late.removals.insert(path, why)),
            }
        }
        let below = keep_topmost(&mut late.removals);
        if !self.source.capabilities().tree && self.acts() {
            late.keys_below = below; // (what only looks has told of them with what is above)
        }
        Ok(late)
    }

    /// What is never done with, because the source changes faster than this run looks.
    fn owe_put_off(&self) -> Result<(), Stop> {
        let late = self.take_put_off()?;
        let publishes = late.publishes.into_values().flatten().map(|(path, publication)| (path, publication.why));
        for (path, why) in publishes.chain(late.removals) {
            self.owe(&path, "it came and went while this run tried to settle it", why.as_ref())?;
        }
        Ok(())
    }

    fn note_left(&self) -> Result<(), Stop> {
        let left: Vec<RelPath> = std::mem::take(&mut *lock(&self.left)).into_iter().collect();
        self.lose(&left, Gone::Left)
    }

    async fn publish(self: &Arc<Self>, files: BTreeMap<RelPath, Publication>) -> Result<(), Stop> {
        let each = futures::stream::iter(files).map(|(path, publication)| self.clone().settle_again(path, publication));
        each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await
    }

    pub(super) async fn settle_postponed(self: Arc<Self>, renamed: &super::Renamed) -> Result<(), Stop> {
        let mut postponed: BTreeMap<RelPath, Option<Line>> =
            lock(&renamed.postponed).drain()?.collect::<Result<_, _>>()?;
        while !postponed.is_empty() {
            let below = keep_topmost(&mut postponed);
            let again = |(path, why)| self.clone().settle_again(path, Publication { why, distrust: false, went: true });
            let each = futures::stream::iter(postponed).map(again);
            each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await?;
            // In a tree they were settled with what is above them; a key below another stands for itself.
            postponed = if self.source.capabilities().tree { BTreeMap::new() } else { below };
        }
        Ok(())
    }

    /// Looks at a path afresh and settles it with all below.
    async fn settle_again(self: Arc<Self>, path: RelPath, publication: Publication) -> Result<(), Stop> {
        let Publication { why, distrust, went } = publication;
        let Some(pair) = self.look_at_both(&path).await? else {
            return if distrust { self.watch(&path, Watch::Fresh, why.as_ref()) } else { Ok(()) };
        };
        if pair.source.is_none() && pair.destination.is_none() && went {
            return Ok(());
        }
        self.touched(&path);
        let written = if went { BTreeSet::new() } else { BTreeSet::from([path.clone()]) };
        let place = super::walk::Place { distrust, went, written: Arc::new(written), ..Self::place(path, why) };
        self.clone().deep(place, pair).await.map(drop)
    }

    fn place(path: RelPath, why: Option<Line>) -> super::walk::Place {
        let renamed = Arc::new(super::Renamed::at(BTreeSet::new()));
        super::walk::Place { path, why: why.map(Arc::new), went: true, ..super::walk::Place::root(&renamed) }
    }

    /// The parent's time changes with what is done below it: it is set at the end.
    pub(super) fn touched(&self, path: &RelPath) {
        path.parent().iter().for_each(|parent| self.dir_time_later(parent));
    }

    /// The removals for which the destination still has something, with what that is.
    async fn still_there(&self, removals: BTreeMap<RelPath, Option<Line>>) -> Result<Vec<Removal>, Stop> {
        let looks = futures::stream::iter(removals).map(|(path, why)| async move {
            match self.look(&self.destination, &path).await {
                Ok(Some(there)) if !self.acts() => Ok(Some(Removal { path, there, files: 0, why })),
                Ok(Some(there)) => match self.count_files(&path, &there).await {
                    Ok(files) => Ok(Some(Removal { path, there, files, why })),
                    Err(error) => self.owe_error(&path, error, why.as_ref()).await.map(|()| None),
                },
                Ok(None) => Ok(None),
                Err(error) => self.owe_error(&path, error, why.as_ref()).await.map(|()| None),
            }
        });
        looks.buffer_unordered(REMOVALS_MAX).try_filter_map(|found| async { Ok(found) }).try_collect().await
    }

    /// Counts what moves displaced, which goes with the deletes.
    async fn allow_aside(&self) -> Result<(), Stop> {
        let displaced = lock(&self.aside).clone();
        let mut files = 0;
        for aside in displaced {
            let counted = self.count_files(&aside.path, &Meta::dir()).await;
            files += counted.map_err(|cause| Stop::Unreachable { side: "destination", cause })?;
        }
        self.allow(files)
    }

    /// Counts what is to be removed before it is; refuses if with so many more files the run would remove more than it may.
    /// A run that only looks removes nothing, and has to tell all.
    fn allow(&self, files: u64) -> Result<(), Stop> {
        let deletes = self.allowed_files.fetch_add(files, Ordering::Relaxed) + files;
        match self.options.deletes_max {
            Some(limit) if self.acts() && deletes > limit => {
                self.allowed_files.fetch_sub(files, Ordering::Relaxed);
                let removed = self.tally.removed_files.load(Ordering::Relaxed);
                Err(Stop::Deletes { deletes, limit, removed })
            }
            _ => Ok(()),
        }
    }

    /// Files at and below a path of the destination, counted until the guard would refuse.
    async fn count_files(&self, path: &RelPath, there: &Meta) -> Result<u64, StoreError> {
        if !there.is_dir() {
            return Ok(1);
        }
        let enough = self.options.deletes_max.unwrap_or(u64::MAX);
        let (mut count, mut ahead) = (0, vec![path.clone()]);
        while let Some(dir) = ahead.pop() {
            let mut listing = self.destination.list(&dir);
            while let Some(listed) = listing.try_next().await? {
                match listed {
                    Listed::Entry(entry) if entry.meta.is_dir() => ahead.extend(dir.join(&entry.name)),
                    Listed::Entry(_) | Listed::Odd(_) => count += 1,
                }
                if count > enough {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    /// Files below a path of the destination that a flat source has no longer, counted until the guard would refuse: beside
    /// a key that is a prefix as well, the others live on.
    async fn count_gone_keys(&self, path: &RelPath) -> Result<u64, StoreError> {
        let enough = self.options.deletes_max.unwrap_or(0); // without a limit the number is of no interest
        let (mut count, mut ahead) = (0, vec![path.clone()]);
        while let Some(dir) = ahead.pop() {
            let mut asked = pin!(self.ask_for_all(&dir));
            while let Some(Asked { gone, is_key, is_prefix }) = asked.try_next().await? {
                let Some(gone) = gone else { continue };
                count += u64::from(is_key);
                ahead.extend(is_prefix.then(|| gone.path().clone()));
                if count > enough {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    /// What a listing of the destination shows, each name asked for at the source.
    fn ask_for_all<'a>(&'a self, dir: &'a RelPath) -> impl Stream<Item = Result<Asked, StoreError>> + 'a {
        // What was removed may have been all that a prefix consisted of.
        let is_gone = |error: &StoreError| error.kind == ErrorKind::NotFound;
        let listing = self.destination.list(dir);
        let listing = listing.filter(move |listed| std::future::ready(!listed.as_ref().is_err_and(is_gone)));
        listing.map(|listed| async { self.ask_for(dir, &listed?).await }).buffer_unordered(REMOVALS_MAX)
    }

    /// A name that no path can spell is nobody's to remove. In a tree what is odd (a pipe, or its like) goes with its directory.
    async fn ask_for(&self, dir: &RelPath, listed: &Listed) -> Result<Asked, StoreError> {
        let is_tree = self.destination.capabilities().tree;
        let (name, mut is_key, is_prefix) = match listed {
            Listed::Entry(entry) => (&entry.name, !entry.meta.is_dir(), entry.meta.is_dir()),
            Listed::Odd(odd) => (&odd.name, !is_tree, !is_tree), // a key that is a prefix as well can only be shown so
        };
        let Ok(below) = dir.join(name) else { return Ok(Asked { gone: None, is_key, is_prefix }) };
        if is_key && is_prefix {
            let there = self.look(&self.destination, &below).await?;
            is_key = there.is_some_and(|there| !there.is_dir());
        }
        let answer = self.look(&self.source, &below).await?;
        Ok(Asked { gone: Evidence::not_found(below, answer.as_ref()), is_key, is_prefix })
    }

    /// Some at a time: all are asked for at the source, then the source is asked whether it is still itself (under a root
    /// that was replaced nothing is found), and then they are removed.
    async fn remove_all(self: Arc<Self>, removals: Vec<Removal>) -> Result<(), Stop> {
        let mut removals = removals.into_iter().peekable();
        while removals.peek().is_some() {
            let some = futures::stream::iter(removals.by_ref().take(PROVEN_MAX).collect::<Vec<_>>());
            let proven = some.map(|removal| self.clone().prove(removal)).buffer_unordered(REMOVALS_MAX);
            let proven: Vec<Proven> = proven.try_filter_map(|proven| async { Ok(proven) }).try_collect().await?;
            self.check_root().await?;
            let gone: Vec<RelPath> = proven.iter().map(|proven| proven.evidence.path().clone()).collect();
            self.lose(&gone, Gone::Removed)?;
            let each = futures::stream::iter(proven).map(|proven| self.remove_one(proven));
            each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await?;
        }
        Ok(())
    }

    fn lose(&self, paths: &[RelPath], how: Gone) -> Result<(), Stop> {
        if paths.is_empty() || !self.acts() { Ok(()) } else { self.notebook.lose(paths, how).map_err(Stop::Notebook) }
    }

    /// The removal, if the source just answered that nothing is there; what is there is settled instead.
    async fn prove(self: Arc<Self>, removal: Removal) -> Result<Option<Proven>, Stop> {
        let Removal { path, there, files, why } = removal;
        let answer = match self.look(&self.source, &path).await {
            Err(error) => return self.owe_error(&path, error, why.as_ref()).await.map(|()| None),
            Ok(answer) => answer,
        };
        if let Some(evidence) = Evidence::not_found(path.clone(), answer.as_ref()) {
            return Ok(Some(Proven { evidence, there, files, why }));
        }
        self.touched(&path);
        let pair = Pair { source: answer, destination: Some(there) };
        self.clone().deep_named(Self::place(path, why), pair).await.map(|_| None)
    }

    async fn remove_one(&self, proven: Proven) -> Result<(), Stop> {
        let path = proven.evidence.path();
        if !self.acts() {
            return self.tell_difference(path, Did::Remove, proven.why.as_ref());
        }
        self.touched(path);
        self.remove_proven(proven).await.map(drop)
    }

    /// Removes what stands at a path where a file or directory of the source has to go; false if it could not be, and the
    /// path is owed.
    pub(super) async fn clear(&self, place: &super::walk::Place, source: &Meta, there: &Meta) -> Result<bool, Stop> {
        let (path, why) = (&place.path, place.line());
        let Some(evidence) = Evidence::other_kind(path.clone(), source, there) else { return Ok(true) };
        self.see_lost_twins(place).await;
        let files = match self.source.capabilities().tree || !there.is_dir() {
            true => self.count_files(path, there).await,
            false => self.count_gone_keys(path).await,
        };
        let files = match files {
            Ok(files) => files,
            Err(error) => return self.owe_error(path, error, why).await.map(|()| false),
        };
        self.allow(files)?;
        self.lose(std::slice::from_ref(path), Gone::Removed)?;
        lock(&self.lately).lose(path, Gone::Removed);
        self.remove_proven(Proven { evidence, there: there.clone(), files, why: why.cloned() }).await
    }

    /// Removes what the source just answered not to have. In a flat source nothing follows for what is below,
    /// so each key there is asked for by its own name first.
    async fn remove_proven(&self, proven: Proven) -> Result<bool, Stop> {
        let Proven { evidence, there, files, why } = proven;
        let (path, why) = (evidence.path(), why.as_ref());
        let removed = if !there.is_dir() {
            self.remove_file(&evidence).await.map(|()| true)
        } else if self.source.capabilities().tree {
            self.remove_dir(&evidence, files).await.map(|()| true)
        } else {
            self.remove_keys(&evidence).await
        };
        match removed {
            Ok(true) => {
                self.tell(path, Did::Remove, why);
                Ok(true)
            }
            // What is still there at the source stays, and in a flat store it is in nobody's way.
            Ok(false) if !self.destination.capabilities().tree => Ok(true),
            Ok(false) => {
                let reason = "the source still has keys below this path that no listing shows";
                self.owe(path, reason, why).map(|()| false)
            }
            Err(error) => self.owe_error(path, error, why).await.map(|()| false),
        }
    }

    async fn remove_file(&self, evidence: &Evidence) -> Result<(), StoreError> {
        self.remove_files(std::slice::from_ref(evidence)).await
    }

    async fn remove_files(&self, evidence: &[Evidence]) -> Result<(), StoreError> {
        let paths: Vec<RelPath> = evidence.iter().map(|evidence| evidence.path().clone()).collect();
        if paths.is_empty() {
            return Ok(());
        }
        self.again(|| self.destination.remove(&paths)).await?;
        add(&self.tally.removed_files, paths.len() as u64);
        Ok(())
    }

    async fn remove_tree(&self, evidence: &Evidence) -> Result<(), StoreError> {
        self.again(|| self.destination.remove_tree(evidence.path())).await
    }

    async fn remove_dir(&self, evidence: &Evidence, files: u64) -> Result<(), StoreError> {
        self.remove_tree(evidence).await?;
        add(&self.tally.removed_files, files);
        add(&self.tally.removed_dirs, 1);
        Ok(())
    }

    /// False if something below is still there at the source; that, and what leads to it, stays. Lists again until nothing is
    /// left to remove: what was removed may have hidden something from the listing.
    async fn remove_keys(&self, evidence: &Evidence) -> Result<bool, StoreError> {
        for _ in 0..LISTINGS_MAX {
            let Swept { all, removed, dirs } = self.sweep(evidence).await?;
            if removed > 0 {
                continue;
            }
            if all {
                self.remove_emptied(evidence, dirs).await?;
                add(&self.tally.removed_dirs, 1);
            }
            return Ok(all);
        }
        let busy = StoreError::new("remove", evidence.path(), ErrorKind::Unavailable);
        Err(busy.because("somebody keeps writing below it"))
    }

    /// Removes the keys that a listing shows now and the source has not.
    async fn sweep(&self, evidence: &Evidence) -> Result<Swept, StoreError> {
        let mut swept = Swept { all: true, removed: 0, dirs: Vec::new() };
        let mut ahead = vec![evidence.clone()];
        while let Some(dir) = ahead.pop() {
            swept.dirs.push(dir.clone());
            let mut asked = pin!(self.ask_for_all(dir.path()).try_chunks(PROVEN_MAX));
            while let Some(some) = asked.next().await {
                let some = some.map_err(|error| error.1)?;
                swept.all &= some.iter().all(|asked| asked.gone.is_some());
                ahead.extend(some.iter().filter(|asked| asked.is_prefix).filter_map(|asked| asked.gone.clone()));
                let gone: Vec<Evidence> =
                    some.into_iter().filter(|asked| asked.is_key).filter_map(|asked| asked.gone).collect();
                self.remove_files(&gone).await?;
                swept.removed += gone.len();
            }
        }
        Ok(swept)
    }

    /// What is left of a directory whose keys were removed. In a flat store that is nothing but markers.
    async fn remove_emptied(&self, evidence: &Evidence, dirs: Vec<Evidence>) -> Result<(), StoreError> {
        if self.destination.capabilities().tree {
            return self.remove_tree(evidence).await;
        }
        for dir in dirs.into_iter().rev() {
            let there = self.look(&self.destination, dir.path()).await?;
            if there.is_some_and(|there| there.is_dir() && !there.is_implied()) {
                self.remove_tree(&dir).await?;
            }
        }
        Ok(())
    }

    /// What moves displaced is not at its old name at the source any more, and whatever of it the source
    /// has elsewhere has been settled there.
    async fn remove_aside(&self) -> Result<(), Stop> {
        let aside = std::mem::take(&mut *lock(&self.aside));
        for aside in aside {
            let meta = self.look(&self.destination, &aside.path).await.ok().flatten();
            let (Some(meta), Some(evidence)) = (meta, Evidence::displaced(&aside)) else { continue };
            if let Err(error) = self.remove_displaced(&evidence, &meta).await {
                self.owe_error(aside.was.as_ref().unwrap_or(&aside.path), error, None).await?;
            }
        }
        Ok(())
    }

    async fn remove_displaced(&self, evidence: &Evidence, there: &Meta) -> Result<(), StoreError> {
        if !there.is_dir() {
            return self.remove_file(evidence).await;
        }
        let files = self.count_files(evidence.path(), there).await?;
        self.remove_dir(evidence, files).await
    }

    /// Deepest first, since setting an attribute below does not change a time above but a removal does.
    async fn set_dir_times(&self) -> Result<(), Stop> {
        let dirs = std::mem::take(&mut *lock(&self.dir_times));
        let each = futures::stream::iter(dirs.into_iter().rev()).map(|path| self.set_dir_time(path));
        each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await
    }

    async fn set_dir_time(&self, path: RelPath) -> Result<(), Stop> {
        let Some(Pair { source: Some(source), destination: Some(there) }) = self.look_at_both(&path).await? else {
            return Ok(());
        };
        let differ = crate::settle::attrs_differ(&source, &there, self.destination.capabilities());
        if !(source.is_dir() && there.is_dir() && differ) {
            return Ok(());
        }
        if !self.acts() {
            return Ok(());
        }
        match self.again(|| self.destination.set_attrs(&path, &source)).await {
            Ok(()) => Ok(()),
            Err(error) => self.owe_error(&path, error, None).await,
        }
    }
}
