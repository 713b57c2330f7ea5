//! A run: makes the destination agree with the source at every path that it is given, in the order moves, data, what
//! points to data, deletes, directory times. Import gives it every path, replay the names of a window, verification
//! every path with leave only to look. Knows neither logs nor checkpoints.

mod doubt;
mod evidence;
mod finish;
mod leaf;
mod walk;

use crate::moves::{self, Move, Moved, Routes, Twins};
use crate::names::{Gone, Lately, Names, Written};
use crate::publish::Publish;
use crate::report::{Did, Event, Report, Tally, add};
use crate::settle::DirTime;
use crate::spool::Spool;
use crate::store::{ErrorKind, Kind, Meta, Store, StoreError, Time};
use crate::transfer::Budget;
use backon::{ExponentialBuilder, Retryable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use syncd_parsers::RelPath;
use tokio::sync::{OnceCell, Semaphore};
use tracing::warn;

use crate::names::Line;

/// Files that are settled at one time; most of them wait for their bytes to be durable.
const FILES_MAX: usize = 128;
/// Directories that are compared at one time.
const DIRS_MAX: usize = 8;
/// Look-ups under way at one time.
const LOOKS_MAX: usize = 64;
/// How long after a file's time a look is too early to trust size and time: the unit of its store's clock, and what two
/// clocks may be apart.
const FRESH: Duration = Duration::from_secs(2);
/// Up to how many names that renames may have given to written files are noted where something is owed.
const OTHER_NAMES_MAX: usize = 1_000;
/// How many tries an operation has before its path is owed.
const TRIES: usize = 5;

/// Whether a run may change the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Act,
    /// Only look: count and tell what would be done.
    Look,
}

/// What a run may do and how it judges.
#[derive(Clone)]
pub struct Options {
    pub mode: Mode,
    /// False for an import: what only the destination has is counted and left, since neither a log nor a
    /// verification named it.
    pub removes: bool,
    /// How many files may be removed; beyond it nothing is.
    pub deletes_max: Option<u64>,
    pub publish: Publish,
    /// A run that did not come to its end began then: files from that time on may have been copied too early.
    pub interrupted_since: Option<Time>,
    /// Files that were copied a moment after they were written, and paths owed since a rename: size and time prove nothing
    /// about them, or about what is below them.
    pub fresh: Arc<HashSet<RelPath>>,
    /// Read the bytes of every file on both sides.
    pub compare_all: bool,
    /// The clock.
    pub now: Arc<dyn Fn() -> Time + Send + Sync>,
}

/// Where a run leaves what outlives it. Called from many tasks.
pub trait Notebook: Send + Sync {
    /// The path could not be settled and stays owed.
    ///
    /// # Errors
    ///
    /// It could not be noted durably: the run must stop.
    fn owe(&self, path: &RelPath, reason: &str, why: Option<&Line>) -> Result<(), BoxError>;

    /// The file has to be looked at again without a further line.
    ///
    /// # Errors
    ///
    /// As for [`Notebook::owe`].
    fn watch(&self, path: &RelPath, reason: Watch) -> Result<(), BoxError>;

    /// The source has nothing at these paths any more. A rename that took it elsewhere may be read later, and then size and time
    /// say nothing about where it went. Called before anything is removed.
    ///
    /// # Errors
    ///
    /// It could not be noted durably: nothing must be removed.
    fn lose(&self, paths: &[RelPath], how: Gone) -> Result<(), BoxError>;

    /// A directory was looked at on the way to what is named below it. `time` is given where no name says why its time is
    /// another one than the destination has.
    fn see_dir(&self, path: &RelPath, time: Option<DirTime>);

