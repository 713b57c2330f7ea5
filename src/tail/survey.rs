//! Which log files are there, which of them are one file under two names, which were read before and how
//! far, and what is missing. Reads no more than the beginnings of files that changed.

use super::open::{Bytes, Packing};
use super::{Fingerprint, Gap, HEAD_BYTES, Position, TailError, gone};
use crate::store::{ErrorKind, Kind, Listed, Meta, Store, StoreError, Time};
use chrono::{DateTime, NaiveDateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use syncd_parsers::RelPath;

/// How much of a file is read for the time of its first record.
const BORN_BYTES: usize = 16 << 10;

/// How often a listing is taken again that seems to lack a file: one that a rotation moved meanwhile may be in neither place.
const LOOKS_MAX: usize = 3;

/// A log file to read.
#[derive(Debug, Clone)]
pub struct LogFile {
    pub path: RelPath,
    /// The path in the log directory, as people see it.
    pub name: String,
    /// As the listing showed it.
    pub meta: Meta,
    pub packing: Packing,
    pub fingerprint: Fingerprint,
    /// The time of its first line, in the log's own zone, if that is known.
    pub born: Option<NaiveDateTime>,
    /// How far it was read in earlier passes; `None` if it is new.
    pub known: Option<Position>,
    /// A younger file appeared, so this one grows no more: what follows its last newline is a line.
    pub closing: bool,
    /// Nothing in it is new: it need not be opened.
    pub idle: bool,
    first_line: Fingerprint,
}

/// What one look at the log directory shows.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// One for each file that has a whole line, by the time of the first line, then by name.
    pub files: Vec<LogFile>,
    /// How many log files there are, those without a whole line among them.
    pub found: usize,
    pub gaps: Vec<Gap>,
    pub warnings: Vec<String>,
}

/// What earlier passes saw of the log directory, so that a file that did not change need not be opened. Loses
/// nothing but time if it is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen(BTreeMap<String, SeenFile>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenFile {
    len: u64,
    mtime: Option<Time>,
    tag: Option<String>,
    first_line: Fingerprint,
    fingerprint: Fingerprint,
    born: Option<NaiveDateTime>,
    /// How far it was read, which was to its end but for `rest` bytes of an unterminated line.
    end: u64,
    rest: u64,
}

/// The beginning of a log file.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub name: &'a str,
    pub modified: Option<DateTime<Utc>>,
    /// Some kilobytes, or the whole file.
    pub bytes: &'a [u8],
}

/// Looks at the log directory. `wanted` says which names are those of audit logs, `born` reads the time of the first
/// record from the beginning of a file.
///
/// # Errors
///
/// The directory or the beginning of a file cannot be read.
pub async fn survey(
    logs: &dyn Store,
    known: &[Position],
    seen: &Seen,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    born: &(dyn Fn(&Head) -> Option<NaiveDateTime> + Sync),
) -> Result<Survey, TailError> {
    let known: Vec<Position> = known.iter().filter(|position| wanted(&position.log)).cloned().collect();
    let mut looks = 1;
    loop {
        let survey = look(logs, &known, seen, wanted, born).await?;
        if looks == LOOKS_MAX || survey.gaps.is_empty() {
            return Ok(survey);
        }
        looks += 1;
    }
}

/// The beginning of a log file, to tell its dialect by.
#[derive(Debug, Clone)]
pub struct Beginning {
    pub log: String,
    pub bytes: Vec<u8>,
    /// It is the whole file.
    pub is_whole: bool,
}

/// The beginnings of `max` log files, by name, each up to `bytes` long: of those with the first names, and of the newest.
///
/// # Errors
///
/// The directory or a file cannot be read.
pub async fn beginnings(
    logs: &dyn Store,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    max: usize,
    bytes: usize,
) -> Result<Vec<Beginning>, TailError> {
    let mut found = walk(logs, wanted).await?.logs;
    found.retain(|found| found.meta.len > 0);
    let newest = found.iter().max_by_key(|found| found.meta.mtime).map(|found| found.name.clone());
    let mut left = max;
    found.retain(|found| {
        left = left.saturating_sub(1);
        left > 0 || Some(&found.name) == newest.as_ref()
    });
    let mut beginnings = Vec::new();
    for found in &found {
        let beginning = |head: Vec<u8>| {
            let is_whole = head.len() < bytes;
            Beginning { log: found.name.clone(), bytes: head, is_whole }
        };
        beginnings.extend(head(logs, found, bytes).await?.map(beginning));
    }
    Ok(beginnings)
}

