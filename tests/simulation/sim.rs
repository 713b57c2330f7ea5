//! What the stores of a simulation share: the dice that decide what a call meets, the world that goes on between calls, the
//! watcher that checks every step, and the trace.

use crate::dice::Dice;
use crate::faulty::{Snapshot, peek};
use crate::watcher::Watcher;
use crate::world::{KEPT, World};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use syncd::store::mem::Memory;
use syncd::store::{ErrorKind, Listed, Meta};
use syncd_parsers::RelPath;
use tokio::sync::Notify;

/// Which of the four stores of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
    Logs,
    ChangeLog,
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Well {
        after: Duration,
    },
    Fails(ErrorKind),
    FailsAfterwards(ErrorKind),
    /// Until somebody says that the store did not answer.
    Hangs {
        effect: bool,
    },
    /// The last call of this process.
    Dies {
        effect: bool,
    },
    /// The process is dead already.
    Dead,
}

/// In how many of a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub fails: usize,
    pub fails_afterwards: usize,
    pub hangs: usize,
    pub dies: usize,
    pub waits: usize,
    pub deeds: usize,
    /// A body ends early.
    pub cuts: usize,
    /// A listing leaves out an entry that the destination has.
    pub hides: usize,
}

impl Rates {
    pub fn any(dice: &mut Dice) -> Self {
        let mut rate = |rates: &[usize]| dice.pick(rates);
        Self {
            fails: rate(&[0, 0, 5, 20, 60]),
            fails_afterwards: rate(&[0, 0, 5, 30]),
            hangs: rate(&[0, 0, 2, 10]),
            dies: rate(&[0, 0, 1, 3, 10, 30]),
            waits: rate(&[0, 100, 400]),
            deeds: rate(&[0, 5, 20, 60]),
            cuts: rate(&[0, 0, 20]),
            hides: rate(&[0, 0, 50]),
        }
    }
}

pub struct Sim {
    state: Mutex<State>,
    died: Notify,
}

pub struct State {
    pub dice: Dice,
    pub rates: Rates,
    /// Everything at and below is refused for now.
    pub denied: Option<(Side, RelPath)>,
    pub world: World,
    pub watcher: Watcher,
    pub trace: Trace,
    /// The process dies at a call to come: after so many others, and before or after that one took effect.
    pub stop: Option<Stop>,
    /// Not for an import, which has no line for what its listings hide (docs/semantics.md, S9).
    pub may_hide: bool,
    dead: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Stop {
    pub after: usize,
    pub effect: bool,
}

impl Sim {
    pub fn new(dice: Dice, world: World) -> Self {
        let state = State {
            dice,
            rates: Rates::default(),
            denied: None,
            world,
            watcher: Watcher::default(),
            trace: Trace::default(),
            stop: None,
            may_hide: false,
            dead: false,
        };
        Self { state: Mutex::new(state), died: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds it")
    }

    /// Returns when the process is dead.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    pub fn die(&self) {
        if !std::mem::replace(&mut self.state().dead, true) {
            self.died.notify_one();
        }
    }

    pub fn start_process(&self) {
        self.state().dead = false;
    }

    /// What a call meets; the world may go on before it.
    pub fn meet(&self, side: Side, op: &'static str, at: &RelPath) -> Fate {
        let mut state = self.state();
        if state.dead {
            return Fate::Dead;
        }
        state.go_on(1);
        let fate = state.draw(side, op, at, 1);
        state.trace.add(format_args!("{side:?} {op} {at} {fate:?}"));
        fate
    }

    /// The same between two pieces of a body or a listing, more rarely.
    pub fn meet_piece(&self, side: Side, at: &RelPath) -> Fate {
        let mut state = self.state();
        if state.dead {
            return Fate::Dead;
        }
        state.go_on(2);
        let fate = state.draw(side, "piece", at, 4);
        if fate != (Fate::Well { after: Duration::ZERO }) {
            state.trace.add(format_args!("{side:?} piece {at} {fate:?}"));
        }
        fate
    }

    /// How many bytes of so many a body gives before it ends.
    pub fn cut(&self, len: usize) -> usize {
        let mut state = self.state();
        let cuts = state.rates.cuts;
        if len > 0 && state.dice.permille(cuts) { state.dice.below(len) } else { len }
    }

