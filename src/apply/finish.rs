//! The end of a run: files that point to others, the deletes, what moves displaced, directory times. The one place
//! that removes anything from the destination.

use super::walk::Pair;
use super::{PutOff, Shared, Stop, lock};
use crate::moves::{Aside, aside_root};
use crate::names::Line;
use crate::report::{Did, add};
use crate::store::{ErrorKind, Listed, Meta, StoreError};
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use syncd_parsers::RelPath;

/// Removals under way at one time.
const REMOVALS_MAX: usize = 32;

/// A removal that still has to be proven.
struct Removal {
    path: RelPath,
    there: Meta,
    /// Files at and below it, counted as far as the guard needs.
    files: u64,
    why: Option<Line>,
}

impl Shared {
    pub(super) async fn finish(self: Arc<Self>) -> Result<(), Stop> {
        let (publishes, removals) = self.sort_put_off()?;
        for (_, files) in publishes {
            self.publish(files).await?;
        }
        let mut removals = self.still_there(removals).await?;
        if !self.options.removes {
            add(&self.tally.left_paths, removals.len() as u64);
            removals.clear();
        }
        self.guard(&removals).await?;
        self.check_root(&removals).await?;
        self.clone().remove_all(removals).await?;
        self.remove_aside().await?;
        self.set_dir_times().await?;
        if self.acts() {
            let sync = self.again(|| self.destination.sync()).await;
            sync.map_err(|cause| Stop::Unreachable { side: "destination", cause })?;
        }
        Ok(())
    }

    /// What was put off, publishes by rank; a removal below another removal goes with it.
    #[expect(clippy::type_complexity, reason = "two lists that live for one call")]
    fn sort_put_off(
        &self,
    ) -> Result<(BTreeMap<usize, BTreeMap<RelPath, Option<Line>>>, BTreeMap<RelPath, Option<Line>>), Stop> {
        let mut publishes: BTreeMap<usize, BTreeMap<RelPath, Option<Line>>> = BTreeMap::new();
        let mut removals = BTreeMap::new();
        for item in lock(&self.put_off).drain()? {
            match item? {
                PutOff::Publish { rank, path, why } => drop(publishes.entry(rank).or_default().insert(path, why)),
                PutOff::Remove { path, why } => drop(removals.insert(path, why)),
            }
        }
        let mut top: Option<RelPath> = None;
        removals.retain(|path: &RelPath, _| {
            let covered = top.as_ref().is_some_and(|top| path.is_within(top));
            if !covered {
                top = Some(path.clone());
            }
            !covered
        });
        Ok((publishes, removals))
    }

    async fn publish(self: &Arc<Self>, files: BTreeMap<RelPath, Option<Line>>) -> Result<(), Stop> {
        let each = futures::stream::iter(files).map(|(path, why)| self.clone().settle_again(path, why));
        each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await
    }

    /// Looks at a path afresh and settles it with all below.
    async fn settle_again(self: Arc<Self>, path: RelPath, why: Option<Line>) -> Result<(), Stop> {
        let Some(pair) = self.look_at_both(&path).await? else { return Ok(()) };
        if pair.source.is_none() && pair.destination.is_none() {
            return Ok(());
        }
        self.touched(&path);
        self.clone().deep(super::Shared::place(path, why), pair).await.map(drop)
    }

    fn place(path: RelPath, why: Option<Line>) -> super::walk::Place {
        let renamed = super::Renamed::of(&crate::names::Names::default());
        super::walk::Place {
            path,
            why: why.map(Arc::new),
            written: Arc::default(),
            renamed: Arc::new(renamed),
            below_rename: false,
        }
    }

    /// The parent's time changes with what is done below it: it is set at the end.
    fn touched(&self, path: &RelPath) {
        path.parent().iter().for_each(|parent| self.dir_time_later(parent));
    }

