//! What an operator asks for: import, apply, verify. Orders the parts around a run: is this the right source, what is
//! owed from before, what has to be remembered afterwards.

use crate::apply::{BoxError, Mode, Notebook, Options, Run, Stop, Watch};
use crate::changelog::{self, Applied, ChangelogError, Manifest};
use crate::checkpoint::{Key, Owed, Set, State, StateError, Watched, set, unset};
use crate::clock::store_time;
use crate::losses::{Findings, Gathered, Ledger, Losses, Sightings, Suspect};
use crate::names::{Gone, Lately, Line, Names, Written};
use crate::publish::Publish;
use crate::report::{Did, Event, Report, time};
use crate::settle::DirTime;
use crate::status::{LastRun, Page};
use crate::store::{ErrorKind, Store, StoreError, Time};
use crate::tail::Position;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use syncd_parsers::{Change, Op, RelPath};
use tracing::{debug, warn};

/// See [`Settings::names_max`].
const NAMES_MAX: usize = 250_000;
/// Changes of several small windows that are settled together.
const CHANGES_MAX: u64 = 250_000;
/// After this time an open file is owed, and so visible.
const OPEN_MAX: TimeDelta = TimeDelta::hours(24);
/// How long a daemon waits before it looks again at what is owed or watched: as long as that has been so, within these.
const RETRY_FIRST: TimeDelta = TimeDelta::seconds(3);
const RETRY_OWED_MAX: TimeDelta = TimeDelta::minutes(10);
const RETRY_WATCHED_MAX: TimeDelta = TimeDelta::minutes(1);
/// Lines that name everything may make syncd walk both sides for a tenth of the time, no longer.
const FULL_LOOK_REST: i32 = 9;
/// What a percentage of `--max-delete` that nobody asked for never forbids.
const DELETES_ALWAYS: u64 = 1000;
const DELETES_PERCENT: u64 = 50;

/// Where it is told what was done at each path.
pub type Events = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Two stores, and what is remembered about them.
pub struct Job {
    pub source: Arc<dyn Store>,
    pub destination: Arc<dyn Store>,
    /// As the operator wrote them, made absolute.
    pub pair: (String, String),
    pub state: Arc<State>,
    pub settings: Settings,
    pub events: Events,
    pub now: fn() -> DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub deletes: Deletes,
    pub publish: Publish,
    /// Read every byte on both sides.
    pub compare_all: bool,
    pub retry: Retry,
    /// Names that are settled at one time: the memory budget of a window. A larger one is applied in parts.
    pub names_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (deletes, publish, retry) = (Deletes::default(), Publish::default(), Retry::default());
        Self { deletes, publish, compare_all: false, retry, names_max: NAMES_MAX }
    }
}

/// What of the owed and watched paths an apply looks at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// All: somebody asked for it.
    #[default]
    All,
    /// What is due, so that a daemon does not spend its rounds on paths that stay as they are.
    Due,
}

/// How many files one run may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletes {
    /// Half of what the destination holds, but 1,000 at least.
    #[default]
    Half,
    Files(u64),
    /// Of the files that the destination holds.
    Percent(u64),
}

/// Which stores a state directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub source: String,
    pub destination: String,
    pub source_identity: String,
    pub destination_identity: String,
}

/// The full copy that windows follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Noted before the first listing, so that what changes meanwhile is replayed.
    pub started: DateTime<Utc>,
    pub finished: Option<DateTime<Utc>>,
    /// Where the audit logs ended then, if their directory was given.
    pub positions: Option<Vec<Position>>,
}

/// The last walk over both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub at: DateTime<Utc>,
    pub differing_paths: u64,
    /// Every byte was read, rather than sizes and times.
    pub content: bool,
}

/// Looks at everything that lines asked for: whoever may write a line can ask for one in every window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FullLook {
    /// When the last one ended.
    at: Option<DateTime<Utc>>,
    took_ms: i64,
    /// The next one is owed.
    pub due: Option<FullLookDue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullLookDue {
    pub reason: String,
    pub since: DateTime<Utc>,
}

/// A run that is, or was, under way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Running {
    since: DateTime<Utc>,
}

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("refused: {0}")]
    Refused(String),
    #[error("{0}")]
    NotReady(String),
    #[error(transparent)]
    Stopped(#[from] Stop),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Changelog(#[from] ChangelogError),
    #[error("the {side} {uri} cannot be used")]
    Store {
        side: &'static str,
        uri: String,
        #[source]
        cause: StoreError,
    },
}