    /// A listing of a flat store may leave out what a look would find.
    pub fn hides(&self, side: Side, dir: &RelPath, listed: &Listed) -> bool {
        let mut state = self.state();
        let hides = state.rates.hides;
        let (Side::Source, Listed::Entry(entry)) = (side, listed) else { return false };
        if !state.may_hide
            || state.world.source_is_tree()
            || entry.name == KEPT.as_bytes()
            || !state.dice.permille(hides)
        {
            return false;
        }
        let at = dir.join(&entry.name).expect("a name");
        let hidden = state.watcher.destination_has(&at);
        if hidden {
            state.trace.add(format_args!("hidden {at}"));
        }
        hidden
    }

    pub fn looked(&self, side: Side, at: &RelPath, found: Option<&Meta>) {
        if side == Side::Source {
            self.state().watcher.looked(at, found);
        }
    }

    pub fn listed<'a>(&self, side: Side, dir: &RelPath, listed: impl Iterator<Item = &'a Listed>) {
        if side != Side::Source {
            return;
        }
        let mut state = self.state();
        for entry in listed {
            if let Listed::Entry(entry) = entry {
                state.watcher.looked(&dir.join(&entry.name).expect("a name"), Some(&entry.meta));
            }
        }
    }

    /// A removal is about to happen.
    pub fn removes(&self, side: Side, at: &RelPath, store: &Memory) {
        if side == Side::Destination {
            self.state().watcher.removes(at, peek(store, at).as_ref());
        }
    }

    pub fn changed(&self, side: Side, now: &Snapshot) {
        if side == Side::Destination {
            let State { watcher, world, .. } = &mut *self.state();
            watcher.step(world, now);
        }
    }
}

impl State {
    fn go_on(&mut self, rarer: usize) {
        while self.dice.permille(self.rates.deeds / rarer) {
            self.world.act();
        }
    }

    fn draw(&mut self, side: Side, op: &'static str, at: &RelPath, rarer: usize) -> Fate {
        if let Some(Stop { after, effect }) = self.stop
            && op != "piece"
        {
            self.stop = after.checked_sub(1).map(|after| Stop { after, effect });
            if after == 0 {
                return Fate::Dies { effect };
            }
        }
        let (rates, dice) = (self.rates, &mut self.dice);
        if dice.permille(rates.dies / rarer) {
            return Fate::Dies { effect: dice.permille(500) };
        }
        if self.denied.as_ref().is_some_and(|(of, path)| *of == side && at.is_within(path)) {
            return Fate::Fails(ErrorKind::PermissionDenied);
        }
        if dice.permille(rates.fails / rarer) {
            return Fate::Fails(fault(op, dice));
        }
        if dice.permille(rates.fails_afterwards / rarer) {
            return Fate::FailsAfterwards(ErrorKind::Unavailable);
        }
        if dice.permille(rates.hangs / rarer) {
            return Fate::Hangs { effect: dice.permille(500) };
        }
        let waits = dice.permille(rates.waits / rarer);
        Fate::Well { after: if waits { Duration::from_millis(1 + dice.below(30) as u64) } else { Duration::ZERO } }
    }
}

/// Errors that a call of this kind can meet. Of "not found" there is only the true one.
fn fault(op: &str, dice: &mut Dice) -> ErrorKind {
    use ErrorKind::{NoSpace, Other, PermissionDenied, Throttled, Unavailable};
    match op {
        "identity" | "create_root" | "sync" => dice.pick(&[Throttled, Unavailable]),
        "put" | "put_link" | "mkdir" => dice.pick(&[Throttled, Unavailable, PermissionDenied, NoSpace, Other]),
        _ => dice.pick(&[Throttled, Throttled, Unavailable, Unavailable, PermissionDenied, Other]),
    }
}

/// Every call and what it met, as a hash, and the last of them as text.
#[derive(Debug, Clone)]
pub struct Trace {
    pub hash: u64,
    pub calls: usize,
    last: VecDeque<String>,
    shown: usize,
}

impl Default for Trace {
    fn default() -> Self {
        let shown = std::env::var("SYNCD_SIMULATION_TRACE").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
        Self { hash: 0xcbf2_9ce4_8422_2325, calls: 0, last: VecDeque::new(), shown }
    }
}

impl Trace {
    pub fn add(&mut self, what: impl Display) {
        let text = what.to_string();
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.calls += 1;
        self.last.push_back(text);
        if self.last.len() > self.shown {
            self.last.pop_front();
        }
    }

    pub fn last(&self) -> String {
        self.last.iter().fold(String::new(), |text, line| text + "  " + line + "\n")
    }
}