    /// The removals for which the destination still has something, with what that is.
    async fn still_there(&self, removals: BTreeMap<RelPath, Option<Line>>) -> Result<Vec<Removal>, Stop> {
        let looks = futures::stream::iter(removals).map(|(path, why)| async move {
            match self.look(&self.destination, &path).await {
                Ok(Some(there)) => {
                    let files = if self.acts() { self.count_files(&path, &there).await } else { 0 };
                    Ok(Some(Removal { path, there, files, why }))
                }
                Ok(None) => Ok(None),
                Err(error) => self.owe_error(&path, error, why.as_ref()).await.map(|()| None),
            }
        });
        looks.buffer_unordered(REMOVALS_MAX).try_filter_map(|found| async { Ok(found) }).try_collect().await
    }

    /// Counts before anything is removed.
    async fn guard(&self, removals: &[Removal]) -> Result<(), Stop> {
        let mut files: u64 = removals.iter().map(|removal| removal.files).sum();
        let displaced = lock(&self.aside).clone();
        for aside in displaced {
            if let Ok(Some(there)) = self.look(&self.destination, &aside.path).await {
                files += self.count_files(&aside.path, &there).await;
            }
        }
        self.allow(files)
    }

    /// The source is asked once more who it is before its "not found" is believed.
    async fn check_root(&self, removals: &[Removal]) -> Result<(), Stop> {
        let Some(was) = self.root.get().filter(|_| !removals.is_empty()) else { return Ok(()) };
        let is = self.identity().await?;
        if is == *was { Ok(()) } else { Err(Stop::OtherRoot { was: was.clone(), is }) }
    }

    /// Refuses if with so many more files the run would remove more than it may.
    fn allow(&self, files: u64) -> Result<(), Stop> {
        let deletes = files + self.tally.removed_files.load(Ordering::Relaxed);
        match self.options.deletes_max {
            Some(limit) if deletes > limit => Err(Stop::Deletes { deletes, limit, removed: deletes - files }),
            _ => Ok(()),
        }
    }

    /// Files at and below a path of the destination, counted until the guard would refuse; an error counts what was seen.
    async fn count_files(&self, path: &RelPath, there: &Meta) -> u64 {
        if !there.is_dir() {
            return 1;
        }
        let enough = self.options.deletes_max.unwrap_or(u64::MAX);
        let (mut count, mut ahead) = (0, vec![path.clone()]);
        while let Some(dir) = ahead.pop() {
            let mut listing = self.destination.list(&dir);
            while let Ok(Some(listed)) = listing.try_next().await {
                match listed {
                    Listed::Entry(entry) if entry.meta.is_dir() => ahead.extend(dir.join(&entry.name)),
                    Listed::Entry(_) | Listed::Odd(_) => count += 1,
                }
                if count > enough {
                    return count;
                }
            }
        }
        count
    }

    async fn remove_all(self: Arc<Self>, removals: Vec<Removal>) -> Result<(), Stop> {
        let each = futures::stream::iter(removals).map(|removal| self.clone().remove_one(removal));
        each.buffer_unordered(REMOVALS_MAX).try_collect::<()>().await
    }

    async fn remove_one(self: Arc<Self>, removal: Removal) -> Result<(), Stop> {
        let Removal { path, there, files, why } = removal;
        match self.look(&self.source, &path).await {
            Err(error) => self.owe_error(&path, error, why.as_ref()).await,
            Ok(Some(source)) => {
                let pair = Pair { source: Some(source), destination: Some(there) };
                self.touched(&path);
                self.clone().deep_named(Self::place(path, why), pair).await.map(drop)
            }
            Ok(None) if !self.acts() => self.tell_difference(&path, Did::Remove, why.as_ref()),
            Ok(None) => {
                self.touched(&path);
                self.remove_proven(&path, &there, files, why.as_ref()).await.map(drop)
            }
        }
    }

    /// Removes what stands at a path where a file or directory of the source has to go; false if it could not be, and the
    /// path is owed.
    pub(super) async fn clear(&self, path: &RelPath, there: &Meta, why: Option<&Line>) -> Result<bool, Stop> {
        let files = self.count_files(path, there).await;
        self.allow(files)?;
        self.remove_proven(path, there, files, why).await
    }

