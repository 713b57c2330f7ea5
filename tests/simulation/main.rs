//! The whole program in a simulated world: imports, windows, applies and verifications over stores that fail, answer late or
//! not at all, while clients work at the source, its log is rotated, and the process dies at any call. One thread, one clock
//! that stands, and dice from one seed: the same seed gives the same run.
//!
//! Phase one checks after every step that nothing is lost, torn, removed without proof or forgotten. In phase two the faults
//! stop, and everything drains by itself: the destination equals the source, and nothing is owed.
//!
//! `SYNCD_SIMULATION_SEEDS=10000 cargo test --test simulation` runs more of them, `SYNCD_SIMULATION_SEED=7` one, with
//! `SYNCD_SIMULATION_TRACE=200` the last calls before it failed.

#[path = "../common/copied.rs"]
mod copied;
#[path = "../common/dice.rs"]
mod dice;
#[allow(dead_code, reason = "the crash tests use the rest")]
mod faulty;
#[allow(dead_code, reason = "the crash tests use the rest")]
mod process;
mod sim;
mod time;
mod watcher;
#[allow(dead_code, reason = "the crash tests use the rest")]
mod world;

use chrono::TimeDelta;
use dice::Dice;
use faulty::{Faulty, Snapshot};
use process::{Command, Death, Ended, Process};
use sim::{Rates, Side, Sim};
use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use syncd::job::{JobError, Retry, Settings};
use syncd::store::mem::{Calls, Memory};
use syncd::store::{Capabilities, Kind, Meta, RESERVED, Store, Time};
use syncd_parsers::RelPath;
use watcher::Start;
use world::World;

/// Seeds of a usual run.
const SEEDS: u64 = 200;
/// Rounds within which everything has to drain.
const ROUNDS_MAX: usize = 8;

#[test]
fn whatever_fails_nothing_is_lost_and_in_the_end_both_sides_are_equal() {
    let first: Option<u64> = number("SYNCD_SIMULATION_SEED");
    let seeds = match first {
        Some(seed) => seed..seed + 1,
        None => 0..number("SYNCD_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failed;
            }
            match simulate(seed) {
                Ok((tally, _)) => all.lock().expect("no panic holds it").add(&tally),
                Err(what) => failed.push(format!("SYNCD_SIMULATION_SEED={seed}: {what}")),
            }
        }
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("panics are caught")).collect()
    });
    assert!(failed.is_empty(), "{} of {} seeds failed\n{}", failed.len(), seeds.end - seeds.start, failed.join("\n"));
    let all = all.into_inner().expect("no panic holds it");
    println!("{} seeds: {all:?}", seeds.end - seeds.start);
    if first.is_none() {
        all.assert_enough(seeds.end - seeds.start);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..6 {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// What happened, so that nobody takes a simulation for one in which nothing could go wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Tally {
    calls: u64,
    deeds: u64,
    done: u64,
    failed: u64,
    died: u64,
    power_cuts: u64,
    copied: u64,
    moved: u64,
    removed: u64,
    compared: u64,
    /// Commands after which something was owed.
    owing: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.deeds += other.deeds;
        self.done += other.done;
        self.failed += other.failed;
        self.died += other.died;
        self.power_cuts += other.power_cuts;
        self.copied += other.copied;
        self.moved += other.moved;
        self.removed += other.removed;
        self.compared += other.compared;
        self.owing += other.owing;
    }

    fn note(&mut self, ended: &Ended) {
        match ended {
            Ended::Failed(_) => self.failed += 1,
            Ended::Died => self.died += 1,
            Ended::Done(report) => {
                let report = report.clone().unwrap_or_default();
                self.done += 1;
                self.copied += report.copied_files;
                self.moved += report.moved_paths;
                self.removed += report.removed_files;
                self.compared += report.compared_files;
                self.owing += u64::from(report.owed_paths > 0);
            }
        }
    }

    fn assert_enough(&self, seeds: u64) {
        let Self { done, failed, died, power_cuts, copied, moved, removed, owing, .. } = self;
        assert!(*done > 5 * seeds && *failed > seeds / 2 && *died > seeds && *power_cuts > seeds / 4, "{self:?}");
        assert!(*copied > 5 * seeds && *moved > seeds / 4 && *removed > seeds && *owing > seeds / 4, "{self:?}");
    }
}

