//! What an operator asks for: import, apply, verify. Orders the parts around a run: is this the right source, what is
//! owed from before, what has to be remembered afterwards.

use crate::apply::{BoxError, Mode, Notebook, Options, Run, Stop, Watch};
use crate::changelog::{self, Applied, ChangelogError, Manifest};
use crate::checkpoint::{Key, Owed, Set, State, StateError, Watched, set, unset};
use crate::clock::store_time;
use crate::names::{Gone, Lately, Line, Names};
use crate::publish::Publish;
use crate::report::{Event, Report, time};
use crate::status::{LastRun, Page};
use crate::store::{ErrorKind, Store, StoreError, Time};
use crate::tail::Position;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use syncd_parsers::RelPath;
use tracing::debug;

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
/// What a percentage of `--max-delete` that nobody asked for never forbids.
const DELETES_ALWAYS: u64 = 1000;
const DELETES_PERCENT: u64 = 50;

/// Two stores, and what is remembered about them.
pub struct Job {
    pub source: Arc<dyn Store>,
    pub destination: Arc<dyn Store>,
    /// As the operator wrote them, made absolute.
    pub pair: (String, String),
    pub state: Arc<State>,
    pub settings: Settings,
    pub events: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
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
        let notes = self.notes(before)?;
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
        if !names_anything && self.before(self.settings.retry)?.is_empty() {
            if mode == Mode::Act && !windows.is_empty() {
                done.windows = windows.len() as u64;
                done.to = self.commit_group(&windows, &Report::default(), None)?.or(done.to);
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
        let notes = self.notes(before)?;
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
        self.state.commit(&[set(Key::Verified, &verified)])?;
        self.write_page(Some(&report), None)?;
        Ok(report)
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
        let notes = self.notes(before)?;
        names.remember(notes.lately().clone());
        let run = self.run(&notes, mode, true, running, self.fresh()?)?;
        for (manifest, _) in group {
            let mut changes = std::pin::pin!(changelog::changes(change_log, manifest));
            while let Some(change) = changes.next().await {
                let change = change?;
                names.add(&change);
                notes.lately().read(&change);
                done.changes += 1;
                if names.len() >= self.settings.names_max {
                    run.part(std::mem::take(&mut names)).await?;
                    names.remember(notes.lately().clone());
                }
            }
        }
        run.part(names).await?;
        let report = run.finish().await?;
        done.windows += group.len() as u64;
        if mode == Mode::Act {
            notes.clear_settled()?;
            done.to = self.commit_group(group, &report, Some(set(Key::Lately, &*notes.lately())))?.or(done.to);
        }
        done.report += report;
        Ok(())
    }

    /// The checkpoint moves: the last thing of a group of windows.
    fn commit_group(
        &self,
        group: &[(Manifest, String)],
        report: &Report,
        lately: Option<Set>,
    ) -> Result<Option<DateTime<Utc>>, JobError> {
        let files = self.state.get::<u64>(Key::Files)?.unwrap_or_default();
        let files = (files + report.created_files).saturating_sub(report.removed_files);
        let mut sets = vec![unset(Key::Running), set(Key::Files, &files)];
        let last = group.last().map(|(manifest, sha256)| Applied {
            seq: manifest.seq,
            manifest_sha256: sha256.clone(),
            to: manifest.to,
        });
        sets.extend(last.as_ref().map(|applied| set(Key::Applied, applied)));
        sets.extend(lately);
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

    /// What is owed and watched, and is to be looked at again.
    fn before(&self, watched: Retry) -> Result<Before, StateError> {
        let (all, watched_all) = (self.settings.retry == Retry::All, watched == Retry::All);
        let now = (self.now)();
        let mut before = Before::default();
        for item in self.state.owed() {
            let (path, owed) = item?;
            if all || is_due(owed.since, owed.tried, now, RETRY_OWED_MAX) {
                before.owed.insert(path);
            }
        }
        for item in self.state.watched() {
            let (path, state) = item?;
            if watched_all || is_due(state.since, state.tried, now, RETRY_WATCHED_MAX) {
                before.watched.insert(path);
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
            now: crate::clock::store_now,
        };
        let notes: Arc<dyn Notebook> =
            if mode == Mode::Act { notes.clone() } else { Arc::new(OnlyEvents(self.events.clone())) };
        let run = Run::new(self.source.clone(), self.destination.clone(), notes, options);
        let pair = self.state.get::<Pair>(Key::Pair)?;
        Ok(match pair {
            Some(pair) => run.rooted(pair.source_identity),
            None => run,
        })
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

    fn notes(&self, before: Before) -> Result<Arc<Notes>, StateError> {
        let (state, events) = (self.state.clone(), self.events.clone());
        let lately = Mutex::new(state.get(Key::Lately)?.unwrap_or_default());
        Ok(Arc::new(Notes { state, events, now: self.now, before: Mutex::new(before), lately }))
    }
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
    events: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
    now: fn() -> DateTime<Utc>,
    before: Mutex<Before>,
    lately: Mutex<Lately>,
}

/// What was owed and watched when the run began, is looked at in it, and has not been noted again.
#[derive(Default)]
struct Before {
    owed: HashSet<RelPath>,
    watched: HashSet<RelPath>,
    /// What this run owes: nothing is known of what is below it.
    owed_now: HashSet<RelPath>,
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
        let mut names = Names::default();
        self.owed.iter().for_each(|path| {
            names.add_deep(path);
            names.add_written(path); // whether it is open may not have been asked yet
        });
        self.watched.iter().for_each(|path| names.add_written(path));
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
        let looked_at = before.watched.iter().filter(|path| before.was_looked_at(path));
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

    fn event(&self, event: &Event<'_>) {
        (self.events)(event);
    }
}

/// A run that only looks leaves nothing behind.
struct OnlyEvents(Arc<dyn Fn(&Event<'_>) + Send + Sync>);

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
    fn what_was_never_tried_or_after_now_is_due() {
        assert!(is_due(at(0), None, at(0), RETRY_OWED_MAX));
        assert!(is_due(at(0), Some(at(50)), at(10), RETRY_OWED_MAX), "the clock was set back");
        assert!(!is_due(at(0), Some(at(0)), at(1), RETRY_OWED_MAX));
    }
}
