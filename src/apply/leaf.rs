//! One file or link: decide, do, and look again where the source moved on in between.

use super::walk::{Pair, Place};
use super::{PutOff, Shared, Stop, Watch, is_file, lock};
use crate::names::Line;
use crate::report::{Did, add};
use crate::settle::{self, Action, Trust};
use crate::store::{ErrorKind, Meta, StoreError, Time};
use crate::transfer::Transfer;
use std::sync::atomic::Ordering;
use syncd_parsers::RelPath;

/// How often a file is looked at again within one run because it changed meanwhile.
const LOOKS_MAX: usize = 5;

/// A path that is no directory at the source.
pub(super) struct Leaf {
    pub place: Place,
    /// A line said that content was written here, so the file may be open although size and time are those from before.
    pub written: bool,
}

/// What one try came to.
enum Tried {
    Settled {
        acted: bool,
    },
    /// The source or the destination is no longer what the look showed.
    LookAgain,
}

impl Shared {
    /// Settles one path that is a file or a link at the source; true if that changed anything.
    pub(super) async fn settle_leaf(&self, leaf: Leaf, mut pair: Pair) -> Result<bool, Stop> {
        add(&self.tally.settled_paths, 1);
        let path = &leaf.place.path;
        for _ in 0..LOOKS_MAX {
            match self.try_leaf(&leaf, pair).await {
                Ok(Tried::Settled { acted }) => return Ok(acted),
                Ok(Tried::LookAgain) => {}
                Err(Fault::Stop(stop)) => return Err(stop),
                Err(Fault::Store(error)) => {
                    return self.owe_error(path, error, leaf.place.line()).await.map(|()| false);
                }
            }
            match self.look_at_both(path).await? {
                None => return Ok(false),
                Some(again) if again.source.as_ref().is_some_and(|meta| !meta.is_dir()) => pair = again,
                Some(again) => return self.became_other(&leaf, again),
            }
        }
        self.watch(path, Watch::Busy, leaf.place.line()).map(|()| false)
    }

    /// Gone, or a directory by now: a line says so, or will. A directory is left to its own name.
    fn became_other(&self, leaf: &Leaf, pair: Pair) -> Result<bool, Stop> {
        let Leaf { place, written } = leaf;
        match pair.source {
            None => {
                let written = written.then(|| place.path.clone());
                self.gone(place, written.into_iter().collect(), pair.destination.is_some())?;
            }
            Some(_) => self.watch(&place.path, Watch::Busy, place.line())?,
        }
        Ok(false)
    }

    async fn try_leaf(&self, leaf: &Leaf, mut pair: Pair) -> Result<Tried, Fault> {
        self.complete_file(&leaf.place.path, &mut pair).await?;
        let trust = self.trust(&leaf.place, &pair);
        let (source, there) = (pair.source.as_ref(), pair.destination.as_ref());
        let decision = settle::decide(source, there, self.destination.capabilities(), trust);
        let Some(source) = source else { return Ok(Tried::LookAgain) };
        let action = match decision.action {
            Action::Nothing | Action::SetAttrs if self.options.compare_all && is_file(source) && source.len > 0 => {
                Action::Compare
            }
            action => action,
        };
        if !self.acts() {
            return self.say(leaf, action, source, there).await;
        }
        let destroys = decision.clear || action == Action::Copy;
        if destroys && there.is_some() && self.postpone(&leaf.place, decision.clear).await? {
            return Ok(Tried::Settled { acted: false });
        }
        if decision.clear
            && let Some(there) = there
            && !self.clear(&leaf.place, source, there).await?
        {
            return Ok(Tried::Settled { acted: false });
        }
        self.act(leaf, action, source, there).await
    }

    async fn act(&self, leaf: &Leaf, action: Action, source: &Meta, there: Option<&Meta>) -> Result<Tried, Fault> {
        let (path, why) = (&leaf.place.path, leaf.place.line());
        match action {
            Action::Copy => return self.copy(leaf, source, there, false).await,
            Action::Compare => return self.compare(leaf, source, there).await,
            Action::Nothing | Action::SetAttrs => {
                add(&self.tally.by_size_and_time_files, u64::from(is_file(source)));
                if leaf.written && is_file(source) && !self.is_quiet(leaf, source).await? {
                    return Ok(Tried::LookAgain);
                }
            }
            Action::MakeLink => {
                self.again(|| self.destination.put_link(path, source)).await?;
                add(&self.tally.made_links, 1);
                self.tell(path, Did::MakeLink, why);
            }
            Action::MakeDir | Action::Remove => return Ok(Tried::LookAgain),
        }
        if action == Action::SetAttrs {
            self.again(|| self.destination.set_attrs(path, source)).await?;
            add(&self.tally.attrs_paths, 1);
            self.tell(path, Did::SetAttrs, why);
        }
        Ok(Tried::Settled { acted: action != Action::Nothing })
    }