impl JobError {
    /// True if a guard stopped the job, and a person has to decide.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Stopped(Stop::Deletes { .. } | Stop::NoRoot | Stop::OtherRoot { .. }) => true,
            Self::Changelog(error) => error.is_refusal(),
            Self::State(error) => error.is_refusal(),
            Self::NotReady(_) | Self::Stopped(_) | Self::Store { .. } => false,
        }
    }
}

/// What an apply did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Applying {
    pub report: Report,
    pub windows: u64,
    pub changes: u64,
    /// The checkpoint afterwards.
    pub to: Option<DateTime<Utc>>,
}

impl Job {
    /// Copies everything, and goes on where an earlier try ended: what is equal is not copied again.
    /// `positions` is where the audit logs ended before this call.
    ///
    /// # Errors
    ///
    /// A guard refused, or the run could not come to its end; calling again goes on.
    pub async fn import(&self, positions: Option<Vec<Position>>) -> Result<Report, JobError> {
        self.destination.create_root().await.map_err(|cause| self.unusable("destination", cause))?;
        self.check_pair(true).await?;
        let import = match self.state.get::<Import>(Key::Import)? {
            Some(import) => import,
            None => Import { started: (self.now)(), finished: None, positions },
        };
        self.state.commit(&[set(Key::Import, &import)])?;
        self.write_page(None, None)?;
        let running = self.start().await?;
        let before = self.before(Retry::All)?;
        let names = before.everything();
        let notes = self.notes(before, self.events.clone())?;
        let run = self.run(&notes, Mode::Act, false, running, self.fresh()?)?;
        run.part(names).await?;
        let report = run.finish().await?;
        if import.finished.is_none() {
            notes.clear_settled()?; // later on a removal may be owed, which an import does not do
        }
        let finished = Import { finished: Some((self.now)()), ..import };
        let files = report.by_size_and_time_files + report.copied_files + report.compared_files;
        self.state.commit(&[set(Key::Import, &finished), set(Key::Files, &files), unset(Key::Running)])?;
        self.write_page(Some(&report), None)?;
        Ok(report)
    }

    /// Applies every window of the change log that follows the checkpoint, with what is owed and watched from before.
    /// With [`Mode::Look`] says what that would do, and changes nothing.
    ///
    /// # Errors
    ///
    /// A guard refused, or the run could not come to its end: the checkpoint stands where it stood.
    pub async fn apply(&self, change_log: &dyn Store, mode: Mode) -> Result<Applying, JobError> {
        self.check_pair(false).await?;
        let import = self.finished_import()?;
        let applied: Option<Applied> = self.state.get(Key::Applied)?;
        let windows = changelog::after(change_log, applied.as_ref()).await?;
        if applied.is_none() {
            follows_import(&import, windows.first())?;
        }
        let mut done = Applying { to: applied.map(|applied| applied.to), ..Applying::default() };
        let names_anything = windows.iter().any(|(manifest, _)| manifest.data.changes > 0);
        if !names_anything && self.before(self.settings.retry)?.is_empty() && !self.owes_a_full_look()? {
            if mode == Mode::Act && !windows.is_empty() {
                done.windows = windows.len() as u64;
                keep(change_log, &windows).await?;
                done.to = self.commit_group(&windows, &Report::default(), self.losses()?, Vec::new())?.or(done.to);
            }
            self.write_page(None, None)?;
            return Ok(done);
        }
        self.check_not_emptied().await?;
        for group in groups(&windows) {
            self.apply_group(change_log, group, mode, &mut done).await?;
        }
        if mode == Mode::Act {
            self.write_page(Some(&done.report), None)?;
        }
        Ok(done)
    }