impl Survey {
    /// The file that was written last, as far as the store tells.
    #[must_use]
    pub fn newest(&self) -> Option<&LogFile> {
        self.files.iter().max_by_key(|file| (file.meta.mtime, Reverse(&file.name)))
    }
}

impl LogFile {
    /// A file that is whole and was never read.
    pub(super) fn whole(found: Found, fingerprint: Fingerprint) -> Self {
        Self { closing: true, ..log_file(found, fingerprint.clone(), fingerprint, None, None) }
    }

    /// Where reading goes on: at the first line that what follows may give another meaning.
    #[must_use]
    pub fn resume(&self) -> u64 {
        self.known.as_ref().map_or(0, |position| position.offset.saturating_sub(position.open))
    }

    /// How far it was read before.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.known.as_ref().map_or(0, |position| position.offset)
    }
}

impl Seen {
    /// Remembers that `file`, as the survey listed it, was read up to `end`, its end but for the `rest`
    /// bytes of an unterminated line.
    pub fn remember(&mut self, file: &LogFile, end: u64, rest: u64) {
        if file.meta.mtime.is_none() && file.meta.tag.is_none() {
            return;
        }
        let LogFile { name, meta, fingerprint, first_line, born, .. } = file;
        let Meta { len, mtime, tag, .. } = meta.clone();
        let (first_line, fingerprint, born) = (first_line.clone(), fingerprint.clone(), *born);
        self.0.insert(name.clone(), SeenFile { len, mtime, tag, first_line, fingerprint, born, end, rest });
    }

    /// Keeps what was seen of `file` before, which did not change.
    pub fn keep(&mut self, file: &LogFile, before: &Self) {
        if let Some(seen) = before.0.get(&file.name) {
            self.0.insert(file.name.clone(), seen.clone());
        }
    }

    fn unchanged(&self, found: &Found) -> Option<&SeenFile> {
        let seen = self.0.get(&found.name)?;
        let Meta { len, mtime, tag, .. } = &found.meta;
        (seen.len == *len && seen.mtime == *mtime && seen.tag == *tag).then_some(seen)
    }
}

/// A file as the walk met it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub path: RelPath,
    pub name: String,
    pub meta: Meta,
    pub packing: Packing,
}

#[derive(Default)]
pub(super) struct Walk {
    pub logs: Vec<Found>,
    pub warnings: Vec<String>,
}

async fn look(
    logs: &dyn Store,
    known: &[Position],
    seen: &Seen,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    born: &(dyn Fn(&Head) -> Option<NaiveDateTime> + Sync),
) -> Result<Survey, TailError> {
    let walk = walk(logs, wanted).await?;
    let (found, index) = (walk.logs.len(), Known::new(known));
    let names: BTreeSet<String> = walk.logs.iter().map(|found| plain(&found.name).to_owned()).collect();
    let mut files = Vec::new();
    for found in walk.logs {
        files.extend(identify(logs, found, &index, seen, born).await?);
    }
    let mut files = one_each(logs, files).await?;
    contend(&mut files);
    close(&mut files, seen);
    files.sort_by(|a, b| (a.born, &a.name).cmp(&(b.born, &b.name)));
    let mut gaps = gaps(known, &files);
    gaps.extend(skipped(&files, &names));
    Ok(Survey { files, found, gaps, warnings: walk.warnings })
}

/// All log files below the directory, by name.
async fn walk(logs: &dyn Store, wanted: &(dyn Fn(&str) -> bool + Sync)) -> Result<Walk, TailError> {
    look_into(logs, wanted, |_| true).await
}

