//! Every call of a story over stores in memory.

use crate::dice::Dice;
use crate::process::{Command, Death, Ended, Process};
use crate::sim::{Sim, State, Stop};
use crate::time;
use crate::watcher::Start;
use crate::world::World;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use syncd::job::Settings;
use syncd::store::mem::Memory;
use syncd::store::{Kind, RESERVED};
use syncd_parsers::RelPath;

const BEFORE: &str = "
    write t/p1
    write t/p2
    write t_new/p1
    write t_new/p2
    write log.1
    write log
    write k/f
    write gone/x
    write d/_SUCCESS
    write wal/open
";

/// Tables that change places, a log rotation, kinds that change, pointers, an open file, and what comes and goes.
const FIRST: &str = "
    rename t t_old
    rename t_new t
    rename log.1 log.2
    rename log log.1
    write log
    delete k
    write k
    delete gone
    over t_old/p1 t/p3
    write d/part
    write d/_SUCCESS
    chmod t
    open wal/open
    rotate
    write came
    delete came
";

const SECOND: &str = "
    close
    rename t_old t
    delete k
    mkdir k
    write k/f
    rename d e
    write e/part
";

/// The commands, each after what happens at the source before it.
const STORY: [(&str, Command); 6] = [
    (BEFORE, Command::Import),
    (FIRST, Command::Make),
    ("", Command::Apply),
    (SECOND, Command::Round),
    ("write late", Command::Repair),
    ("", Command::Round),
];

/// What a story took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Effort {
    calls: usize,
    /// Files written to the destination.
    puts: u64,
    deaths: usize,
}

impl Effort {
    /// What it took more than another one.
    fn over(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            puts: self.puts.saturating_sub(other.puts),
            deaths: self.deaths,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            calls: self.calls.max(other.calls),
            puts: self.puts.max(other.puts),
            deaths: self.deaths.max(other.deaths),
        }
    }
}

struct Crash {
    process: Process,
    /// Deaths that are still to come, the last one first.
    stops: Vec<Stop>,
    death: fn(&Process) -> Death,
    imported: BTreeSet<usize>,
    effort: Effort,
}

fn power_cut(process: &Process) -> Death {
    Death::PowerCut(0, process.change_log.unsynced() / 2)
}

fn half_power_cut(process: &Process) -> Death {
    Death::PowerCut(process.destination.unsynced() / 2, 0)
}

impl Crash {
    fn new(stops: &[Stop], death: fn(&Process) -> Death) -> Self {
        Self::between(Memory::tree(), Memory::tree(), stops, death)
    }

    fn between(source: Memory, destination: Memory, stops: &[Stop], death: fn(&Process) -> Death) -> Self {
        time::start("2026-06-01T10:00:00Z");
        fastrand::seed(0);
        let world = World::quiet(source);
        let sim = Arc::new(Sim::new(Dice::of(0), world));
        let process = Process::new(sim, destination, Settings::default());
        let mut stops = stops.to_vec();
        stops.reverse();
        Self { process, stops, death, imported: BTreeSet::new(), effort: Effort::default() }
    }

    /// Plays the story; a command that died is run again, as a timer would.
    fn play(mut self) -> Effort {
        self.next_stop();
        for (deeds, command) in STORY {
            self.process.sim.state().world.does(deeds);
            time::pass(chrono::TimeDelta::minutes(1));
            while !self.run(command) {}
            self.check_truth();
        }
        self.process.sim.state().stop = None;
        self.check_end();
        self.effort.calls = self.process.sim.state().trace.calls;
        self.effort.puts = self.process.destination.inner.calls().put;
        self.effort
    }

    fn next_stop(&mut self) {
        self.process.sim.state().stop = self.stops.pop();
    }

    /// True if the command came to its end.
    fn run(&mut self, command: Command) -> bool {
        self.begin(command);
        if self.process.import().is_none() {
            self.imported = (0..self.process.sim.state().world.deeds.len()).collect();
        }
        match self.process.run(command, self.death) {
            Ended::Done(_) => true,
            Ended::Died => {
                self.effort.deaths += 1;
                self.next_stop();
                self.check_truth();
                false
            }
            Ended::Failed(error) => panic!("{command:?}: {}", syncd::apply::chain(&error)),
        }
    }

    fn begin(&mut self, command: Command) {
        let (mut named, ends) = (self.ahead(false), self.ahead(true));
        named.extend(self.process.owed().into_iter().chain(self.process.watched()));
        let start = match command {
            Command::Apply | Command::Round => Start { named: Some(named), ends },
            _ => Start { named: None, ends: Vec::new() },
        };
        let destination = self.process.destination.inner.snapshot();
        let State { watcher, world, .. } = &mut *self.process.sim.state();
        watcher.begin(world, destination, start);
    }

    fn ahead(&mut self, renames: bool) -> Vec<RelPath> {
        let (applied, state) = (self.process.applied(), self.process.sim.state());
        let ahead = state.world.deeds.iter().enumerate();
        let ahead = ahead.filter(|(number, _)| !applied.contains(number) && !self.imported.contains(number));
        ahead.filter(|(_, deed)| deed.rename || !renames).flat_map(|(_, deed)| deed.paths.clone()).collect()
    }