    /// Something was done, or would be.
    fn event(&self, event: &Event<'_>);
}

pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a file is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watch {
    /// A writer has it open.
    Open,
    /// It was copied so soon after its last change that a later change could have the same time; or it is owed, and
    /// a rename may have brought other bytes there.
    Fresh,
    /// It changed each time that it was read.
    Busy,
    /// Something was written to it, and it could not be asked whether it is open: a path above it is owed.
    Unseen,
    /// The same, and a rename may have brought it here.
    Led,
}

impl Watch {
    /// What it means where the file is named again.
    #[must_use]
    pub fn written(self) -> Written {
        match self {
            Self::Open | Self::Fresh | Self::Busy | Self::Led => Written::Seen,
            Self::Unseen => Written::Said,
        }
    }
}

/// Why a run ended before its end. The destination is in a good state, the checkpoint must not move.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error(
        "at least {deletes} files would be removed, more than the {limit} allowed by --max-delete; {}. \
         `syncd apply --dry-run --explain` shows them with their reasons; if they are right, give a larger --max-delete",
        so_far(*.removed)
    )]
    Deletes {
        deletes: u64,
        limit: u64,
        /// What was removed before, in the same run.
        removed: u64,
    },
    #[error("the source root was replaced during the run: it was {was}, it is {is}; nothing was removed since")]
    OtherRoot { was: String, is: String },
    #[error("the source root is gone, or is no directory any more; nothing was removed since. Is it mounted?")]
    NoRoot,
    #[error("the {side} store does not answer")]
    Unreachable {
        side: &'static str,
        #[source]
        cause: StoreError,
    },
    #[error("what has to outlive this run could not be kept")]
    Notebook(#[source] BoxError),
    #[error("a temporary file failed")]
    Spool(#[from] std::io::Error),
    #[error("a task of the run failed")]
    Task(#[from] tokio::task::JoinError),
}

fn so_far(removed: u64) -> String {
    match removed {
        0 => "nothing was removed".to_owned(),
        removed => format!("only {removed} that stood in the way of something else were removed"),
    }
}

/// One run between two stores. `part` may be called any number of times, then `finish` once.
pub struct Run {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn Store>,
    destination: Arc<dyn Store>,
    notebook: Arc<dyn Notebook>,
    options: Options,
    tally: Tally,
    budget: Budget,
    files: Arc<Semaphore>,
    dirs: Arc<Semaphore>,
    looks: Semaphore,
    /// What waits for the end: the deletes, and files that point to others.
    put_off: Mutex<Spool<PutOff>>,
    /// Directories whose times are set when nothing below them changes any more.
    dir_times: Mutex<BTreeSet<RelPath>>,
    aside: Mutex<Vec<moves::Aside>>,
    /// What an earlier run had put aside is among it.
    adopted: AtomicBool,
    /// Files whose removal was allowed.
    allowed_files: AtomicU64,
    /// Written files that the source no longer has under this name, though the destination does: a rename in a later
    /// part may say where they went.
    carried: Mutex<Vec<RelPath>>,
    /// What was lost in this run, while renames are still read.
    lately: Mutex<Lately>,
    /// See [`Gone::Left`].
    left: Mutex<BTreeSet<RelPath>>,
    /// The written files that the part was given.
    written: Mutex<Arc<BTreeMap<RelPath, Written>>>,
    /// Where renames may have taken them, each with the name that was given.
    other_names: Mutex<Arc<BTreeSet<(RelPath, RelPath)>>>,
    /// Where the part's renames lead from and to.
    ends: Mutex<Arc<BTreeSet<RelPath>>>,
    /// `Options::fresh`, and where the part's renames may have taken them.
    fresh: Mutex<Arc<HashSet<RelPath>>>,
    /// Files that this run has put on the watch list as fresh, which they stay whatever else is found about them.
    copied_fresh: Mutex<HashSet<RelPath>>,
    /// What was seen below renamed names, in all parts.
    twins: Mutex<Twins>,
    /// Where renames of the parts before lead from and to.
    ends_before: Mutex<Spool<RelPath>>,
    /// The identity of the source root when the run began.
    root: OnceCell<String>,
    /// Set while what was put off is done.
    finishing: AtomicBool,
}

#[derive(Debug, Serialize, Deserialize)]
enum PutOff {
    Remove {
        path: RelPath,
        why: Option<Line>,
    },
    Publish {
        rank: usize,
        path: RelPath,
        why: Option<Line>,
        /// Size and time say that the destination has it already, and they are wrong.
        distrust: bool,
        /// See [`walk::Place`].
        went: bool,
    },
}

impl Run {
    pub fn new(
        source: Arc<dyn Store>,
        destination: Arc<dyn Store>,
        notebook: Arc<dyn Notebook>,
        options: Options,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                destination,
                notebook,
                options,
                tally: Tally::default(),
                budget: Budget::default(),
                files: Arc::new(Semaphore::new(FILES_MAX)),
                dirs: Arc::new(Semaphore::new(DIRS_MAX)),
                looks: Semaphore::new(LOOKS_MAX),
                put_off: Mutex::default(),
                dir_times: Mutex::default(),
                aside: Mutex::default(),
                adopted: AtomicBool::new(false),
                allowed_files: AtomicU64::new(0),
                carried: Mutex::default(),
                lately: Mutex::default(),
                left: Mutex::default(),
                written: Mutex::default(),
                other_names: Mutex::default(),
                ends: Mutex::default(),
                fresh: Mutex::default(),
                copied_fresh: Mutex::default(),
                twins: Mutex::default(),
                ends_before: Mutex::default(),
                root: OnceCell::new(),
                finishing: AtomicBool::new(false),
            }),
        }
    }

    /// For a source root that is known from before; otherwise it is the one that the first part finds.
    #[must_use]
    pub fn rooted(self, identity: String) -> Self {
        let _: Result<(), _> = self.shared.root.set(identity);
        self
    }

    /// Moves and settles what `names` names. Deletes and what is published last wait for [`Run::finish`].
    ///
    /// # Errors
    ///
    /// The run cannot go on. A dropped future leaves every path old, new, or (a name that is being replaced by
    /// another kind) absent; a repeated run mends that.
    pub async fn part(&self, mut names: Names) -> Result<(), Stop> {
        let shared = &self.shared;
        for path in std::mem::take(&mut *lock(&shared.carried)) {
            names.add_written(&path, Written::Said);
        }
        shared.check_root().await?;
        let given = Arc::new(names.written());
        let (since, routes) = (Routes::of(names.hints()), Routes::of(names.known_hints()));
        let others = names.follow_written(&given, |path, written| match written {
            Written::No => Vec::new(),
            Written::Seen => routes.forward_since(&since, path),
            Written::Said => [routes.forward_since(&since, path), routes.forward(path)].concat(),
        });
        *lock(&shared.written) = given.clone();
        *lock(&shared.other_names) = Arc::new(others);
        let renamed = Arc::new(Renamed::of(&names));
        shared.note_renames(&names, &renamed)?;
        *lock(&shared.fresh) = Arc::new(followed(&shared.options.fresh, &since, &routes));
        self.adopt_aside(&names).await;
        if !lock(&shared.aside).is_empty() && shared.options.interrupted_since.is_some() {
            lock(&shared.twins).doubt_all(); // nobody knows what the run before moved where
        }
        names.owed().iter().filter(|path| !path.is_root()).for_each(|path| shared.leave(path));
        let moved = self.do_moves(&names).await;
        renamed.moved.get_or_init(|| moved.iter().map(|step| step.to.clone()).collect());
        shared.doubt_removed(&names, &moved, &since);
        shared.clone().walk(&names, &renamed).await?;
        // Where renames may have led is found anew from what was given: carried too, it would multiply in each part.
        lock(&shared.carried).retain(|path| given.contains_key(path));
        self.check_twins(&renamed).await?;
        shared.clone().settle_postponed(&renamed).await
    }

    /// Does what was put off: publishes, removes, sets directory times, and returns once all is durable.
    ///
    /// # Errors
    ///
    /// As for [`Run::part`]; with [`Stop::Deletes`] nothing has been removed.
    pub async fn finish(self) -> Result<Report, Stop> {
        let shared = self.shared;
        shared.clone().check_twins_of_all().await?;
        shared.finishing.store(true, Ordering::SeqCst);
        shared.clone().finish().await?;
        Ok(shared.tally.report())
    }

    /// The counters so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.tally.report()
    }

    /// What a run that did not come to its end had put aside is this run's: to be looked at for twins, to be counted among
    /// the deletes, and to be removed with them.
    async fn adopt_aside(&self, names: &Names) {
        let shared = &self.shared;
        let wanted = shared.options.interrupted_since.is_some() || !names.hints().is_empty();
        if shared.acts() && wanted && !shared.adopted.swap(true, Ordering::SeqCst) {
            let left = moves::left_aside(&*shared.destination).await;
            lock(&shared.aside).extend(left);
        }
    }

    async fn do_moves(&self, names: &Names) -> Vec<Move> {
        let shared = &self.shared;
        if shared.options.mode == Mode::Look || names.hints().is_empty() {
            return Vec::new();
        }
        let numbers = lock(&shared.aside).iter().map(moves::Aside::number).max().map_or(0, |last| last + 1);
        let Moved { moves, aside } =
            moves::perform(&*shared.source, &*shared.destination, names.hints(), numbers).await;
        for step in &moves {
            add(&shared.tally.moved_paths, 1);
            let why = names.root().find(&step.to).and_then(|node| node.line());
            shared.tell(&step.to, Did::Move { from: step.from.clone() }, why.map(|line| &**line));
        }
        lock(&shared.aside).extend(aside);
        moves
    }

    /// Looks again at what was taken for equal below renamed names, where a twin makes that doubtful. A run that only looks
    /// would tell everything there twice, and leaves it out.
    async fn check_twins(&self, renamed: &Arc<Renamed>) -> Result<(), Stop> {
        let shared = &self.shared;
        if shared.options.mode == Mode::Look {
            return Ok(());
        }
        let aside: Vec<moves::Aside> = lock(&shared.aside).clone();
        for aside in &aside {
            shared.see_twins(&aside.path).await;
        }
        if lock(&shared.twins).any() { shared.clone().walk_renamed(renamed).await } else { Ok(()) }
    }
}