/// The same, but of the directories that are to be entered only. They are asked about last names first, each when all
/// below those before it was seen.
pub(super) async fn look_into(
    logs: &dyn Store,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    mut enter: impl FnMut(&RelPath) -> bool + Send,
) -> Result<Walk, TailError> {
    let mut walk = Walk::default();
    let mut dirs = vec![RelPath::root()];
    while let Some(dir) = dirs.pop() {
        if !enter(&dir) {
            continue;
        }
        let first_below = dirs.len();
        let Some(listed) = gone_below(&dir, logs.list(&dir).try_collect::<Vec<_>>().await)? else { continue };
        for entry in listed {
            match entry {
                Listed::Odd(odd) => walk.warnings.push(format!("left out of the log directory: {}", odd.reason)),
                Listed::Entry(entry) if entry.name.starts_with(b".") => {}
                Listed::Entry(entry) => {
                    let Ok(path) = dir.join(&entry.name) else { continue };
                    match entry.meta.is_dir() {
                        true => dirs.push(path),
                        false => walk.add(path, entry.meta, wanted),
                    }
                }
            }
        }
        dirs[first_below..].sort();
    }
    walk.logs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk)
}

impl Walk {
    fn add(&mut self, path: RelPath, meta: Meta, wanted: &(dyn Fn(&str) -> bool + Sync)) {
        let name = path.to_string();
        if is_ours(&name) || !wanted(&name) {
            return;
        }
        if meta.kind == Kind::Symlink {
            self.warnings.push(format!("{name} is a symbolic link, which is not followed"));
        } else if let Some(packing) = unreadable(&name) {
            self.warnings.push(format!("{name} is left out: .{packing} cannot be read, only plain, .gz and .zst logs"));
        } else {
            let packing = Packing::of(&name);
            self.logs.push(Found { path, name, meta, packing });
        }
    }
}

/// What `mkchangelog` writes, and what an upload to HDFS is called until it is whole.
fn is_ours(name: &str) -> bool {
    [".changes.jsonl.zst", ".manifest.json", ".bad.jsonl", "._COPYING_"].iter().any(|end| name.ends_with(end))
}

fn unreadable(name: &str) -> Option<&str> {
    let (_, packing) = name.rsplit_once('.')?;
    ["bz2", "xz", "lz4", "lzo", "snappy", "zip", "Z"].contains(&packing).then_some(packing)
}

/// Positions by what they are of.
struct Known<'a> {
    by: HashMap<&'a Fingerprint, &'a Position>,
    lens: BTreeSet<u64>,
}

impl<'a> Known<'a> {
    fn new(positions: &'a [Position]) -> Self {
        Self {
            by: positions.iter().map(|position| (&position.fingerprint, position)).collect(),
            lens: positions.iter().map(|position| position.fingerprint.len).collect(),
        }
    }

    /// The position of the file that begins with `head`: the one that knows most of it.
    fn of(&self, head: &[u8]) -> Option<&'a Position> {
        let starts = self.lens.iter().rev().filter_map(|len| head.get(..usize::try_from(*len).ok()?));
        starts.map(Fingerprint::exact).find_map(|fingerprint| self.by.get(&fingerprint).copied())
    }
}

/// The file with its fingerprint and its position, read from its beginning unless it did not change;
/// `None` if it has no whole line, or has just gone.
async fn identify(
    logs: &dyn Store,
    found: Found,
    known: &Known<'_>,
    seen: &Seen,
    born: &(dyn Fn(&Head) -> Option<NaiveDateTime> + Sync),
) -> Result<Option<LogFile>, TailError> {
    if found.meta.len == 0 {
        return Ok(None);
    }
    if let Some(seen) = seen.unchanged(&found)
        && let Some(position) = known.by.get(&seen.fingerprint).copied()
    {
        let (fingerprint, first_line) = (seen.fingerprint.clone(), seen.first_line.clone());
        return Ok(Some(log_file(found, fingerprint, first_line, seen.born, Some(position.clone()))));
    }
    let Some(head) = head(logs, &found, BORN_BYTES).await? else { return Ok(None) };
    let (Some(fingerprint), Some(first_line)) = (Fingerprint::of(&head), Fingerprint::of_first_line(&head)) else {
        return Ok(None);
    };
    let position = known.of(&head).cloned();
    let modified = found.meta.mtime.map(|time| DateTime::from_timestamp_nanos(time.0));
    let born = born(&Head { name: &found.name, modified, bytes: &head });
    Ok(Some(log_file(found, fingerprint, first_line, born, position)))
}