    /// Walks both sides. With [`Mode::Act`] what differs is mended.
    ///
    /// # Errors
    ///
    /// A guard refused, or the run could not come to its end.
    pub async fn verify(&self, mode: Mode) -> Result<Report, JobError> {
        self.check_pair(false).await?;
        self.check_not_emptied().await?;
        let running = if mode == Mode::Act { self.start().await? } else { None };
        let before = self.before(Retry::All)?;
        let names = before.everything();
        let gathered = Arc::new(Mutex::new(Gathered::default()));
        let notes = self.notes(before, self.gathering(&gathered)?)?;
        let run = self.run(&notes, mode, true, running, self.fresh()?)?;
        run.part(names).await?;
        let report = run.finish().await?;
        let verified = Verified {
            at: (self.now)(),
            // What could not be looked at is not known to be equal.
            differing_paths: if mode == Mode::Look { report.differing_paths + report.owed_paths } else { 0 },
            content: self.settings.compare_all,
        };
        if mode == Mode::Act {
            notes.clear_settled()?;
            self.state.commit(&[unset(Key::Running)])?;
        }
        let saw_all = mode == Mode::Act || report.owed_paths == 0;
        self.note_verified(&verified, mode, std::mem::take(&mut *locked(&gathered)), saw_all)?;
        self.write_page(Some(&report), None)?;
        Ok(report)
    }

    /// When everything was looked at last.
    fn saw_all(&self) -> Result<Option<DateTime<Utc>>, StateError> {
        let imported = self.state.get::<Import>(Key::Import)?.and_then(|import| import.finished);
        let verified = self.state.get::<Verified>(Key::Verified)?.map(|verified| verified.at);
        Ok(imported.max(verified))
    }

    /// What a verification says of the log: what no line named is lost, or its line is still to come.
    fn note_verified(&self, verified: &Verified, mode: Mode, found: Gathered, saw_all: bool) -> Result<(), StateError> {
        let before: Findings = self.state.get(Key::Findings)?.unwrap_or_default();
        let findings = Findings::new(verified.at, mode == Mode::Act, found, &before);
        let mut ledger: Ledger = self.state.get(Key::Ledger)?.unwrap_or_default();
        if saw_all {
            ledger.verified(&findings);
        }
        self.state.commit(&[set(Key::Verified, verified), set(Key::Findings, &findings), set(Key::Ledger, &ledger)])
    }

