//! What must hold at every step, whatever fails. The first thing that does not is kept, with what led to it.

use crate::faulty::Snapshot;
use crate::world::World;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use syncd::store::{Kind, Meta, RESERVED};
use syncd_parsers::RelPath;

#[derive(Default)]
pub struct Watcher {
    pub violation: Option<String>,
    /// The destination, after its last change.
    before: Snapshot,
    /// Files that both sides have had since the command began, and that no rename concerns: they stay files.
    kept: BTreeSet<RelPath>,
    /// Those of them that are equal: they stay equal while the source's stay what they are.
    equal: BTreeMap<RelPath, Bytes>,
    /// Paths that a line, or something owed or watched, names; `None`: every path is looked at.
    named: Option<Vec<RelPath>>,
    /// What the source answered since the command began, by path.
    answers: BTreeMap<RelPath, Option<Kind>>,
    deeds: usize,
}

/// What a command starts from.
pub struct Start {
    /// Of lines that are not applied, and of what is owed and watched.
    pub named: Option<Vec<RelPath>>,
    /// Ends of renames whose lines are not applied.
    pub ends: Vec<RelPath>,
}

fn is_ours(at: &RelPath) -> bool {
    at.components().next() == Some(RESERVED.as_bytes())
}

/// One lies at or below the other.
pub fn related(one: &RelPath, other: &RelPath) -> bool {
    one.is_within(other) || other.is_within(one)
}

pub fn files(snapshot: &Snapshot) -> impl Iterator<Item = (&RelPath, &Bytes)> {
    let files = snapshot.iter().filter(|(at, (meta, _))| meta.kind == Kind::File && !is_ours(at));
    files.map(|(at, (_, bytes))| (at, bytes))
}

impl Watcher {
    pub fn begin(&mut self, world: &World, destination: Snapshot, start: Start) {
        let source = world.source.snapshot();
        let both =
            files(&destination).filter(|(at, _)| source.get(*at).is_some_and(|(meta, _)| meta.kind == Kind::File));
        let free = both.filter(|(at, _)| !start.ends.iter().any(|end| related(at, end)));
        let free: Vec<(RelPath, Bytes)> = free.map(|(at, bytes)| (at.clone(), bytes.clone())).collect();
        self.kept = free.iter().map(|(at, _)| at.clone()).collect();
        self.equal = free.into_iter().filter(|(at, bytes)| source[at].1 == bytes).collect();
        self.before = destination;
        self.named = start.named;
        self.answers.clear();
        self.deeds = world.deeds.len();
    }

    pub fn destination_has(&self, at: &RelPath) -> bool {
        self.before.contains_key(at)
    }

    pub fn looked(&mut self, at: &RelPath, found: Option<&Meta>) {
        self.answers.insert(at.clone(), found.map(|meta| meta.kind));
    }

    fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// The source has just said that there is nothing, or something of another kind.
    pub fn removes(&mut self, at: &RelPath, there: Option<&Meta>) {
        let Some(there) = there.filter(|_| !is_ours(at)) else { return };
        let proven = at.ancestors().any(|up| match self.answers.get(&up) {
            Some(None) => true,
            Some(Some(kind)) => {
                if up == *at {
                    *kind != there.kind
                } else {
                    *kind != Kind::Dir
                }
            }
            None => false,
        });
        if !proven {
            self.fail(format!("{at} is removed, and the source was not asked for it, or has it"));
        }
    }

    /// After a change of the destination.
    pub fn step(&mut self, world: &World, now: &Snapshot) {
        for deed in &world.deeds[self.deeds..] {
            let concerned = |at: &RelPath| deed.paths.iter().any(|path| related(at, path));
            self.kept.retain(|at| !concerned(at));
            self.equal.retain(|at, _| !concerned(at));
            self.named.iter_mut().for_each(|named| named.extend(deed.paths.iter().cloned()));
        }
        self.deeds = world.deeds.len();
        let source = world.source.snapshot();
        self.check_whole(world, now);
        self.check_kept(&source, now);
        self.check_named(now);
        self.before = now.clone();
    }

    fn check_whole(&mut self, world: &World, now: &Snapshot) {
        for (at, bytes) in files(now) {
            if self.before.get(at).is_some_and(|(_, before)| before == bytes) {
                continue;
            }
            let versions = world.versions.get(at);
            let own = versions.is_some_and(|versions| versions.contains(bytes));
            let renamed =
                || world.deeds.iter().any(|deed| deed.rename && deed.paths.iter().any(|end| related(at, end)));
            if !world.whole.contains(bytes) {
                self.fail(format!("{at} shows {bytes:?}, which no file ever was as a whole"));
            } else if !own && !renamed() {
                self.fail(format!("{at} shows {bytes:?}, which it never was, and no rename concerns it"));
            }
        }
    }

    fn check_kept(&mut self, source: &Snapshot, now: &Snapshot) {
        let is_file =
            |snapshot: &Snapshot, at: &RelPath| snapshot.get(at).is_some_and(|(meta, _)| meta.kind == Kind::File);
        let lost = self.kept.iter().find(|at| is_file(source, at) && !is_file(now, at)).cloned();
        let spoilt = self.equal.iter().find(|(at, bytes)| {
            let holds = |snapshot: &Snapshot| snapshot.get(at).is_some_and(|(_, held)| held == *bytes);
            holds(source) && !holds(now)
        });
        let spoilt = spoilt.map(|(at, _)| at.clone());
        if let Some(at) = lost {
            self.fail(format!("{at} is missing, though the source has had it all the time"));
        }
        if let Some(at) = spoilt {
            self.fail(format!("{at} was equal, has not changed at the source, and is another one now"));
        }
    }

    fn check_named(&mut self, now: &Snapshot) {
        let Some(named) = &self.named else { return };
        let gone = files(&self.before).map(|(at, _)| at).find(|at| {
            let still = now.get(*at).is_some_and(|(meta, _)| meta.kind == Kind::File);
            !still && !named.iter().any(|name| related(at, name))
        });
        if let Some(at) = gone.cloned() {
            self.fail(format!("{at} was removed, and nothing named it"));
        }
    }

    /// After a command, or a restart: what differs is on its way (a line not yet applied names it), owed, or watched.
    pub fn check_truth(
        &mut self,
        source: &Snapshot,
        now: &Snapshot,
        ahead: &[RelPath],
        owed: &[RelPath],
        watched: &[RelPath],
    ) {
        let all: BTreeSet<&RelPath> = source.keys().chain(now.keys()).filter(|at| !is_ours(at)).collect();
        for at in all {
            let (one, other) = (source.get(at), now.get(at));
            let equal = match (one, other) {
                (Some((one, bytes)), Some((other, held))) => one.kind == other.kind && bytes == held,
                _ => false,
            };
            let excused = ahead.iter().any(|path| related(at, path))
                || owed.iter().any(|path| at.is_within(path))
                || watched.contains(at);
            if !equal && !excused {
                let brief =
                    |seen: Option<&(Meta, Bytes)>| seen.map(|(meta, bytes)| format!("{:?} {bytes:?}", meta.kind));
                let (one, other) = (brief(one), brief(other));
                self.fail(format!(
                    "{at} is {one:?} at the source and {other:?} at the destination, and neither owed nor ahead"
                ));
            }
        }
    }
}