/// The paths, and where renames may have taken them that were read since they were noted.
fn followed(paths: &HashSet<RelPath>, since: &Routes, routes: &Routes) -> HashSet<RelPath> {
    let further = paths.iter().flat_map(|path| routes.forward_since(since, path));
    paths.iter().cloned().chain(further).collect()
}

/// The ends of a part's renames, and what is known of them.
struct Renamed {
    ends: BTreeSet<RelPath>,
    /// What is settled when no file is doubtful any more.
    postponed: Mutex<Spool<(RelPath, Option<Line>)>>,
    /// Set for the second look, in which a file with a twin is compared byte by byte.
    doubtful: AtomicBool,
    /// Where this part's moves led.
    moved: OnceLock<HashSet<RelPath>>,
}

impl Renamed {
    fn of(names: &Names) -> Self {
        let ends = names.hints().iter().flat_map(|hint| [hint.from.clone(), hint.to.clone()]).collect();
        Self::at(ends)
    }

    fn at(ends: BTreeSet<RelPath>) -> Self {
        Self { ends, postponed: Mutex::default(), doubtful: AtomicBool::new(false), moved: OnceLock::new() }
    }

    /// True if what the destination has here came with a move of this part.
    fn is_moved(&self, path: &RelPath) -> bool {
        let Some(moved) = self.moved.get().filter(|moved| !moved.is_empty()) else { return false };
        path.ancestors().any(|at| moved.contains(&at))
    }