    /// Events that also gather at which paths the two sides differ; not what is owed or watched, of which that is known.
    fn gathering(&self, gathered: &Arc<Mutex<Gathered>>) -> Result<Events, StateError> {
        let owed = self.state.owed().map(|item| Ok(item?.0)).collect::<Result<HashSet<RelPath>, StateError>>()?;
        let watched = self.state.watched().map(|item| Ok(item?.0)).collect::<Result<HashSet<RelPath>, StateError>>()?;
        let (events, gathered) = (self.events.clone(), gathered.clone());
        let goes_with_a_line = self.source.capabilities().tree;
        Ok(Arc::new(move |event: &Event<'_>| {
            let above = || event.path.ancestors().chain([RelPath::root()]);
            if is_difference(&event.did) && !watched.contains(event.path) && !above().any(|path| owed.contains(&path)) {
                locked(&gathered).add(event.path, goes_with_a_line && matches!(event.did, Did::Remove));
            }
            events(event);
        }))
    }

    /// [`Job::verify`] for two stores that no import is known of.
    ///
    /// # Errors
    ///
    /// As for [`Job::verify`].
    pub async fn verify_alone(&self, mode: Mode) -> Result<Report, JobError> {
        self.check_pair(true).await?;
        self.verify(mode).await
    }

    /// Keeps the error of a job for `syncd status`.
    ///
    /// # Errors
    ///
    /// The page could not be written.
    pub fn note_failure(&self, error: &JobError) -> Result<(), StateError> {
        self.write_page(None, Some(crate::apply::chain(error)))
    }

    async fn apply_group(
        &self,
        change_log: &dyn Store,
        group: &[(Manifest, String)],
        mode: Mode,
        done: &mut Applying,
    ) -> Result<(), JobError> {
        let running = if mode == Mode::Act { self.start().await? } else { None };
        // A watched file may have been renamed by this very group, and only its being named here finds it again.
        let before = self.before(if group.is_empty() { self.settings.retry } else { Retry::All })?;
        let mut names = before.names();
        let notes = self.notes(before, self.events.clone())?;
        names.remember(notes.lately().clone());
        let run = self.run(&notes, mode, true, running, self.fresh()?)?;
        let mut losses = self.losses()?;
        if running.is_some() {
            losses.ledger.suspect_nothing();
        }
        *locked(&notes.sightings) = Sightings::after(&losses.ledger, self.saw_all()?);
        let mut in_parts = false;
        let mut full = self.full_look()?;
        full.begin(&mut names);
        for (manifest, _) in group {
            let mut changes = std::pin::pin!(changelog::changes(change_log, manifest));
            while let Some(change) = changes.next().await {
                let change = change?;
                notes.lately().read(&change);
                losses.explain(&change);
                done.changes += 1;
                if full.grants(&change, manifest) {
                    names.add(&change);
                }
                if names.len() >= self.settings.names_max {
                    run.part(names.take()).await?;
                    in_parts = true;
                    names.remember(notes.lately().clone());
                }
            }
        }
        run.part(names).await?;
        let report = run.finish().await?;
        done.windows += group.len() as u64;
        if mode == Mode::Act {
            notes.clear_settled()?;
            keep(change_log, group).await?;
            let looked = full.end((self.now)());
            let mut sightings = std::mem::take(&mut *locked(&notes.sightings));
            if in_parts || looked.due.is_some() {
                sightings.suspect_nothing();
            }
            losses.ledger.suspect(sightings);
            let sets = vec![set(Key::Lately, &*notes.lately()), set(Key::FullLook, &looked)];
            done.to = self.commit_group(group, &report, losses, sets)?.or(done.to);
        }
        done.report += report;
        Ok(())
    }

    /// The checkpoint moves: the last thing of a group of windows.
    fn commit_group(
        &self,
        group: &[(Manifest, String)],
        report: &Report,
        losses: Losses,
        mut sets: Vec<Set>,
    ) -> Result<Option<DateTime<Utc>>, JobError> {
        let files = self.state.get::<u64>(Key::Files)?.unwrap_or_default();
        let files = (files + report.created_files).saturating_sub(report.removed_files);
        let Losses { mut ledger, mut findings } = losses;
        group.iter().for_each(|(manifest, _)| ledger.apply(manifest));
        if let Some((last, _)) = group.last() {
            ledger.lost_paths += findings.reach(last.to);
            ledger.overdue(last).iter().try_for_each(|suspect| self.owe_suspect(suspect))?;
        }
        sets.extend([unset(Key::Running), set(Key::Files, &files), set(Key::Ledger, &ledger)]);
        sets.push(set(Key::Findings, &findings));
        let last = group.last().map(|(manifest, sha256)| Applied::of(manifest, sha256));
        sets.extend(last.as_ref().map(|applied| set(Key::Applied, applied)));
        let gap = group.iter().rev().find(|(manifest, _)| !manifest.gaps.is_empty());
        let first = match (gap, self.state.get::<DateTime<Utc>>(Key::LogSince)?) {
            (Some((manifest, _)), _) => Some(manifest.to), // the gap lies somewhere before
            (None, None) => group.first().map(|(manifest, _)| manifest.from),
            (None, Some(_)) => None,
        };
        sets.extend(first.map(|since| set(Key::LogSince, &since)));
        self.state.commit(&sets)?;
        Ok(last.map(|applied| applied.to))
    }

    /// What a directory's entries are by now only a look at all of them tells.
    fn owe_suspect(&self, suspect: &Suspect) -> Result<(), StateError> {
        let (dir, reason) = (&suspect.dir, suspect.to_string());
        warn!(%dir, reason, "a line seems to be lost: it will be looked at with everything below");
        self.state.owe(dir, Owed { reason, since: (self.now)(), tried: None, line: None })
    }

    fn losses(&self) -> Result<Losses, StateError> {
        let ledger = self.state.get(Key::Ledger)?.unwrap_or_default();
        Ok(Losses { ledger, findings: self.state.get(Key::Findings)?.unwrap_or_default() })
    }

    /// What is owed and watched, and is to be looked at again.
    fn before(&self, watched: Retry) -> Result<Before, StateError> {
        let (all, watched_all) = (self.settings.retry == Retry::All, watched == Retry::All);
        let now = (self.now)();
        let mut before = Before { of_keys: !self.source.capabilities().tree, ..Before::default() };
        for item in self.state.owed() {
            let (path, owed) = item?;
            if all || is_due(owed.since, owed.tried, now, RETRY_OWED_MAX) {
                before.owed.insert(path);
            }
        }
        for item in self.state.watched() {
            let (path, state) = item?;
            if watched_all || is_due(state.since, state.tried, now, RETRY_WATCHED_MAX) {
                before.watched.insert(path, state.reason);
            }
        }
        Ok(before)
    }

    fn fresh(&self) -> Result<HashSet<RelPath>, StateError> {
        let fresh = self.state.watched().filter_map(|item| match item {
            Ok((path, watched)) => (watched.reason == Watch::Fresh).then_some(Ok(path)),
            Err(error) => Some(Err(error)),
        });
        fresh.collect()
    }

    fn run(
        &self,
        notes: &Arc<Notes>,
        mode: Mode,
        removes: bool,
        interrupted: Option<Running>,
        fresh: HashSet<RelPath>,
    ) -> Result<Run, StateError> {
        let options = Options {
            mode,
            removes,
            deletes_max: (mode == Mode::Act).then(|| self.deletes_max()),
            publish: self.settings.publish.clone(),
            interrupted_since: interrupted.map(|running| earlier(store_time(running.since))),
            fresh: Arc::new(fresh),
            compare_all: self.settings.compare_all,
            now: self.clock(),
        };
        let notes: Arc<dyn Notebook> =
            if mode == Mode::Act { notes.clone() } else { Arc::new(OnlyEvents(notes.events.clone())) };
        let run = Run::new(self.source.clone(), self.destination.clone(), notes, options);
        let pair = self.state.get::<Pair>(Key::Pair)?;
        Ok(match pair {
            Some(pair) => run.rooted(pair.source_identity),
            None => run,
        })
    }

    /// The job's clock, as stores keep times.
    fn clock(&self) -> Arc<dyn Fn() -> Time + Send + Sync> {
        let now = self.now;
        Arc::new(move || store_time(now()))
    }

    fn deletes_max(&self) -> u64 {
        let files = self.state.get::<u64>(Key::Files).ok().flatten().unwrap_or_default();
        match self.settings.deletes {
            Deletes::Half => (files * DELETES_PERCENT / 100).max(DELETES_ALWAYS),
            Deletes::Files(limit) => limit,
            Deletes::Percent(percent) => files * percent / 100,
        }
    }

    /// Notes that a run begins; returns the earlier one that did not come to its end, if there was one. What that one was
    /// writing aside is removed.
    async fn start(&self) -> Result<Option<Running>, JobError> {
        let earlier = self.state.get::<Running>(Key::Running)?;
        match earlier {
            None => self.state.commit(&[set(Key::Running, &Running { since: (self.now)() })])?,
            Some(_) => self.destination.create_root().await.map_err(|cause| self.unusable("destination", cause))?,
        }
        Ok(earlier)
    }

    /// Refuses a root that is not the one of the import: not mounted, replaced, another bucket.
    async fn check_pair(&self, first: bool) -> Result<(), JobError> {
        let identity = |side, store: &Arc<dyn Store>| {
            let store = store.clone();
            async move { store.identity().await.map_err(|cause| self.missing(side, cause)) }
        };
        let (source_identity, destination_identity) =
            (identity("source", &self.source).await?, identity("destination", &self.destination).await?);
        let (source, destination) = self.pair.clone();
        let now = Pair { source, destination, source_identity, destination_identity };
        match self.state.get::<Pair>(Key::Pair)? {
            Some(known) if known == now => Ok(()),
            Some(known) => Err(JobError::Refused(differs(&known, &now))),
            None if first => Ok(self.state.commit(&[set(Key::Pair, &now)])?),
            None => Err(JobError::NotReady(
                "this state directory knows of no import; run `syncd migrate-import` with it first".to_owned(),
            )),
        }
    }

    fn missing(&self, side: &'static str, cause: StoreError) -> JobError {
        if cause.kind == ErrorKind::NotFound {
            let uri = if side == "source" { &self.pair.0 } else { &self.pair.1 };
            return JobError::Refused(format!("there is no {side} root {uri}; is it mounted, and is its name right?"));
        }
        self.unusable(side, cause)
    }

    fn unusable(&self, side: &'static str, cause: StoreError) -> JobError {
        let uri = if side == "source" { self.pair.0.clone() } else { self.pair.1.clone() };
        JobError::Store { side, uri, cause }
    }

    /// An empty source beside a destination with files is taken for a mistake.
    async fn check_not_emptied(&self) -> Result<(), JobError> {
        if self.state.get::<u64>(Key::Files)?.unwrap_or_default() == 0 {
            return Ok(());
        }
        match self.source.list(&RelPath::root()).next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(cause)) => Err(self.missing("source", cause)),
            None => Err(JobError::Refused(format!(
                "the source {} is empty, and the destination is not; nothing was deleted. If it was emptied on \
                 purpose, empty the destination by hand and import again with a new state directory",
                self.pair.0
            ))),
        }
    }

    fn finished_import(&self) -> Result<Import, JobError> {
        let import = self.state.get::<Import>(Key::Import)?.filter(|import| import.finished.is_some());
        import.ok_or_else(|| {
            JobError::NotReady("the import has not finished; run `syncd migrate-import` again, it goes on".to_owned())
        })
    }

    fn write_page(&self, report: Option<&Report>, error: Option<String>) -> Result<(), StateError> {
        let at = (self.now)();
        let last_run = LastRun { at, report: report.cloned().unwrap_or_default(), error };
        let page = Page::of(&self.state, Some(last_run))?;
        debug!(sentence = %page.sentence, "status");
        self.state.write_status(&page)
    }

    fn full_look(&self) -> Result<FullLooks, StateError> {
        let last: FullLook = self.state.get(Key::FullLook)?.unwrap_or_default();
        Ok(FullLooks { last, began: (self.now)(), looks: false })
    }

    fn owes_a_full_look(&self) -> Result<bool, StateError> {
        let full = self.full_look()?;
        Ok(full.last.due.is_some() && full.may_look())
    }

    fn notes(&self, before: Before, events: Events) -> Result<Arc<Notes>, StateError> {
        let state = self.state.clone();
        let lately = Mutex::new(state.get(Key::Lately)?.unwrap_or_default());
        let sightings = Mutex::default();
        Ok(Arc::new(Notes { state, events, now: self.now, before: Mutex::new(before), lately, sightings }))
    }
}

