//! The process that is simulated: commands over faulty stores, a state directory on a disk, the ends that a process can come
//! to, and what a new one finds.

use crate::copied::copy_dir;
use crate::faulty::{Faulty, Handle};
use crate::sim::{Side, Sim};
use crate::time;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use syncd::apply::Mode;
use syncd::changelog::{self, Applied};
use syncd::checkpoint::{Key, State};
use syncd::daemon;
use syncd::job::{Import, Job, JobError, Settings};
use syncd::report::Report;
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::status::Page;
use syncd::store::Store;
use syncd::store::mem::Memory;
use syncd::tail;
use syncd::zone::Zone;
use syncd_parsers::RelPath;
use tempfile::TempDir;

/// What an operator, or a timer, starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Import,
    Make,
    Apply,
    /// Both, as the daemon does.
    Round,
    DryRun,
    Verify,
    Repair,
}

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    Done(Option<Report>),
    Failed(JobError),
    /// The process died; a new one is there.
    Died,
}

/// What a death leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// What reached a store stays, and what was written to the state but not made durable does not.
    Killed,
    /// What reached a store and was not synced is lost but for the first so many changes of the destination and of the change
    /// log.
    PowerCut(usize, usize),
    /// Everything that was written stays.
    Gentle,
}

pub struct Process {
    pub sim: Arc<Sim>,
    pub source: Arc<Faulty>,
    pub destination: Arc<Faulty>,
    pub logs_store: Arc<Faulty>,
    pub change_log: Arc<Faulty>,
    settings: Settings,
    dir: TempDir,
    starts: usize,
    job: Option<Job>,
    /// The changes' users of each window, by the digest of its manifest.
    windows: BTreeMap<String, BTreeSet<usize>>,
}