    /// Whether a file that looks the same, though something was written to it, really is: not open, and still the same in a
    /// look *after* that answer. (A writer that closes between a look and the answer leaves no line behind.)
    /// An open one is watched.
    async fn is_quiet(&self, leaf: &Leaf, source: &Meta) -> Result<bool, Fault> {
        let path = &leaf.place.path;
        match self.again(|| self.source.is_open(path, source)).await {
            Ok(false) => {}
            Ok(true) => return self.watch(path, Watch::Open, leaf.place.line()).map(|()| true).map_err(Fault::Stop),
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(self.look(&self.source, path).await?.is_some_and(|now| now.len == source.len && now.mtime == source.mtime))
    }

    /// `distrust`: size and time would say that there is nothing to copy.
    async fn copy(&self, leaf: &Leaf, source: &Meta, there: Option<&Meta>, distrust: bool) -> Result<Tried, Fault> {
        let (path, why) = (&leaf.place.path, leaf.place.line());
        if let Some(rank) = self.options.publish.rank(path)
            && !self.finishing.load(Ordering::SeqCst)
        {
            let (path, why, went) = (path.clone(), why.cloned(), leaf.place.went);
            self.put_off(PutOff::Publish { rank, path, why, distrust, went })?;
            return Ok(Tried::Settled { acted: false });
        }
        let looked = (self.options.now)();
        let transfer = self.transfer(path);
        match self.again(|| transfer.copy(source)).await {
            Ok(copied) => {
                add(&self.tally.copied_files, 1);
                add(&self.tally.copied_bytes, copied.len);
                add(&self.tally.created_files, u64::from(!there.is_some_and(is_file)));
                self.tell(path, Did::Copy { bytes: copied.len }, why);
                self.watch_fresh(path, &copied, looked, why)?;
                Ok(Tried::Settled { acted: true })
            }
            Err(error) => self.not_copied(path, error, why).await,
        }
    }

    /// Reads both sides; copies if they differ. If that fails, the next run has to know that size and time prove nothing here.
    async fn compare(&self, leaf: &Leaf, source: &Meta, there: Option<&Meta>) -> Result<Tried, Fault> {
        let compared = self.compare_bytes(leaf, source, there).await;
        if let Err(Fault::Store(_)) = compared {
            self.watch(&leaf.place.path, Watch::Fresh, leaf.place.line())?;
        }
        compared
    }

    async fn compare_bytes(&self, leaf: &Leaf, source: &Meta, there: Option<&Meta>) -> Result<Tried, Fault> {
        let (path, why) = (&leaf.place.path, leaf.place.line());
        let Some(there) = there else { return self.copy(leaf, source, None, false).await };
        let looked = (self.options.now)();
        match self.same_bytes(path, source, there).await {
            Ok(false) => return self.copy(leaf, source, Some(there), true).await,
            Ok(true) => {}
            Err(error) => return self.not_copied(path, error, why).await,
        }
        self.tell(path, Did::Compare { bytes: source.len }, why);
        self.watch_fresh(path, source, looked, why)?;
        let holds = self.destination.capabilities();
        let acted = settle::attrs_differ(source, there, holds);
        if acted {
            self.again(|| self.destination.set_attrs(path, source)).await?;
            add(&self.tally.attrs_paths, 1);
        }
        Ok(Tried::Settled { acted })
    }

    async fn same_bytes(&self, path: &RelPath, source: &Meta, there: &Meta) -> Result<bool, StoreError> {
        add(&self.tally.compared_files, 1);
        add(&self.tally.compared_bytes, source.len);
        let transfer = self.transfer(path);
        self.again(|| transfer.same_bytes(source, there)).await
    }

    async fn not_copied(&self, path: &RelPath, error: StoreError, why: Option<&Line>) -> Result<Tried, Fault> {
        match error.kind {
            ErrorKind::Open => {
                self.watch(path, Watch::Open, why)?;
                Ok(Tried::Settled { acted: false })
            }
            ErrorKind::NotFound | ErrorKind::Changed | ErrorKind::AlreadyExists => Ok(Tried::LookAgain),
            ErrorKind::PermissionDenied
            | ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Unsupported
            | ErrorKind::NoSpace
            | ErrorKind::Other => Err(Fault::Store(error)),
        }
    }

    /// A file whose time is so near to the look at it that it could change again without showing it.
    fn watch_fresh(&self, path: &RelPath, copied: &Meta, looked: Time, why: Option<&Line>) -> Result<(), Stop> {
        let fresh = copied.mtime.is_some_and(|Time(mtime)| mtime >= looked.0 - super::FRESH.as_nanos() as i64);
        if fresh && copied.len > 0 { self.watch(path, Watch::Fresh, why) } else { Ok(()) }
    }

    /// A run that only looks: says what a run that acts would do.
    async fn say(&self, leaf: &Leaf, action: Action, source: &Meta, there: Option<&Meta>) -> Result<Tried, Fault> {
        let (path, why) = (&leaf.place.path, leaf.place.line());
        let did = match action {
            Action::Nothing => {
                add(&self.tally.by_size_and_time_files, u64::from(is_file(source)));
                None
            }
            Action::Compare => match there {
                Some(there) if self.same_or_open(path, source, there).await? => None,
                _ => Some(Did::Copy { bytes: source.len }),
            },
            Action::SetAttrs => Some(Did::SetAttrs),
            Action::Copy => Some(Did::Copy { bytes: source.len }),
            Action::MakeLink => Some(Did::MakeLink),
            Action::MakeDir => Some(Did::MakeDir),
            Action::Remove => Some(Did::Remove),
        };
        if let Some(did) = did {
            self.tell_difference(path, did, why)?;
        }
        Ok(Tried::Settled { acted: false })
    }

    async fn same_or_open(&self, path: &RelPath, source: &Meta, there: &Meta) -> Result<bool, StoreError> {
        match self.same_bytes(path, source, there).await {
            Err(error) if error.kind == ErrorKind::Open => Ok(true),
            compared => compared,
        }
    }

    /// How far size and time are evidence at this path.
    fn trust(&self, place: &Place, pair: &Pair) -> Trust {
        let known_fresh = self.is_fresh(&place.path);
        let before = if known_fresh { Some(Time(i64::MIN)) } else { self.options.interrupted_since };
        let doubtful = self.has_twin(place, pair) || came_unmoved(place) || place.distrust;
        Trust { before, size_and_time: !doubtful }
    }

    /// Counts the file among those below renamed names; on the second look, says whether it has a twin there.
    fn has_twin(&self, place: &Place, pair: &Pair) -> bool {
        if !place.below_rename {
            return false;
        }
        let (path, unit) = (&place.path, self.time_unit());
        let mut twins = lock(&self.twins);
        if place.renamed.doubtful.load(Ordering::SeqCst) {
            return pair.source.as_ref().is_some_and(|source| twins.has_twin(path.name(), source, unit));
        }
        twins.see(path, pair.source.as_ref(), pair.destination.as_ref(), unit);
        false
    }

    /// Looks up what listings left out, where that matters: both sides have a file of one size.
    async fn complete_file(&self, path: &RelPath, pair: &mut Pair) -> Result<(), Fault> {
        match (&pair.source, &pair.destination) {
            (Some(source), Some(there)) if source.kind == there.kind && source.len == there.len => {
                Ok(self.complete(path, pair).await?)
            }
            _ => Ok(()),
        }
    }

    fn transfer<'a>(&'a self, path: &'a RelPath) -> Transfer<'a> {
        Transfer { source: &*self.source, destination: &*self.destination, path, budget: &self.budget }
    }
}

/// True where a rename ended and the destination moved nothing: what it holds was there before, and if it has the size and the time
/// of what the rename brought that may be chance. It is compared on the first look.
fn came_unmoved(place: &Place) -> bool {
    let first = !place.renamed.doubtful.load(Ordering::SeqCst);
    first && place.below_rename && !place.renamed.is_moved(&place.path)
}

/// What stands in the way of one path, or of the run.
enum Fault {
    Store(StoreError),
    Stop(Stop),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}