/// What one run makes of lines that name everything.
struct FullLooks {
    last: FullLook,
    began: DateTime<Utc>,
    looks: bool,
}

impl FullLooks {
    fn may_look(&self) -> bool {
        let clock_was_ahead = self.last.at.is_some_and(|at| self.began < at);
        self.looks || clock_was_ahead || self.last.next().is_none_or(|next| self.began >= next)
    }

    /// One that is owed is made as soon as it may be.
    fn begin(&mut self, names: &mut Names) {
        if self.last.due.is_some() && self.may_look() {
            names.add_deep(&RelPath::root());
            self.looks = true;
        }
    }

    /// True unless the change names everything, and everything was looked at a short time ago: then that is owed.
    fn grants(&mut self, change: &Change, manifest: &Manifest) -> bool {
        if !names_everything(change) {
            return true;
        }
        if manifest.rescan_all || self.may_look() {
            if !self.looks {
                warn!(log = change.log, offset = change.offset, "a line names everything: both sides are walked");
            }
            self.looks = true;
            return true;
        }
        let (log, offset, next) = (&change.log, change.offset, self.last.next().unwrap_or(self.began));
        let took = self.last.took_ms / 1000;
        let reason = format!(
            "{log}:{offset} names everything: the last look at it took {took} s, and the next is made after {}",
            time(next)
        );
        self.last.due.get_or_insert(FullLookDue { reason, since: self.began });
        false
    }