impl Process {
    pub fn new(sim: Arc<Sim>, destination: Memory, settings: Settings) -> Self {
        let (source, logs) = {
            let state = sim.state();
            (state.world.source.clone(), state.world.log_dir.clone())
        };
        // In memory where that can be had: a state directory is made durable very often.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let mut process = Self {
            source: Faulty::new(source, Side::Source, &sim),
            destination: Faulty::new(destination, Side::Destination, &sim),
            logs_store: Faulty::new(logs, Side::Logs, &sim),
            change_log: Faulty::new(Memory::tree(), Side::ChangeLog, &sim),
            sim,
            settings,
            dir,
            starts: 0,
            job: None,
            windows: BTreeMap::new(),
        };
        process.start();
        process
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join(self.starts.to_string())
    }

    pub fn state(&self) -> &State {
        &self.job.as_ref().expect("a process is running").state
    }

    fn start(&mut self) {
        let handle = |store: &Arc<Faulty>| -> Arc<dyn Store> { Arc::new(Handle(store.clone())) };
        self.job = Some(Job {
            source: handle(&self.source),
            destination: handle(&self.destination),
            pair: ("memory:source".into(), "memory:destination".into()),
            state: Arc::new(State::open(&self.state_dir()).expect("opens")),
            settings: self.settings.clone(),
            events: Arc::new(|_| {}),
            now: time::now,
        });
        self.sim.start_process();
    }

    /// Ends the process, and starts the next one with what the first one left.
    pub fn restart(&mut self, death: Death) {
        let old = self.state_dir();
        self.starts += 1;
        if death == Death::Gentle {
            self.state().commit(&[]).expect("flushes");
        }
        copy_dir(&old.join("db"), &self.state_dir().join("db"));
        if let Death::PowerCut(destination, change_log) = death {
            self.destination.lose_unsynced(destination);
            self.change_log.lose_unsynced(change_log);
        }
        self.job = None;
        fs::remove_dir_all(old).expect("removes");
        self.start();
    }

    /// Runs one command; `death` says how it died, if it did.
    pub fn run(&mut self, command: Command, death: impl FnOnce(&Self) -> Death) -> Ended {
        let (done, runtime) = time::run(async {
            tokio::select! {
                biased;
                () = self.sim.died() => None,
                done = self.command(command) => Some(done),
            }
        });
        match done {
            Some(Ok(report)) => Ended::Done(report),
            Some(Err(error)) => Ended::Failed(error),
            None => {
                self.restart(death(self));
                drop(runtime);
                Ended::Died
            }
        }
    }

    async fn command(&self, command: Command) -> Result<Option<Report>, JobError> {
        let job = self.job.as_ref().expect("a process is running");
        let logs = self.logs();
        match command {
            Command::Import => {
                let positions = tail::positions(&*logs.logs).await.map_err(changelog::ChangelogError::from)?;
                job.import(Some(positions)).await.map(Some)
            }
            Command::Make => logs.make(Some(&*job.state), time::now()).await.map(|_| None),
            Command::Apply => job.apply(&*logs.change_log, Mode::Act).await.map(|done| Some(done.report)),
            Command::Round => daemon::round(&logs, job).await.map(|(_, done)| Some(done.report)),
            Command::DryRun => job.apply(&*logs.change_log, Mode::Look).await.map(|done| Some(done.report)),
            Command::Verify => job.verify(Mode::Look).await.map(Some),
            Command::Repair => job.verify(Mode::Act).await.map(Some),
        }
    }

    /// A maker of windows that died between the manifest and the sync after it.
    pub fn make_without_sync(&mut self) {
        let (state, logs) = (self.job.as_ref().expect("a process is running").state.clone(), self.logs());
        let made = time::run(async { logs.make(Some(&*state), time::now()).await.map(drop) }).0;
        made.expect("a window");
        self.change_log.forget_sync();
    }

    fn logs(&self) -> Logs {
        Logs::new(
            Arc::new(Handle(self.logs_store.clone())),
            Arc::new(Handle(self.change_log.clone())),
            Zone::UTC,
            Scope::new("/data").expect("a root"),
        )
    }

    pub fn import(&self) -> Option<Import> {
        self.state().get(Key::Import).expect("the state can be read")
    }

    pub fn owed(&self) -> Vec<RelPath> {
        self.state().owed().map(|item| item.expect("the state can be read").0).collect()
    }

    /// Why lines are thought to be missing.
    pub fn doubts(&self) -> Vec<String> {
        Page::of(self.state(), None).expect("the state can be read").log.doubts
    }

    pub fn watched(&self) -> Vec<RelPath> {
        self.state().watched().map(|item| item.expect("the state can be read").0).collect()
    }

    /// The numbers of the lines that are in applied windows.
    pub fn applied(&mut self) -> BTreeSet<usize> {
        let applied: Option<Applied> = self.state().get(Key::Applied).expect("the state can be read");
        let (change_log, windows) = (self.change_log.inner.clone(), &mut self.windows);
        let (lines, _) = time::run(async {
            let mut lines = BTreeSet::new();
            for name in changelog::chain(&change_log).await.expect("the change log is there") {
                if applied.as_ref().is_some_and(|applied| name.seq <= applied.seq) {
                    let (manifest, sha256) = changelog::manifest(&change_log, &name).await.expect("a manifest");
                    if !windows.contains_key(&sha256) {
                        windows.insert(sha256.clone(), lines_of(&change_log, &manifest).await);
                    }
                    lines.extend(windows[&sha256].iter().copied());
                }
            }
            lines
        });
        lines
    }
}

/// Each line is written as a user with its number.
async fn lines_of(change_log: &Memory, manifest: &changelog::Manifest) -> BTreeSet<usize> {
    use futures::TryStreamExt;
    let changes: Vec<_> = changelog::changes(change_log, manifest).try_collect().await.expect("whole windows");
    let user = |change: syncd_parsers::Change| change.user?.strip_prefix('u')?.parse().ok();
    changes.into_iter().filter_map(user).collect()
}