/// What happened, and the hash of every call and what it met; or what went wrong, with the last calls before it.
fn simulate(seed: u64) -> Result<(Tally, u64), String> {
    let mut run = Simulation::new(seed);
    let done = catch_unwind(AssertUnwindSafe(|| run.play()));
    let told = match done {
        Ok(Ok(())) => {
            let state = run.process.sim.state();
            let (calls, deeds) = (state.trace.calls as u64, state.world.deeds.len() as u64);
            return Ok((Tally { calls, deeds, ..run.tally }, state.trace.hash));
        }
        Ok(Err(what)) => what,
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()),
    };
    let sim = run.process.sim.clone();
    let text = catch_unwind(AssertUnwindSafe(|| sim.state().trace.last()));
    Err(format!("{told}\n{}", text.unwrap_or_default()))
}

struct Simulation {
    dice: Dice,
    process: Process,
    /// The deeds whose lines were in the log before the import began.
    imported: Option<BTreeSet<usize>>,
    tally: Tally,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        time::start("2026-06-01T10:00:00Z");
        fastrand::seed(seed); // what delays between tries are drawn from
        let mut dice = Dice::of(seed);
        let source = if dice.permille(750) { Memory::tree() } else { Memory::flat() };
        let mut world = World::new(source, Dice::of(seed ^ 0xd1ce));
        let destination = destination(&mut dice, &world);
        for _ in 0..dice.below(30) {
            world.act();
        }
        let settings = Settings {
            retry: dice.pick(&[Retry::All, Retry::Due]),
            names_max: dice.pick(&[20, 250_000]),
            ..Settings::default()
        };
        let sim = Arc::new(Sim::new(Dice::of(seed ^ 0xfa7e), world));
        Self { process: Process::new(sim, destination, settings), dice, imported: None, tally: Tally::default() }
    }

    fn play(&mut self) -> Result<(), String> {
        self.other_faults();
        for _ in 0..20 + self.dice.below(30) {
            self.step()?;
        }
        self.drain()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.below(100) {
            0..30 => {
                for _ in 0..1 + self.dice.below(12) {
                    time::pass(TimeDelta::milliseconds(self.dice.pick(&[0, 0, 5, 700, 3000])));
                    self.process.sim.state().world.act();
                }
            }
            30..40 => time::pass(TimeDelta::seconds(self.dice.pick(&[1, 10, 60, 700]))),
            40..48 => self.other_faults(),
            48..52 => {
                let death = self.death();
                self.process.restart(death);
                self.check_truth()?;
            }
            _ => {
                let command = self.command();
                self.run(command)?;
            }
        }
        Ok(())
    }

    fn other_faults(&mut self) {
        let mut state = self.process.sim.state();
        state.rates = Rates::any(&mut self.dice);
        let at = world::path(self.dice.pick(&["a", "b", "a/a", "b/c"]));
        let denied = self.dice.permille(200);
        state.denied = denied.then(|| (self.dice.pick(&[Side::Source, Side::Destination]), at));
    }

    fn command(&mut self) -> Command {
        let imported = self.process.import().is_some_and(|import| import.finished.is_some());
        match self.dice.below(100) {
            _ if !imported && self.dice.permille(800) => Command::Import,
            0..25 => Command::Make,
            25..50 => Command::Apply,
            50..80 => Command::Round,
            80..84 => Command::DryRun,
            84..91 => Command::Verify,
            91..95 => Command::Repair,
            _ => Command::Import,
        }
    }

    fn death(&mut self) -> Death {
        match self.dice.below(3) {
            0 => Death::Killed,
            1 => Death::Gentle,
            _ => {
                let mut left = |store: &Faulty| self.dice.below(store.unsynced() + 1);
                Death::PowerCut(left(&self.process.destination), left(&self.process.change_log))
            }
        }
    }

    fn run(&mut self, command: Command) -> Result<Ended, String> {
        self.process.sim.state().trace.add(format_args!("{command:?} at {}", time::now()));
        self.begin(command);
        self.process.sim.state().may_hide = command != Command::Import;
        let logged = self.logged();
        let (source, before) = (self.process.source.inner.snapshot(), self.process.destination.inner.snapshot());
        let dice = &mut self.dice;
        let (kind, some, others) = (dice.below(3), dice.below(1000), dice.below(1000));
        let tally = &mut self.tally;
        let ended = self.process.run(command, |process| match kind {
            0 => Death::Killed,
            1 => Death::Gentle,
            _ => {
                tally.power_cuts += 1;
                let left = |store: &Faulty, dice: usize| dice % (store.unsynced() + 1);
                Death::PowerCut(left(&process.destination, some), left(&process.change_log, others))
            }
        });
        self.tally.note(&ended);
        self.process.sim.state().trace.add(format_args!("{command:?} ended: {ended:?}"));
        if self.imported.is_none() && self.process.import().is_some() {
            self.imported = Some(logged);
        }
        self.check(command, &ended, &source, &before)?;
        Ok(ended)
    }

    /// Numbers of the deeds whose lines are in the log.
    fn logged(&self) -> BTreeSet<usize> {
        let state = self.process.sim.state();
        state.world.deeds.iter().enumerate().filter(|(_, deed)| deed.logged).map(|(number, _)| number).collect()
    }

    /// Paths of the deeds whose lines are not applied; of renames alone, if that is asked for.
    fn ahead(&mut self, renames: bool) -> Vec<RelPath> {
        let applied = self.process.applied();
        let imported = self.imported.clone().unwrap_or_default();
        let state = self.process.sim.state();
        let ahead = state.world.deeds.iter().enumerate();
        let ahead = ahead.filter(|(number, _)| !applied.contains(number) && !imported.contains(number));
        ahead.filter(|(_, deed)| deed.rename || !renames).flat_map(|(_, deed)| deed.paths.clone()).collect()
    }

    fn begin(&mut self, command: Command) {
        let applies = matches!(command, Command::Apply | Command::Round);
        let start = if applies {
            let mut named = self.ahead(false);
            named.extend(self.process.owed());
            named.extend(self.process.watched());
            Start { named: Some(named), ends: self.ahead(true) }
        } else {
            Start { named: None, ends: Vec::new() }
        };
        let destination = self.process.destination.inner.snapshot();
        let sim::State { watcher, world, .. } = &mut *self.process.sim.state();
        watcher.begin(world, destination, start);
    }

    fn check(&mut self, command: Command, ended: &Ended, source: &Snapshot, before: &Snapshot) -> Result<(), String> {
        let refused = |error: &JobError| {
            error.is_refusal()
                || matches!(error, JobError::NotReady(_) if self.imported.is_some() && self.process.import().is_some_and(|import| import.finished.is_some()))
        };
        if let Ended::Failed(error) = ended
            && refused(error)
        {
            return Err(format!("{command:?} was refused: {}", syncd::apply::chain(error)));
        }
        let now = self.process.destination.inner.snapshot();
        if matches!(command, Command::DryRun | Command::Verify) && !matches!(ended, Ended::Died) && now != *before {
            return Err(format!("{command:?} changed the destination"));
        }
        if let (Command::Verify, Ended::Done(Some(report))) = (command, ended)
            && (report.differing_paths, report.owed_paths) == (0, 0)
            && *source == self.process.source.inner.snapshot()
        {
            self.check_verified(source, &now)?;
        }
        self.check_truth()
    }

    /// A verification that found nothing is right, as far as sizes and times tell.
    fn check_verified(&self, source: &Snapshot, now: &Snapshot) -> Result<(), String> {
        let seen = |snapshot: &Snapshot| -> HashSet<(RelPath, Kind, u64)> {
            let all = snapshot.iter().filter(|(at, _)| at.components().next() != Some(RESERVED.as_bytes()));
            all.map(|(at, (meta, _))| (at.clone(), meta.kind, meta.len)).collect()
        };
        if seen(source) == seen(now) { Ok(()) } else { Err("a verification found nothing, and is wrong".to_owned()) }
    }

    fn check_truth(&mut self) -> Result<(), String> {
        if self.process.import().is_some_and(|import| import.finished.is_some()) {
            let ahead = self.ahead(false);
            let (owed, watched) = (self.process.owed(), self.process.watched());
            let (source, now) = (self.process.source.inner.snapshot(), self.process.destination.inner.snapshot());
            self.process.sim.state().watcher.check_truth(&source, &now, &ahead, &owed, &watched);
        }
        self.process.sim.state().watcher.violation.take().map_or(Ok(()), Err)?;
        self.check_doubts()
    }

    /// Every deed has a line, and where none is late nothing is suspected of having none.
    fn check_doubts(&self) -> Result<(), String> {
        let late = self.process.sim.state().world.habits.late_lines;
        let doubts = self.process.doubts();
        let doubt = doubts.into_iter().find(|doubt| doubt.starts_with("what is in ") && !late);
        doubt.map_or(Ok(()), |doubt| Err(format!("no line was lost, but {doubt}")))
    }

    /// The faults stop: what is behind is caught up with, and then a pass costs nothing.
    fn drain(&mut self) -> Result<(), String> {
        {
            let mut state = self.process.sim.state();
            (state.rates, state.denied) = (Rates::default(), None);
            state.world.rest();
        }
        let mut rounds = 0;
        while rounds == 0 || !(self.process.owed().is_empty() && self.process.watched().is_empty()) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                let (owed, watched) = (self.process.owed(), self.process.watched());
                return Err(format!("after {ROUNDS_MAX} rounds there is still owed {owed:?}, watched {watched:?}"));
            }
            time::pass(TimeDelta::minutes(11));
            if self.process.import().is_none_or(|import| import.finished.is_none()) {
                self.well(Command::Import)?;
            }
            self.well(Command::Round)?;
        }
        self.check_equal()?;
        self.check_idle()
    }

    fn well(&mut self, command: Command) -> Result<Option<syncd::report::Report>, String> {
        match self.run(command)? {
            Ended::Done(report) => Ok(report),
            ended => Err(format!("{command:?} without faults ended: {ended:?}")),
        }
    }

    fn check_equal(&mut self) -> Result<(), String> {
        let (source, now) = (&self.process.source.inner, &self.process.destination.inner);
        let held = |store: &Memory| -> Vec<String> {
            let (can, other) = (now.capabilities(), source.capabilities());
            store.snapshot().iter().filter_map(|(at, (meta, bytes))| attributes(at, meta, bytes, can, other)).collect()
        };
        let (source, held_now) = (held(source), held(now));
        if source != held_now {
            return Err(format!("source and destination differ:\n{source:#?}\n{held_now:#?}"));
        }
        let left = |(at, (meta, _)): (RelPath, (Meta, bytes::Bytes))| {
            (meta.kind == Kind::File && at.components().next() == Some(RESERVED.as_bytes())).then_some(at)
        };
        if let Some(at) = now.snapshot().into_iter().find_map(left) {
            return Err(format!("{at} was left behind"));
        }
        let report = self.well(Command::Verify)?.unwrap_or_default();
        if (report.differing_paths, report.owed_paths) == (0, 0) {
            Ok(())
        } else {
            Err(format!("a verification found: {report:?}"))
        }
    }

    fn check_idle(&mut self) -> Result<(), String> {
        let stores = [self.process.source.inner.clone(), self.process.destination.inner.clone()];
        stores.iter().for_each(Memory::reset_calls);
        self.well(Command::Round)?;
        for store in stores {
            let calls = store.calls();
            if (Calls { identity: calls.identity, ..Calls::default() }) != calls {
                return Err(format!("a pass that had nothing to do made calls: {calls:?}"));
            }
        }
        Ok(())
    }
}

/// Kind, bytes, mode and time, as far as both sides keep them.
fn attributes(at: &RelPath, meta: &Meta, bytes: &[u8], can: &Capabilities, other: &Capabilities) -> Option<String> {
    if at.components().next() == Some(RESERVED.as_bytes()) {
        return None;
    }
    let unit = can.time_unit.map_or(1, |unit| unit.as_nanos() as i64);
    let times = !meta.is_dir() || (can.dir_times && other.dir_times);
    let time = meta.mtime.filter(|_| times).map(|Time(nanos)| nanos.div_euclid(unit));
    Some(format!("{at} {:?} {:?} {:?} {time:?}", meta.kind, String::from_utf8_lossy(bytes), meta.mode))
}

/// A tree or a bucket; its times are coarse only where sizes tell files apart.
fn destination(dice: &mut Dice, world: &World) -> Memory {
    let kind = if dice.permille(700) { Memory::tree() } else { Memory::flat() };
    let units: &[u64] = if world.habits.sizes_tell { &[1, 1_000_000, 1_000_000_000] } else { &[1, 1_000] };
    let time_unit = Some(Duration::from_nanos(dice.pick(units)));
    Memory::with(Capabilities { time_unit, ..kind.capabilities().clone() })
}
