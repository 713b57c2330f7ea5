//! What is known of lines that never came: why some may be missing (doubts), which directories changed and no line said why
//! (suspects), what a verification found that no line named (findings), and the completeness of the log that follows from both. Pure; the state keeps it, the status page tells it.

use crate::changelog::Manifest;
use crate::report::time;
use crate::settle::DirTime;
use crate::store::Time;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use syncd_parsers::spans::Span;
use syncd_parsers::{Change, Op, RelPath};

/// How many doubts are kept; all are counted.
const DOUBTS_MAX: usize = 100;
/// How many paths of a verification are followed; all are counted.
const FINDINGS_MAX: usize = 10_000;
/// A log has to be known for so long before a silence of it is called unusual.
const HABIT_AFTER: TimeDelta = TimeDelta::hours(24);
/// No shorter silence is.
const SILENCE_MIN: TimeDelta = TimeDelta::minutes(30);
/// How many times longer than ever before.
const UNUSUAL: i32 = 4;
/// How many directories are suspected at one time. What comes beyond is left to verifications.
const SUSPECTS_MAX: usize = 1_000;
/// How much further than the look at a directory the log has to be before no line of what was seen there is still to come: what
/// two clocks may be apart, and more.
const OVERDUE: TimeDelta = TimeDelta::minutes(5);

/// What is known of the log's completeness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Changes of all windows that were applied.
    pub changes: u64,
    /// How many of them had been when lost lines were counted last; `None` before the first verification.
    pub measured_changes: Option<u64>,
    /// Paths at which the two sides differed though no line had named them.
    pub lost_paths: u64,
    /// Why lines may be missing. None is left when everything has been looked at.
    pub doubts: Vec<Doubt>,
    /// That had no room among them.
    pub more_doubts: u64,
    /// When the log spoke first and last.
    known: Option<Span<DateTime<Utc>>>,
    /// The longest silence that was none of lost lines, in seconds.
    usual_silence_s: i64,
    /// Directories whose time changed, and no line has said why so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<Suspect>,
}

/// A reason to think that lines are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub what: String,
    /// The window that gave rise to it.
    pub window: u64,
    /// Where it is about a silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silence: Option<Span<DateTime<Utc>>>,
    /// Where it is about a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspect: Option<Suspect>,
}

/// A directory of the source that is newer than the destination knows it, though nothing was named that would have made it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    pub dir: RelPath,
    /// When that was seen: the line was late then, or is lost.
    pub seen: DateTime<Utc>,
    /// The time that the source shows.
    pub newer: DateTime<Utc>,
    /// The time that the destination had kept.
    pub known: DateTime<Utc>,
}

/// The paths at which a verification found the two sides different, less those of which that was known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// When the verification ended: until the checkpoint gets there, a line may still name them.
    pub at: Option<DateTime<Utc>>,
    /// They differ no more: the verification mended them.
    pub mended: bool,
    /// No line has named them yet.
    pub open: BTreeSet<RelPath>,
    /// None did before the checkpoint was there: it is lost, and counted.
    pub lost: BTreeSet<RelPath>,
    /// Found beyond the limit, and counted as lost at once.
    pub more: u64,
    /// See [`Gathered::gone`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    gone: BTreeSet<RelPath>,
}

/// All that is known of lost lines.
#[derive(Debug, Default)]
pub struct Losses {
    pub ledger: Ledger,
    pub findings: Findings,
}

impl Losses {
    /// A line was read: what it names was not lost.
    pub fn explain(&mut self, change: &Change) {
        self.ledger.explain(change);
        self.findings.explain(change);
    }
}

impl Ledger {
    /// A window was applied.
    pub fn apply(&mut self, manifest: &Manifest) {
        self.changes += manifest.data.changes;
        if manifest.rescan_all {
            self.looked_at_everything();
        } else {
            self.doubt_all(manifest);
        }
        self.hear(manifest);
    }

    fn doubt_all(&mut self, manifest: &Manifest) {
        let window = manifest.seq;
        let unread = match manifest.bad {
            0 => None,
            1 => Some("1 line could not be read".to_owned()),
            bad => Some(format!("{bad} lines could not be read")),
        };
        let unread = unread.map(|what| format!("{what} in window {window}"));
        for what in unread.into_iter().chain(manifest.doubts.iter().cloned()) {
            self.doubt(Doubt { what, window, silence: None, suspect: None });
        }
    }