    /// Ends that lie below no other.
    fn topmost(&self) -> Vec<RelPath> {
        let mut topmost: Vec<RelPath> = Vec::new();
        for end in &self.ends {
            if topmost.last().is_none_or(|top| !end.is_within(top)) {
                topmost.push(end.clone());
            }
        }
        topmost
    }
}

impl Shared {
    fn note_renames(&self, names: &Names, renamed: &Renamed) -> Result<(), Stop> {
        lock(&self.twins).rename(names.hints());
        let before = std::mem::replace(&mut *lock(&self.ends), Arc::new(renamed.ends.clone()));
        let mut ends_before = lock(&self.ends_before);
        Ok(before.iter().try_for_each(|end| ends_before.push(end.clone()))?)
    }

    /// A part may have trusted what a later one shows to have a twin.
    async fn check_twins_of_all(self: Arc<Self>) -> Result<(), Stop> {
        let mut ends: BTreeSet<RelPath> = lock(&self.ends_before).drain()?.collect::<Result<_, _>>()?;
        if ends.is_empty() || !self.acts() || !lock(&self.twins).any() {
            return Ok(());
        }
        ends.extend(lock(&self.ends).iter().cloned());
        *lock(&self.ends) = Arc::new(ends.clone());
        let renamed = Arc::new(Renamed::at(ends));
        self.clone().walk_renamed(&renamed).await?;
        self.settle_postponed(&renamed).await
    }