    fn end(self, now: DateTime<Utc>) -> FullLook {
        if !self.looks {
            return self.last;
        }
        FullLook { at: Some(now), took_ms: (now - self.began).num_milliseconds().max(0), due: None }
    }
}

impl FullLook {
    /// The earliest time for another one; `None` if there was none yet.
    fn next(&self) -> Option<DateTime<Utc>> {
        Some(self.at? + TimeDelta::milliseconds(self.took_ms) * FULL_LOOK_REST)
    }
}

fn names_everything(change: &Change) -> bool {
    let deep = matches!(change.op, Op::Rename | Op::Delete | Op::Rescan);
    deep && (change.path.is_root() || change.to.as_ref().is_some_and(RelPath::is_root))
}

fn is_difference(did: &Did) -> bool {
    match did {
        Did::Move { .. } | Did::Copy { .. } | Did::SetAttrs | Did::MakeDir | Did::MakeLink | Did::Remove => true,
        Did::Compare { .. } | Did::Owe { .. } | Did::Watch { .. } => false,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes windows durable that are about to be done with. Whoever made them may have died before he did that, and a checkpoint
/// must not outlive its window.
async fn keep(change_log: &dyn Store, group: &[(Manifest, String)]) -> Result<(), ChangelogError> {
    if group.is_empty() { Ok(()) } else { Ok(change_log.sync().await?) }
}

/// The first window has to begin where the import did, or before.
fn follows_import(import: &Import, first: Option<&(Manifest, String)>) -> Result<(), JobError> {
    match first {
        Some((manifest, _)) if manifest.from > import.started && !manifest.rescan_all => {
            Err(JobError::Refused(format!(
                "the first window begins at {}, but the import began at {}: what changed between is in no window. \
                 Make the change log again with `--since {}`, or with `--accept-gap` to settle everything once",
                time(manifest.from),
                time(import.started),
                time(import.started),
            )))
        }
        _ => Ok(()),
    }
}

fn differs(known: &Pair, now: &Pair) -> String {
    let pairs = [
        ("source", &known.source, &now.source),
        ("destination", &known.destination, &now.destination),
        ("source root", &known.source_identity, &now.source_identity),
        ("destination root", &known.destination_identity, &now.destination_identity),
    ];
    let other = pairs.iter().find(|(_, known, now)| known != now);
    let (what, known, now) = other.expect("two pairs that are not equal differ somewhere");
    format!(
        "the {what} is not the one that was imported: it was {known}, it is {now}. If it is not mounted, or was \
         replaced, bring it back; for another pair of stores use another --state-dir"
    )
}

/// Windows that are settled together: as many as fit the budget, one at least; one empty group where there is none.
fn groups(windows: &[(Manifest, String)]) -> Vec<&[(Manifest, String)]> {
    if windows.is_empty() {
        return vec![&[]];
    }
    let mut groups = Vec::new();
    let (mut start, mut changes) = (0, 0);
    for (at, (manifest, _)) in windows.iter().enumerate() {
        if at > start && changes + manifest.data.changes > CHANGES_MAX {
            groups.push(&windows[start..at]);
            (start, changes) = (at, 0);
        }
        changes += manifest.data.changes;
    }
    groups.push(&windows[start..]);
    groups
}

/// What the clocks of the source and of this machine may be apart.
fn earlier(Time(nanos): Time) -> Time {
    Time(nanos.saturating_sub(60_000_000_000))
}

impl Verified {
    #[must_use]
    pub fn words(&self) -> String {
        let how = if self.content { " by content" } else { "" };
        match self.differing_paths {
            0 => format!("{}{how}", time(self.at)),
            n => format!("{}{how}, with {n} differences", time(self.at)),
        }
    }
}

/// The state's side of a run.
struct Notes {
    state: Arc<State>,
    events: Events,
    now: fn() -> DateTime<Utc>,
    before: Mutex<Before>,
    lately: Mutex<Lately>,
    sightings: Mutex<Sightings>,
}

/// What was owed and watched when the run began, is looked at in it, and has not been noted again.
#[derive(Default)]
struct Before {
    owed: HashSet<RelPath>,
    watched: HashMap<RelPath, Watch>,
    /// What this run owes: nothing is known of what is below it.
    owed_now: HashSet<RelPath>,
    /// See [`Names::of_keys`].
    of_keys: bool,
}

impl Before {
    fn owe(&mut self, path: &RelPath) {
        self.owed.remove(path);
        self.owed_now.insert(path.clone());
    }

    fn was_looked_at(&self, path: &RelPath) -> bool {
        !path.ancestors().chain([RelPath::root()]).any(|above| self.owed_now.contains(&above))
    }
}

impl Before {
    /// The whole tree, with what has to be known of single files in it.
    fn everything(&self) -> Names {
        let mut names = self.names();
        names.add_deep(&RelPath::root());
        names
    }

    fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.watched.is_empty()
    }

    fn names(&self) -> Names {
        let mut names = if self.of_keys { Names::of_keys() } else { Names::default() };
        self.owed.iter().for_each(|path| {
            names.add_deep(path);
            names.add_written(path, Written::Said); // whether it is open may not have been asked yet
        });
        self.watched.iter().for_each(|(path, watch)| names.add_written(path, watch.written()));
        names
    }
}

/// True if the last look is as long ago as the one before it was after the beginning: looks become rarer, up to
/// `longest`, the longer something stays as it is. A clock that was set back does not put the next look off.
fn is_due(since: DateTime<Utc>, tried: Option<DateTime<Utc>>, now: DateTime<Utc>, longest: TimeDelta) -> bool {
    let Some(tried) = tried else { return true };
    now < tried || now - tried >= (tried - since).clamp(RETRY_FIRST, longest)
}

impl Notes {
    /// Everything that was owed or watched before, looked at in this run and not noted again, is settled.
    fn clear_settled(&self) -> Result<(), StateError> {
        let before = std::mem::take(&mut *self.before());
        before.owed.iter().try_for_each(|path| self.state.not_owed(path))?;
        let looked_at = before.watched.keys().filter(|path| before.was_looked_at(path));
        looked_at.into_iter().try_for_each(|path| self.state.not_watched(path))
    }

    fn before(&self) -> MutexGuard<'_, Before> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notebook for Notes {
    fn owe(&self, path: &RelPath, reason: &str, why: Option<&Line>) -> Result<(), BoxError> {
        self.before().owe(path);
        let now = (self.now)();
        let owed = Owed { reason: reason.to_owned(), since: now, tried: Some(now), line: why.cloned() };
        Ok(self.state.owe(path, owed)?)
    }

    fn watch(&self, path: &RelPath, reason: Watch) -> Result<(), BoxError> {
        self.before().watched.remove(path);
        let now = (self.now)();
        let since = self.state.watch(path, Watched { reason, since: now, tried: Some(now) })?;
        if matches!(reason, Watch::Open | Watch::Busy) && now - since > OPEN_MAX {
            let reason = format!("open or changing since {}", time(since));
            self.before().owed.remove(path);
            self.state.owe(path, Owed { reason, since, tried: Some(now), line: None })?;
        }
        Ok(())
    }

    fn lose(&self, paths: &[RelPath], how: Gone) -> Result<(), BoxError> {
        let mut lately = self.lately();
        paths.iter().for_each(|path| lately.lose(path, how));
        Ok(self.state.commit(&[set(Key::Lately, &*lately)])?)
    }

    fn see_dir(&self, path: &RelPath, time: Option<DirTime>) {
        let mut sightings = locked(&self.sightings);
        match time {
            Some(time) => sightings.suspect(Suspect::new(path, (self.now)(), time)),
            None => sightings.explain(path),
        }
    }

    fn event(&self, event: &Event<'_>) {
        (self.events)(event);
    }
}

/// A run that only looks leaves nothing behind.
struct OnlyEvents(Events);

impl Notebook for OnlyEvents {
    fn owe(&self, _: &RelPath, _: &str, _: Option<&Line>) -> Result<(), BoxError> {
        Ok(())
    }

    fn watch(&self, _: &RelPath, _: Watch) -> Result<(), BoxError> {
        Ok(())
    }

    fn lose(&self, _: &[RelPath], _: Gone) -> Result<(), BoxError> {
        Ok(())
    }

    fn see_dir(&self, _: &RelPath, _: Option<DirTime>) {}

    fn event(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + seconds, 0).expect("a time")
    }

    #[test]
    fn what_stays_owed_is_tried_ever_more_rarely_but_always_again() {
        let (mut tries, mut last) = (Vec::new(), 0);
        for second in 1..4000 {
            if is_due(at(0), Some(at(last)), at(second), RETRY_OWED_MAX) {
                tries.push(second - last);
                last = second;
            }
        }
        assert_eq!(tries[..9], [3, 3, 6, 12, 24, 48, 96, 192, 384]);
        assert!(tries[9..].iter().all(|wait| *wait == 600), "{tries:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_off_a_full_look() {
        let may_look = |now| {
            let last = FullLook { at: Some(at(1000)), took_ms: 60_000, due: None };
            FullLooks { last, began: at(now), looks: false }.may_look()
        };
        assert_eq!([999, 1001, 1539, 1540].map(may_look), [true, false, false, true]);
    }

    #[test]
    fn what_was_never_tried_or_after_now_is_due() {
        assert!(is_due(at(0), None, at(0), RETRY_OWED_MAX));
        assert!(is_due(at(0), Some(at(50)), at(10), RETRY_OWED_MAX), "the clock was set back");
        assert!(!is_due(at(0), Some(at(0)), at(1), RETRY_OWED_MAX));
    }
}