    /// Removes what the source just answered not to have. In a flat source nothing follows for what is below,
    /// so each key there is asked for by its own name first.
    async fn remove_proven(&self, path: &RelPath, there: &Meta, files: u64, why: Option<&Line>) -> Result<bool, Stop> {
        let removed = if !there.is_dir() {
            self.remove_file(path).await
        } else if self.source.capabilities().tree {
            self.remove_dir(path, files).await
        } else {
            self.remove_keys(path).await
        };
        match removed {
            Ok(true) => {
                self.tell(path, Did::Remove, why);
                Ok(true)
            }
            Ok(false) => {
                let reason = "the source still has keys below this path that no listing shows";
                self.owe(path, reason, why).map(|()| false)
            }
            Err(error) => self.owe_error(path, error, why).await.map(|()| false),
        }
    }

    async fn remove_file(&self, path: &RelPath) -> Result<bool, StoreError> {
        self.again(|| self.destination.remove(std::slice::from_ref(path))).await?;
        add(&self.tally.removed_files, 1);
        Ok(true)
    }

    async fn remove_dir(&self, path: &RelPath, files: u64) -> Result<bool, StoreError> {
        self.again(|| self.destination.remove_tree(path)).await?;
        add(&self.tally.removed_files, files);
        add(&self.tally.removed_dirs, 1);
        Ok(true)
    }

    /// False if something below is still there at the source; that, and what leads to it, stays.
    async fn remove_keys(&self, path: &RelPath) -> Result<bool, StoreError> {
        let (mut all, mut ahead, mut dirs) = (true, vec![path.clone()], Vec::new());
        while let Some(dir) = ahead.pop() {
            let mut gone = Vec::new();
            let mut listing = self.destination.list(&dir);
            while let Some(listed) = listing.try_next().await? {
                let Listed::Entry(entry) = listed else { continue };
                let Ok(below) = dir.join(&entry.name) else { continue };
                match self.look(&self.source, &below).await? {
                    Some(_) => all = false,
                    None if entry.meta.is_dir() => ahead.push(below),
                    None => gone.push(below),
                }
            }
            self.again(|| self.destination.remove(&gone)).await?;
            add(&self.tally.removed_files, gone.len() as u64);
            dirs.push(dir);
        }
        if all {
            self.again(|| self.destination.remove_tree(path)).await?;
            add(&self.tally.removed_dirs, 1);
        }
        Ok(all)
    }

    /// What a run displaced that did not come to its end counts and goes with this one. True if there is anything:
    /// then nobody knows what that run moved where.
    pub(super) async fn find_aside(&self) -> Result<bool, Stop> {
        if self.options.interrupted_since.is_none() || !self.acts() {
            return Ok(false);
        }
        let root = aside_root();
        let left: Result<Vec<Listed>, StoreError> =
            self.again(|| async { self.destination.list(&root).try_collect().await }).await;
        let left = match left {
            Ok(left) => left,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(Stop::Unreachable { side: "destination", cause }),
        };
        let mut aside = lock(&self.aside);
        for entry in left {
            if let Listed::Entry(entry) = entry
                && let Ok(path) = root.join(&entry.name)
                && aside.iter().all(|known| known.path != path)
            {
                aside.push(Aside { was: path.clone(), path });
            }
        }
        Ok(!aside.is_empty())
    }

    /// What moves displaced is not at its old name at the source any more, and whatever of it the source
    /// has elsewhere has been settled there.
    async fn remove_aside(&self) -> Result<(), Stop> {
        let aside = std::mem::take(&mut *lock(&self.aside));
        for aside in aside {
            let meta = self.look(&self.destination, &aside.path).await.ok().flatten();
            let Some(meta) = meta else { continue };
            let removed = if meta.is_dir() {
                let files = self.count_files(&aside.path, &meta).await;
                self.remove_dir(&aside.path, files).await
            } else {
                self.remove_file(&aside.path).await
            };
            if let Err(error) = removed {
                self.owe_error(&aside.was, error, None).await?;
            }
        }
        Ok(())
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