    fn tell(&self, path: &RelPath, did: Did, why: Option<&Line>) {
        self.notebook.event(&Event { path, did, why });
    }

    fn owe(&self, path: &RelPath, reason: &str, why: Option<&Line>) -> Result<(), Stop> {
        add(&self.tally.owed_paths, 1);
        self.leave(path);
        self.notebook.owe(path, reason, why).map_err(Stop::Notebook)?;
        self.watch_below(path, why)?;
        if self.is_fresh(path) || self.meets_rename(path) {
            self.watch(path, Watch::Fresh, why)?; // what a move brought there is still to be compared
        }
        self.tell(path, Did::Owe { reason: reason.to_owned() }, why);
        Ok(())
    }

    /// Nobody asked whether the written files below an owed path are open, and no line will say again that they were written.
    fn watch_below(&self, path: &RelPath, why: Option<&Line>) -> Result<(), Stop> {
        let (given, others) = (lock(&self.written).clone(), lock(&self.other_names).clone());
        // (what was seen before stays watched while something above it is owed)
        let said = given.range(path.clone()..).take_while(|(file, _)| file.is_within(path));
        let said = said.filter(|(file, written)| *file != path && **written == Written::Said).map(|(file, _)| file);
        said.into_iter().try_for_each(|file| self.watch(file, Watch::Unseen, why))?;
        let led = others.range((path.clone(), RelPath::root())..).take_while(|(name, _)| name.is_within(path));
        for (name, from) in led.filter(|(name, _)| name != path && !given.contains_key(name)) {
            // Names of names would multiply; the one that was given leads to them again while the renames are remembered.
            let few = others.len() <= OTHER_NAMES_MAX;
            if few { self.watch(name, Watch::Led, why)? } else { self.watch(from, Watch::Unseen, why)? }
        }
        Ok(())
    }

    /// Owes the path an error stands in the way of; stops if the store is gone altogether.
    async fn owe_error(&self, path: &RelPath, error: StoreError, why: Option<&Line>) -> Result<(), Stop> {
        if error.kind == ErrorKind::Unavailable {
            for (side, store) in [("source", &self.source), ("destination", &self.destination)] {
                store.identity().await.map_err(|cause| Stop::Unreachable { side, cause })?;
            }
        }
        warn!(%path, error = chain(&error), "owed: it will be tried again");
        if self.acts() && self.meets_rename(path) {
            self.see_twins(path).await; // what is trusted elsewhere may be the twin of what stays here
        }
        self.owe(path, &chain(&error), why)
    }