fn log_file(
    found: Found,
    fingerprint: Fingerprint,
    first_line: Fingerprint,
    born: Option<NaiveDateTime>,
    known: Option<Position>,
) -> LogFile {
    let Found { path, name, meta, packing } = found;
    LogFile { path, name, meta, packing, fingerprint, born, known, closing: false, idle: false, first_line }
}

/// The first bytes of a file, uncompressed; `None` if it has just gone.
async fn head(logs: &dyn Store, found: &Found, bytes: usize) -> Result<Option<Vec<u8>>, TailError> {
    let opened = Bytes::open(logs, &found.path, found.packing, 0, found.meta.len).await;
    let Some(mut source) = gone(opened)? else { return Ok(None) };
    let mut head = Vec::new();
    source.read(&mut head, bytes).await?;
    Ok(Some(head))
}

/// Of the files that are one file (a copy, a compressed form beside its original) the one to read.
async fn one_each(logs: &dyn Store, files: Vec<LogFile>) -> Result<Vec<LogFile>, TailError> {
    let mut alike: BTreeMap<Fingerprint, Vec<LogFile>> = BTreeMap::new();
    for file in files {
        alike.entry(file.first_line.clone()).or_default().push(file);
    }
    let mut chosen = Vec::new();
    for files in alike.into_values() {
        if files.len() == 1 {
            chosen.extend(files);
        } else {
            chosen.extend(same(logs, files).await?.into_iter().filter_map(best));
        }
    }
    Ok(chosen)
}

/// Files that begin with one and the same line, those that are one file together: the beginning of the
/// shorter one is that of the longer.
async fn same(logs: &dyn Store, files: Vec<LogFile>) -> Result<Vec<Vec<LogFile>>, TailError> {
    let mut groups: Vec<(Vec<u8>, Vec<LogFile>)> = Vec::new();
    for file in files {
        let LogFile { path, name, meta, packing, .. } = file.clone();
        let Some(mut head) = head(logs, &Found { path, name, meta, packing }, HEAD_BYTES).await? else { continue };
        head.truncate(usize::try_from(file.fingerprint.len).unwrap_or(HEAD_BYTES));
        let group = groups.iter_mut().find(|(other, _)| other.starts_with(&head) || head.starts_with(other));
        match group {
            None => groups.push((head, vec![file])),
            Some((longest, group)) => {
                if head.len() > longest.len() {
                    *longest = head;
                }
                group.push(file);
            }
        }
    }
    Ok(groups.into_iter().map(|(_, files)| files).collect())
}

/// The longest plain one; a compressed one only if no plain one reaches as far as reading has come.
fn best(files: Vec<LogFile>) -> Option<LogFile> {
    let known = files.iter().filter_map(|file| file.known.clone()).max_by_key(|position| position.offset);
    let offset = known.as_ref().map_or(0, |position| position.offset);
    let rank = |file: &LogFile| {
        let plain = file.packing == Packing::Plain;
        (plain && file.meta.len >= offset, !plain, file.meta.len)
    };
    let mut best = files.into_iter().max_by_key(rank)?;
    best.known = known;
    Some(best)
}

/// A position that fits two different files, as one of a single common line may, is that of the file
/// with its name; the other file is new.
fn contend(files: &mut [LogFile]) {
    let mut owners: HashMap<Fingerprint, usize> = HashMap::new();
    for index in 0..files.len() {
        let Some(position) = files[index].known.clone() else { continue };
        match owners.get(&position.fingerprint) {
            None => {
                owners.insert(position.fingerprint, index);
            }
            Some(owner) if files[*owner].name == position.log || files[index].name != position.log => {
                files[index].known = None;
            }
            Some(owner) => {
                files[*owner].known = None;
                owners.insert(position.fingerprint, index);
            }
        }
    }
}

/// Says of each file whether it grows no more, and whether there is anything new to find in it.
fn close(files: &mut [LogFile], seen: &Seen) {
    let born = |file: &LogFile| (file.name.clone(), file.born);
    let new: Vec<Option<NaiveDateTime>> = files.iter().filter(|file| file.known.is_none()).map(|f| f.born).collect();
    let all: HashMap<String, Option<NaiveDateTime>> = files.iter().map(born).collect();
    for file in files {
        let younger = |born: &Option<NaiveDateTime>| match (born, file.born) {
            (Some(born), Some(own)) => *born > own,
            _ => file.known.is_some(),
        };
        let replaced = unrotated(&file.name).any(|name| all.get(name).is_some_and(younger));
        file.closing = stays_closed(file) || new.iter().any(younger) || replaced;
        file.idle = is_idle(file, seen);
    }
}