    /// Follows when the log spoke. A silence that a late log fills was none.
    fn hear(&mut self, manifest: &Manifest) {
        for span in manifest.spans.iter() {
            self.doubts.retain(|doubt| doubt.silence.is_none_or(|silence| !fills(span, silence)));
            let Some(known) = self.known else {
                self.known = Some(span);
                continue;
            };
            if known.to < span.from {
                self.note_silence(Span { from: known.to, to: span.from }, known.from, manifest);
            }
            self.known = Some(Span { from: known.from.min(span.from), to: known.to.max(span.to) });
        }
    }

    fn note_silence(&mut self, silence: Span<DateTime<Utc>>, since: DateTime<Utc>, manifest: &Manifest) {
        let usual = TimeDelta::seconds(self.usual_silence_s);
        let (length, most) = (silence.to - silence.from, (usual * UNUSUAL).max(SILENCE_MIN));
        if silence.from - since < HABIT_AFTER || length <= most || manifest.rescan_all {
            self.usual_silence_s = self.usual_silence_s.max(length.num_seconds());
            return;
        }
        let what = format!(
            "the log is silent from {} to {}, much longer than ever before",
            time(silence.from),
            time(silence.to)
        );
        self.doubt(Doubt { what, window: manifest.seq, silence: Some(silence), suspect: None });
    }

    /// What a run saw of directories. What is suspected already stays so: what was seen first is what has to be explained.
    pub fn suspect(&mut self, sightings: Sightings) {
        self.suspects.retain(|suspect| !sightings.explained.contains(&suspect.dir));
        for suspect in sightings.suspects {
            let known = self.suspects.iter().any(|known| known.dir == suspect.dir);
            if !known && self.suspects.len() < SUSPECTS_MAX {
                self.suspects.push(suspect);
            }
        }
    }

    /// After a run that did not come to its end nobody knows what it did, and the times of directories prove nothing.
    pub fn suspect_nothing(&mut self) {
        self.suspects.clear();
    }

    /// A line says why the time of a directory changed. One that comes too late takes the doubt back.
    pub fn explain(&mut self, change: &Change) {
        self.suspects.retain(|suspect| !suspect.is_explained(change));
        self.doubts.retain(|doubt| match &doubt.suspect {
            Some(suspect) => change.time > suspect.seen || !suspect.is_explained(change),
            None => true,
        });
    }

    /// The checkpoint is at the end of this window. Returns the directories of which no line will come any more; each is a
    /// doubt now.
    pub fn overdue(&mut self, manifest: &Manifest) -> Vec<Suspect> {
        let is_overdue = |suspect: &mut Suspect| suspect.seen + OVERDUE < manifest.to;
        let overdue: Vec<Suspect> = self.suspects.extract_if(.., is_overdue).collect();
        for suspect in &overdue {
            let (what, suspect) = (suspect.to_string(), Some(suspect.clone()));
            self.doubt(Doubt { what, window: manifest.seq, silence: None, suspect });
        }
        overdue
    }

    fn doubt(&mut self, doubt: Doubt) {
        if self.doubts.iter().any(|known| known.what == doubt.what) {
            return;
        }
        if self.doubts.len() < DOUBTS_MAX { self.doubts.push(doubt) } else { self.more_doubts += 1 }
    }

    /// Whatever lines were lost before, both sides are equal now, or it is known where they are not.
    pub fn looked_at_everything(&mut self) {
        self.doubts.clear();
        self.more_doubts = 0;
        self.suspects.clear();
    }

    /// A verification looked at everything. Where it found nothing, the silences before it were nothing unusual.
    pub fn verified(&mut self, findings: &Findings) {
        if findings.unexplained() == 0 {
            let silences = self.doubts.iter().filter_map(|doubt| doubt.silence);
            let longest = silences.map(|silence| (silence.to - silence.from).num_seconds()).max();
            self.usual_silence_s = self.usual_silence_s.max(longest.unwrap_or(0));
        }
        self.looked_at_everything();
        self.lost_paths += findings.more;
        self.measured_changes = Some(self.changes);
    }

    /// How much of what changed had a line: 1 if nothing is known to be lost. `None` before the first verification.
    #[must_use]
    pub fn completeness(&self) -> Option<f64> {
        let named = self.measured_changes? as f64;
        let all = named + self.lost_paths as f64;
        Some(if all == 0.0 { 1.0 } else { named / all })
    }
}

/// True if what is left of a silence is no longer worth a word.
fn fills(span: Span<DateTime<Utc>>, silence: Span<DateTime<Utc>>) -> bool {
    let before = span.from.max(silence.from) - silence.from;
    let after = silence.to - span.to.min(silence.to);
    span.from < silence.to && span.to > silence.from && before.max(after) <= SILENCE_MIN
}