    fn watch(&self, path: &RelPath, reason: Watch, why: Option<&Line>) -> Result<(), Stop> {
        add(&self.tally.watched_files, 1);
        let reason = match reason {
            Watch::Busy | Watch::Unseen | Watch::Led
                if self.is_fresh(path) || lock(&self.copied_fresh).contains(path) =>
            {
                Watch::Fresh
            }
            reason => reason,
        };
        if reason == Watch::Fresh {
            lock(&self.copied_fresh).insert(path.clone());
        }
        self.notebook.watch(path, reason).map_err(Stop::Notebook)?;
        let words = match reason {
            Watch::Open => "a writer has it open",
            Watch::Fresh => "it changed a moment before it was copied",
            Watch::Busy => "it changed each time that it was read",
            Watch::Unseen => "it was written to, and something above it could not be settled",
            Watch::Led => "a file that was written to may have come here, and something above it could not be settled",
        };
        self.tell(path, Did::Watch { reason: words.to_owned() }, why);
        Ok(())
    }

    fn leave(&self, path: &RelPath) {
        lock(&self.lately).lose(path, Gone::Left);
    }

    /// Size and time prove nothing about the path, or about what is above it.
    fn is_fresh(&self, path: &RelPath) -> bool {
        let fresh = lock(&self.fresh).clone();
        !fresh.is_empty() && path.ancestors().any(|at| fresh.contains(&at))
    }

    /// At, below or above an end of a rename of this part.
    fn meets_rename(&self, path: &RelPath) -> bool {
        let ends = lock(&self.ends).clone();
        walk::within(path, &ends).next().is_some() || path.ancestors().any(|at| ends.contains(&at))
    }

    /// Stops if the source root is not the one that the run began with.
    async fn check_root(&self) -> Result<(), Stop> {
        let is = self.again(|| self.source.identity()).await.map_err(|cause| match cause.kind {
            ErrorKind::NotFound => Stop::NoRoot,
            _ => Stop::Unreachable { side: "source", cause },
        })?;
        let was = self.root.get_or_init(|| async { is.clone() }).await.clone();
        if was == is { Ok(()) } else { Err(Stop::OtherRoot { was, is }) }
    }

    fn put_off(&self, what: PutOff) -> Result<(), Stop> {
        Ok(lock(&self.put_off).push(what)?)
    }

    async fn look(&self, store: &Arc<dyn Store>, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        let _permit = self.looks.acquire().await.expect("this semaphore is never closed");
        self.again(|| store.lookup(path)).await
    }

    /// Makes a call, and makes it again after faults that pass.
    async fn again<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        call: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        call.retry(delays())
            .when(|error| error.kind.is_transient())
            .notify(|_, _| add(&self.tally.retried_calls, 1))
            .await
    }

    fn dir_time_later(&self, path: &RelPath) {
        if !path.is_root() {
            lock(&self.dir_times).insert(path.clone());
        }
    }

    fn acts(&self) -> bool {
        self.options.mode == Mode::Act
    }

    /// The unit, in nanoseconds, in which times of both sides can be compared.
    fn time_unit(&self) -> i64 {
        let unit = self.destination.capabilities().time_unit.unwrap_or(Duration::from_secs(1));
        i64::try_from(unit.as_nanos()).unwrap_or(i64::MAX).max(1)
    }
}

fn delays() -> ExponentialBuilder {
    let shortest = Duration::from_millis(100);
    ExponentialBuilder::default().with_min_delay(shortest).with_max_times(TRIES - 1).with_jitter()
}

/// An error with its causes, outermost first, as one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A lock whose holder panicked holds what it held: every critical section here is one assignment or insertion.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_file(meta: &Meta) -> bool {
    meta.kind == Kind::File
}