/// What a file may have been called before a rotation gave it more of a name.
fn unrotated(name: &str) -> impl Iterator<Item = &str> {
    name.char_indices().filter(|(_, c)| ['.', '-'].contains(c)).map(|(at, _)| &name[..at])
}

/// A file that was closed and grew all the same is not closed: its writer was slow, or is another one.
fn stays_closed(file: &LogFile) -> bool {
    let grew = |position: &Position| file.packing == Packing::Plain && file.meta.len > position.offset;
    file.known.as_ref().is_some_and(|position| position.closed && !grew(position))
}

fn is_idle(file: &LogFile, seen: &Seen) -> bool {
    let LogFile { path, name, meta, packing, .. } = file.clone();
    match (seen.unchanged(&Found { path, name, meta, packing }), &file.known) {
        (Some(seen), Some(position)) => {
            seen.fingerprint == position.fingerprint && seen.end == position.offset && (seen.rest == 0 || !file.closing)
        }
        _ => false,
    }
}

/// The files that were read in part and are not there any more.
fn gaps(known: &[Position], files: &[LogFile]) -> Vec<Gap> {
    let matched: HashSet<&Fingerprint> =
        files.iter().filter_map(|file| Some(&file.known.as_ref()?.fingerprint)).collect();
    let vanished = known.iter().filter(|position| !position.closed && !matched.contains(&position.fingerprint));
    let gap = |position: &Position| Gap {
        log: position.log.clone(),
        from: position.offset,
        reason: "the file is gone, and what was written to it after that offset was not read".to_owned(),
    };
    vanished.map(gap).collect()
}

/// Where each rotation gives every file the next number, one whose number grew by more than one had successors that were rotated
/// as well: those that are not there were never read. Where numbers stay as they are nothing follows.
fn skipped(files: &[LogFile], names: &BTreeSet<String>) -> Vec<Gap> {
    let mut steps: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for file in files {
        let Some(known) = &file.known else { continue };
        let ((base, before), (same, now)) = (numbered(&known.log), numbered(&file.name));
        if base == same && before > 0 {
            steps.entry(same).or_default().insert(now.saturating_sub(before));
        }
    }
    let alike = steps.into_iter().filter(|(_, steps)| steps.len() == 1);
    let newer = alike.flat_map(|(base, steps)| (1..*steps.first().unwrap_or(&0)).map(move |nr| format!("{base}.{nr}")));
    let gap = |log: String| Gap {
        log,
        from: 0,
        reason: "the file is missing: by the numbers of the others it was there, and it was not read".to_owned(),
    };
    newer.filter(|name| !names.contains(name)).map(gap).collect()
}

/// `audit.log.3.gz` is the third of `audit.log`, which is the one without a number. What is too large is a date.
fn numbered(name: &str) -> (&str, u32) {
    const MOST: u32 = 9999;
    let number = |digits: &str| digits.parse().ok().filter(|number| *number <= MOST && !digits.starts_with(['0', '+']));
    let parts = plain(name).rsplit_once('.').and_then(|(base, digits)| Some((base, number(digits)?)));
    parts.unwrap_or((plain(name), 0))
}

/// A name without the ending that compression gave it.
fn plain(name: &str) -> &str {
    [".gz", ".zst"].iter().find_map(|packing| name.strip_suffix(packing)).unwrap_or(name)
}

/// The gap that a file leaves which has fewer bytes than were read of it.
pub(super) fn shorter(file: &LogFile, position: &Position, len: u64) -> Gap {
    let reason = format!("the file was cut to {len} bytes, and may have held more than was read");
    Gap { log: file.name.clone(), from: position.offset, reason }
}

/// A directory that vanished below the root holds no logs; a root that is not there is an error.
fn gone_below<T>(dir: &RelPath, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Err(error) if error.kind == ErrorKind::NotFound && !dir.is_root() => Ok(None),
        result => result.map(Some),
    }
}