impl Suspect {
    #[must_use]
    pub fn new(dir: &RelPath, seen: DateTime<Utc>, time: DirTime) -> Self {
        let [newer, known] = [time.newer, time.known].map(|Time(nanos)| DateTime::from_timestamp_nanos(nanos));
        Self { dir: dir.clone(), seen, newer, known }
    }

    /// A line about the directory itself or an entry of it, or about everything below something above it.
    fn is_explained(&self, change: &Change) -> bool {
        let deep = matches!(change.op, Op::Rename | Op::Delete | Op::Rescan);
        let mut ends = [Some(&change.path), change.to.as_ref()].into_iter().flatten();
        let is_entry = |rest: &[u8]| !rest.contains(&b'/'); // or the directory itself
        ends.any(|end| end.below(&self.dir).is_some_and(is_entry) || (deep && self.dir.is_within(end)))
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, newer, known, .. } = self;
        write!(f, "what is in {dir} changed at {}, and no line after {} says how", time(*newer), time(*known))
    }
}

/// What a run saw of the times of directories.
#[derive(Debug, Default)]
pub struct Sightings {
    before: HashSet<RelPath>,
    /// When everything had been looked at.
    since: Option<DateTime<Utc>>,
    suspects: Vec<Suspect>,
    /// Suspected before, and now it is known why they changed.
    explained: HashSet<RelPath>,
}

impl Sightings {
    /// `before`: what is suspected already. `since`: when everything was copied or looked at last; what changed while that went
    /// on may have come with it, without its directory's time.
    #[must_use]
    pub fn after(before: &Ledger, since: Option<DateTime<Utc>>) -> Self {
        let before = before.suspects.iter().map(|suspect| suspect.dir.clone()).collect();
        Self { before, since, ..Self::default() }
    }

    pub fn suspect(&mut self, suspect: Suspect) {
        let is_later = self.since.is_none_or(|since| suspect.newer > since);
        if is_later && self.suspects.len() < SUSPECTS_MAX {
            self.suspects.push(suspect);
        }
    }

    pub fn explain(&mut self, dir: &RelPath) {
        self.explained.extend(self.before.get(dir).cloned());
    }

    /// The run did not have all names at hand: it knows of some directories why they changed, and of none that nothing says why.
    pub fn suspect_nothing(&mut self) {
        self.suspects.clear();
    }
}

impl Findings {
    /// What a verification found that ended at `at`. What the last one found lost, and is found again, was counted then.
    #[must_use]
    pub fn new(at: DateTime<Utc>, mended: bool, found: Gathered, before: &Self) -> Self {
        let Gathered { paths, more, gone } = found;
        let (lost, open) = paths.into_iter().partition(|path| before.lost.contains(path) && !before.mended);
        Self { at: Some(at), mended, open, lost, more, gone }
    }

    /// A line names what was found: it was late and not lost, or the path is settled by now anyway.
    pub fn explain(&mut self, change: &Change) {
        for end in [Some(&change.path), change.to.as_ref()].into_iter().flatten() {
            self.explain_path(end, matches!(change.op, Op::Rename | Op::Delete | Op::Rescan));
        }
    }

    /// The ancestors of a named path are looked at, too; but what is gone stays until the line of its going.
    fn explain_path(&mut self, path: &RelPath, deep: bool) {
        for found in [&mut self.open, &mut self.lost] {
            for named in path.ancestors().filter(|named| !self.gone.contains(named)) {
                found.remove(&named);
            }
            if deep {
                found.retain(|found| !found.is_within(path));
            }
        }
    }

    /// The checkpoint is at `to`. Returns how many paths are known to be lost from now on.
    pub fn reach(&mut self, to: DateTime<Utc>) -> u64 {
        if self.at.is_none_or(|at| to <= at) {
            return 0;
        }
        let lost = self.open.len() as u64;
        self.lost.append(&mut self.open);
        lost
    }

    /// How many paths no line has explained so far.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        (self.open.len() + self.lost.len()) as u64 + self.more
    }

    /// How many of them differ as far as is known.
    #[must_use]
    pub fn differing(&self) -> u64 {
        if self.mended { 0 } else { self.unexplained() }
    }
}

/// Gathers what a verification finds.
#[derive(Debug, Default)]
pub struct Gathered {
    pub paths: BTreeSet<RelPath>,
    pub more: u64,
    /// Those of them that are gone at a source where everything that goes has a line of its own: no other line removes them.
    pub gone: BTreeSet<RelPath>,
}

impl Gathered {
    pub fn add(&mut self, path: &RelPath, gone: bool) {
        if self.paths.len() < FINDINGS_MAX {
            self.paths.insert(path.clone());
            self.gone.extend(gone.then(|| path.clone()));
        } else if !self.paths.contains(path) {
            self.more += 1;
        }
    }
}