    fn check_truth(&mut self) {
        if self.process.import().is_some_and(|import| import.finished.is_some()) {
            let ahead = self.ahead(false);
            let (owed, watched) = (self.process.owed(), self.process.watched());
            let (source, now) = (self.process.source.inner.snapshot(), self.process.destination.inner.snapshot());
            self.process.sim.state().watcher.check_truth(&source, &now, &ahead, &owed, &watched);
        }
        let mut state = self.process.sim.state();
        if let Some(what) = state.watcher.violation.take() {
            panic!("{what}\n{}", state.trace.last());
        }
    }

    fn check_end(&self) {
        let is_ours = |at: &RelPath| at.components().next() == Some(RESERVED.as_bytes());
        let held = |store: &Memory| -> Vec<String> {
            let all = store.snapshot().into_iter().filter(|(at, _)| !is_ours(at));
            all.map(|(at, (meta, bytes))| format!("{at} {:?} {bytes:?} {:?} {:?}", meta.kind, meta.mode, meta.mtime))
                .collect()
        };
        assert_eq!(held(&self.process.destination.inner), held(&self.process.source.inner));
        assert_eq!((self.process.owed(), self.process.watched()), (Vec::new(), Vec::new()));
        let left: Vec<RelPath> = self
            .process
            .destination
            .inner
            .snapshot()
            .into_iter()
            .filter(|(at, (meta, _))| is_ours(at) && meta.kind == Kind::File)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(left, []);
    }
}

fn undisturbed() -> Effort {
    Crash::new(&[], |_| Death::Killed).play()
}

const DEATHS: [fn(&Process) -> Death; 4] = [|_| Death::Killed, power_cut, |_| Death::Gentle, half_power_cut];

/// At every call, before and after its effect; every other time a second death follows soon after the new start.
#[test]
fn a_story_that_ends_at_any_call_comes_to_the_same_end() {
    let whole = undisturbed();
    assert!(whole.calls > 350 && whole.puts > 15, "the story has become too short: {whole:?}");
    let worst = Mutex::new((Effort::default(), Effort::default()));
    crate::for_each(whole.calls * 2, |number| {
        let (effect, after) = (number % 2 == 0, number / 2);
        let again = Stop { after: after * 7 % 61, effect: !effect };
        for stops in [vec![Stop { after, effect }], vec![Stop { after, effect }, again]] {
            let death = DEATHS[(after + number + stops.len()) % DEATHS.len()];
            let effort = Crash::new(&stops, death).play();
            let lost =
                DEATHS.iter().position(|other| std::ptr::fn_addr_eq(*other, death)).is_some_and(|kind| kind % 2 == 1);
            let mut worst = worst.lock().expect("no panic holds it");
            let worst = if lost { &mut worst.1 } else { &mut worst.0 };
            *worst = worst.max(effort.over(whole));
        }
    });
    let (kept, lost) = *worst.lock().expect("no panic holds it");
    println!("{whole:?}; more, where what was written stays: {kept:?}; where it is lost: {lost:?}");
    assert!(kept.deaths == 2 && lost.deaths == 2, "a second death came");
    assert!(kept.puts <= MORE_PUTS && lost.puts <= 2 * IMPORTED_FILES, "files are written again: {kept:?} {lost:?}");
    assert!(kept.calls.max(lost.calls) <= whole.calls, "calls are made again: {kept:?} {lost:?}");
}

/// Files that are copied because the move that would have saved that ended half way, in two deaths.
const MORE_PUTS: u64 = 4;
/// Files that the command writes that writes the most: a power cut takes no more back.
const IMPORTED_FILES: u64 = 11;

/// Seen in the simulation: a manifest was put, the sync after it failed, and the window was applied all the same. A power cut
/// took the manifest back, and every later pass was refused: the window that was applied last is missing.
#[test]
fn a_window_that_was_not_durable_when_it_was_made_is_durable_when_it_is_applied() {
    let mut crash = Crash::new(&[], power_cut);
    crash.process.sim.state().world.does(BEFORE);
    assert!(crash.run(Command::Import));
    crash.process.sim.state().world.does("write new");
    crash.process.make_without_sync();
    assert!(crash.process.change_log.unsynced() > 0);
    assert!(crash.run(Command::Apply));
    crash.process.restart(Death::PowerCut(0, 0));
    crash.process.sim.state().world.does("write newer");
    assert!(crash.run(Command::Round));
    crash.check_truth();
}

/// Seen in the simulation: a directory that was made in the place of a file of its own mode kept the mode in which it was
/// filled, where the destination keeps no times of directories.
#[test]
fn a_directory_in_the_place_of_a_file_of_its_mode_gets_that_mode() {
    let mut crash = Crash::between(Memory::tree(), Memory::flat(), &[], power_cut);
    crash.process.sim.state().world.does("write c");
    assert!(crash.run(Command::Import));
    crash.process.sim.state().world.does("delete c\nmkdir c\nwrite c/f");
    crash.process.source.inner.set_mode(&crate::world::path("c"), 0o644);
    assert!(crash.run(Command::Round));
    let mode = |store: &Memory| store.snapshot()[&crate::world::path("c")].0.mode;
    assert_eq!(mode(&crash.process.destination.inner), Some(0o644));
}
