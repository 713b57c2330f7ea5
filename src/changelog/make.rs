//! Makes one window: reads what is new in the audit logs since the last one, and writes its changes, then its
//! manifest. What is written depends on the logs and the options alone, not on the clock or the machine.

use super::lines::{self, Bad, Crop, Meaning, Tally};
use super::manifest::{self, Data, Gap, LogRange, Manifest, VERSION, WindowName};
use super::spool::{Mark, Spool, Spooled};
use super::{ChangelogError, MostlyBad, read};
use crate::scope::Scope;
use crate::store::{Body, ErrorKind, Meta, Store};
use crate::tail::{self, BLOCK_BYTES, Block, LogFile, Position, Reader, Seen, Step, Survey, TailError, hex};
use crate::zone::{Zone, whole_hours_off};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use syncd_parsers::{Change, Dialect, Op, RelPath, dialect};

/// How much later than a change its line may carry its time: it is written after the change, and lines of several
/// threads overtake each other.
const LATENESS: TimeDelta = TimeDelta::seconds(1);

/// So much of a log that changes nothing makes a window however short the time: reading it again has its price, too.
const IDLE_BYTES: u64 = 4 << 20;

/// From how many lines on a file with mostly bad ones is taken for one of another dialect.
const MOSTLY_BAD_LINES: u64 = 20;

/// Where the first window begins.
#[derive(Debug, Clone)]
pub enum Begin {
    /// Where the logs ended when an import began, see [`tail::positions`].
    Positions {
        positions: Vec<Position>,
        /// When they were taken.
        at: DateTime<Utc>,
    },
    /// At the first line that is not older.
    Time(DateTime<Utc>),
}

/// What to read and how.
#[derive(Clone)]
pub struct MakeOptions {
    /// Of a first window; later ones begin where the one before ended. `None`: with the oldest line.
    pub begin: Option<Begin>,
    /// Changes from this time on are left for a later window.
    pub until: Option<DateTime<Utc>>,
    /// The checkpoint that the windows have to reach back to.
    pub not_after: Option<DateTime<Utc>>,
    /// `None`: that of the window before, else the one that the logs look like.
    pub dialect: Option<&'static dyn Dialect>,
    pub zone: Zone,
    pub scope: Scope,
    /// Go on although lines are lost, and look at everything.
    pub accept_gap: bool,
    pub seen: Seen,
    /// Which files are audit logs, by their name in the log directory.
    pub wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Lines that change nothing make no window of their own until they are so much later than the last window's end. They
    /// are read again with what follows. Zero: they always make one.
    pub idle_max: TimeDelta,
    /// Times after it are no evidence of how far the log is known.
    pub now: Option<DateTime<Utc>>,
    /// Where the data is kept until it is whole; `None`: where the system keeps temporary files.
    pub temp_dir: Option<PathBuf>,
    pub block_bytes: usize,
}

/// What a pass over the logs gave.
#[derive(Debug, Default)]
pub struct Made {
    /// `None` if there was nothing new.
    pub window: Option<Manifest>,
    /// The digest of its manifest as it is stored.
    pub manifest_sha256: Option<String>,
    /// For the next pass.
    pub seen: Seen,
    pub warnings: Vec<String>,
    /// Records read.
    pub lines: u64,
    /// Files that were rotated while they were read; the next pass reads them.
    pub postponed: u64,
}

impl MakeOptions {
    #[must_use]
    pub fn new(scope: Scope, zone: Zone) -> Self {
        Self {
            begin: None,
            until: None,
            not_after: None,
            dialect: None,
            zone,
            scope,
            accept_gap: false,
            seen: Seen::default(),
            wanted: Arc::new(|_| true),
            idle_max: TimeDelta::zero(),
            now: None,
            temp_dir: None,
            block_bytes: BLOCK_BYTES,
        }
    }
}

/// Makes the next window in `out` from what is new in `logs`; none if nothing is. If the future is dropped or fails,
/// there is no window, and the next call makes it.
///
/// # Errors
///
/// Lines are lost ([`ChangelogError::Gap`]), there are no logs or they are of another dialect, or a store fails.
pub async fn make(logs: &dyn Store, out: &dyn Store, options: &MakeOptions) -> Result<Made, ChangelogError> {
    logs.identity().await.map_err(TailError::from).map_err(no_logs)?;
    let last = read::last(out).await?;
    let start = Start::new(last, options)?;
    let meaning = Arc::new(meaning(logs, &start, options).await?);
    let survey = survey(logs, &start, &meaning, options).await?;
    let mut draft = Draft::new(meaning, options).await?;
    draft.gaps.extend(start.gap.clone());
    draft.gaps.extend(survey.gaps.iter().cloned().map(Gap::from));
    draft.check_gaps()?;
    for file in &survey.files {
        draft.read(logs, file.clone()).await?;
    }
    draft.warn(&survey, &start);
    if !draft.is_news(&start) {
        return Ok(draft.without_window());
    }
    draft.write(out, &start).await
}

/// Where a window begins.
struct Start {
    seq: u64,
    positions: Vec<Position>,
    from: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
    /// Lines of the time between the windows before and this one were not to be read.
    gap: Option<Gap>,
    previous: Option<String>,
    dialect: Option<String>,
}

impl Start {
    fn new(last: Option<(Manifest, String)>, options: &MakeOptions) -> Result<Self, ChangelogError> {
        let since = match options.begin {
            Some(Begin::Time(time)) => Some(time),
            _ => None,
        };
        let Some((manifest, sha256)) = last else { return Ok(Self::first(since, options)) };
        if manifest.audit_root != options.scope.to_string() {
            return Err(ChangelogError::OtherRoot { chain: manifest.audit_root, given: options.scope.to_string() });
        }
        let since = since.filter(|since| *since > manifest.to);
        Ok(Self {
            seq: manifest.seq + 1,
            gap: since.map(|since| hole(manifest.to, since)),
            positions: manifest.positions,
            from: Some(manifest.to),
            since,
            previous: Some(sha256),
            dialect: Some(manifest.dialect),
        })
    }

    fn first(since: Option<DateTime<Utc>>, options: &MakeOptions) -> Self {
        let (positions, at) = match &options.begin {
            Some(Begin::Positions { positions, at }) => (positions.clone(), Some(*at)),
            _ => (Vec::new(), None),
        };
        let gap = since.zip(options.not_after).filter(|(since, checkpoint)| since > checkpoint);
        Self {
            seq: 1,
            positions,
            from: since.or(at),
            since,
            gap: gap.map(|(since, checkpoint)| hole(checkpoint, since)),
            previous: None,
            dialect: None,
        }
    }
}

fn hole(from: DateTime<Utc>, to: DateTime<Utc>) -> Gap {
    let reason = format!("lines from {} to {} were not to be read", manifest::spelled(from), manifest::spelled(to));
    Gap { log: None, offset: None, reason }
}

async fn meaning(logs: &dyn Store, start: &Start, options: &MakeOptions) -> Result<Meaning, ChangelogError> {
    let chained = start.dialect.as_deref().and_then(dialect::by_name);
    let dialect = match options.dialect.or(chained) {
        Some(dialect) => dialect,
        None => detect(logs, options).await?,
    };
    let MakeOptions { zone, until, now, .. } = *options;
    Ok(Meaning { dialect, zone, scope: options.scope.clone(), since: start.since, until, now })
}

/// The dialect that the beginnings of the logs look like.
async fn detect(logs: &dyn Store, options: &MakeOptions) -> Result<&'static dyn Dialect, ChangelogError> {
    const FILES: usize = 8;
    const BYTES: usize = 64 << 10;
    let heads = tail::heads(logs, &*options.wanted, FILES, BYTES).await.map_err(no_logs)?;
    if heads.is_empty() {
        return Err(ChangelogError::NoLogs);
    }
    let likely = heads.iter().find_map(|head| dialect::likely(head)).and_then(dialect::by_name);
    likely.ok_or(ChangelogError::UnknownDialect)
}

async fn survey(
    logs: &dyn Store,
    start: &Start,
    meaning: &Meaning,
    options: &MakeOptions,
) -> Result<Survey, ChangelogError> {
    let born = |head: &[u8]| first_time(meaning.dialect, head);
    let survey = tail::survey(logs, &start.positions, &options.seen, &*options.wanted, &born).await.map_err(no_logs)?;
    if survey.found == 0 {
        return Err(ChangelogError::NoLogs);
    }
    if survey.files.is_empty() && start.positions.is_empty() {
        return Err(ChangelogError::NoLines { files: survey.found });
    }
    Ok(survey)
}

/// The time of the first line that has one.
fn first_time(dialect: &dyn Dialect, head: &[u8]) -> Option<NaiveDateTime> {
    head.split(|b| *b == b'\n').find_map(|line| dialect.parse(line, &mut Vec::new()).ok())
}

fn no_logs(error: TailError) -> ChangelogError {
    match error {
        TailError::Store(error) if error.kind == ErrorKind::NotFound && error.path.is_root() => ChangelogError::NoLogs,
        error => ChangelogError::Tail(error),
    }
}

/// A window while its logs are read.
struct Draft<'a> {
    options: &'a MakeOptions,
    meaning: Arc<Meaning>,
    spool: Spool,
    tally: Tally,
    bad: Vec<Bad>,
    logs: Vec<LogRange>,
    positions: Vec<Position>,
    gaps: Vec<Gap>,
    /// A file could not be read as far as it goes, so the window's end stays where it was.
    behind: bool,
    /// See [`Manifest::doubts`].
    doubts: Vec<String>,
    /// Of the last line of each file that was read to its end.
    ends: Vec<(String, DateTime<Utc>)>,
    made: Made,
}

/// One file while it is read.
struct Part {
    crop: Crop,
    hash: Sha256,
    /// Everything before it was read.
    end: u64,
    /// See [`Position::open`].
    open: u64,
    /// What follows: bytes of a line that is not whole yet, or cannot be read yet.
    rest: Vec<u8>,
    rest_len: u64,
}

/// Why reading a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reached {
        torn: bool,
    },
    /// What follows is for a later window.
    Stopped,
}

impl Part {
    fn of(file: &LogFile) -> Self {
        let (end, open) = (file.offset(), file.offset() - file.resume());
        Self { crop: Crop::default(), hash: Sha256::new(), end, open, rest: Vec::new(), rest_len: 0 }
    }
}

impl<'a> Draft<'a> {
    async fn new(meaning: Arc<Meaning>, options: &'a MakeOptions) -> Result<Self, ChangelogError> {
        let dir = options.temp_dir.clone();
        let spool = blocking(move || Spool::new(dir)).await?;
        Ok(Self {
            options,
            meaning,
            spool,
            tally: Tally::default(),
            bad: Vec::new(),
            logs: Vec::new(),
            positions: Vec::new(),
            gaps: Vec::new(),
            behind: false,
            doubts: Vec::new(),
            ends: Vec::new(),
            made: Made::default(),
        })
    }

    fn check_gaps(&self) -> Result<(), ChangelogError> {
        if self.gaps.is_empty() || self.options.accept_gap {
            return Ok(());
        }
        Err(ChangelogError::Gap(self.gaps.clone()))
    }

    async fn read(&mut self, logs: &dyn Store, mut file: LogFile) -> Result<(), ChangelogError> {
        if file.idle {
            self.made.seen.keep(&file, &self.options.seen);
            self.positions.extend(idle_position(&file));
            return Ok(());
        }
        if let Some(gap) = self.read_once(logs, &file).await? {
            self.gaps.push(gap.into());
            self.check_gaps()?;
            file.known = None; // what is there now may all be new
            self.read_once(logs, &file).await?;
        }
        Ok(())
    }

    /// Reads what is new in one file; or says that it lost what had been read.
    async fn read_once(&mut self, logs: &dyn Store, file: &LogFile) -> Result<Option<tail::Gap>, ChangelogError> {
        let mut reader = Reader::new(logs, file, self.options.block_bytes);
        let mark = self.mark(file).await?;
        let mut part = Part::of(file);
        loop {
            let step = match reader.next().await {
                Err(TailError::Damaged { offset, cause, .. }) if self.options.accept_gap => {
                    return self.leave_out(part, file, offset, &cause).map(|()| None);
                }
                step => step?,
            };
            match step {
                Step::Block(block) => part = self.take(part, file, block).await?,
                Step::End { torn } => return self.keep(part, file, End::Reached { torn }).map(|()| None),
                Step::Rotated => return self.postpone(file, mark).await.map(|()| None),
                Step::Lost(gap) => return Ok(Some(gap)),
            }
            if part.crop.stop.is_none() {
                reader.put_back(std::mem::take(&mut part.rest));
            } else if reader.is_same().await? {
                return self.keep(part, file, End::Stopped).map(|()| None);
            } else {
                return self.postpone(file, mark).await.map(|()| None);
            }
        }
    }

    /// What follows damaged data is lost, and somebody accepted that.
    fn leave_out(&mut self, part: Part, file: &LogFile, at: u64, cause: &io::Error) -> Result<(), ChangelogError> {
        let reason = format!("what follows is lost, the compressed data is damaged: {cause}");
        self.gaps.push(Gap { log: Some(file.name.clone()), offset: Some(at), reason });
        let mut file = file.clone();
        file.closing = true;
        self.keep(Part { rest_len: 0, ..part }, &file, End::Reached { torn: false })
    }

    /// A file of one block is handed over when it has proven to be the right one; of a larger one what
    /// was taken may have to be given back.
    async fn mark(&mut self, file: &LogFile) -> Result<Option<Mark>, ChangelogError> {
        if file.meta.len.saturating_sub(file.resume()) < self.options.block_bytes as u64 {
            return Ok(None);
        }
        self.spooling(Spool::mark).await.map(Some)
    }

    async fn take(&mut self, mut part: Part, file: &LogFile, mut block: Block) -> Result<Part, ChangelogError> {
        let (meaning, log, from) = (Arc::clone(&self.meaning), file.name.clone(), file.offset());
        self.spooling(move |spool| {
            let (mut crop, used) = lines::reap(&meaning, &log, &block);
            let end = block.offset + used.bytes as u64;
            if end > from {
                spool.write(&std::mem::take(&mut crop.json))?;
                part.hash.update(between(&block, from, end));
                (part.end, part.open) = (end, used.open as u64);
                part.crop.add(crop);
            }
            part.rest = block.bytes.split_off(used.bytes);
            part.rest_len = part.rest.len() as u64;
            Ok(part)
        })
        .await
    }

    /// What was read of a file counts.
    fn keep(&mut self, part: Part, file: &LogFile, end: End) -> Result<(), ChangelogError> {
        self.check_dialect(&part.crop, file)?;
        let LogFile { name: log, fingerprint, .. } = file.clone();
        let Part { crop, hash, end: offset, open, rest_len, .. } = part;
        let closed = file.closing && end == End::Reached { torn: false } && rest_len == 0;
        self.positions.push(Position { log: log.clone(), fingerprint: fingerprint.clone(), offset, open, closed });
        if offset > file.offset() {
            let sha256 = hex(&hash.finalize());
            self.logs.push(LogRange { log, fingerprint, from: file.offset(), to: offset, sha256 });
        }
        self.tally.add(&crop.tally);
        lines::keep(&mut self.bad, crop.bad);
        if let End::Reached { torn } = end {
            self.note_end(file, offset, rest_len, torn);
            self.ends.extend(crop.last_time.map(|last| (file.name.clone(), last)));
        }
        Ok(())
    }

    fn note_end(&mut self, file: &LogFile, end: u64, rest: u64, torn: bool) {
        if torn {
            let warning = format!("{} ends within its compressed data: it is still being written", file.name);
            self.made.warnings.push(warning);
            self.behind = true;
        } else {
            self.made.seen.remember(file, end, rest);
        }
    }

    /// Nothing of a file counts: its name passed to another one while it was read.
    async fn postpone(&mut self, file: &LogFile, mark: Option<Mark>) -> Result<(), ChangelogError> {
        if let Some(mark) = mark {
            self.spooling(move |spool| spool.roll_back(mark)).await?;
        }
        self.behind = true;
        self.made.postponed += 1;
        self.positions.extend(file.known.clone());
        Ok(())
    }

    /// A file of another dialect is an error, a few bad lines in a good file are not.
    fn check_dialect(&self, crop: &Crop, file: &LogFile) -> Result<(), ChangelogError> {
        let Tally { lines, bad, records, .. } = crop.tally;
        let all = records == 0 && file.offset() == 0;
        let most = bad * 2 > lines && lines >= MOSTLY_BAD_LINES;
        let Some(first) = crop.bad.iter().find(|_| bad > 0 && (all || most)) else { return Ok(()) };
        let likely = dialect::likely(first.text.as_bytes()).map(str::to_owned);
        Err(ChangelogError::MostlyBad(Box::new(MostlyBad {
            log: file.name.clone(),
            dialect: self.meaning.dialect.name().to_owned(),
            bad,
            lines,
            offset: first.offset,
            column: first.column,
            expected: first.expected.clone(),
            likely,
        })))
    }

    fn warn(&mut self, survey: &Survey, start: &Start) {
        let (zone, new) = (self.hours_off(survey), strange_names(survey, start));
        self.doubts.extend(zone.into_iter().chain(new));
        let warnings = &mut self.made.warnings;
        warnings.extend(survey.warnings.iter().cloned());
        warnings.extend(self.doubts.iter().cloned());
        if self.tally.future > 0 {
            warnings.push(format!("{} changes carry a time that is still to come", self.tally.future));
        }
        warnings.extend(late_start(start, &self.tally));
    }

    fn hours_off(&self, survey: &Survey) -> Option<String> {
        let newest = survey.newest()?;
        let (log, last) = self.ends.iter().find(|(log, _)| *log == newest.name)?;
        whole_hours_off(log, self.options.zone, *last, DateTime::from_timestamp_nanos(newest.meta.mtime?.0))
    }

    /// True if there is something to say: a change, a record that was set aside, a gap; or, where lines change nothing, that
    /// they were many or go on for long.
    fn is_news(&self, start: &Start) -> bool {
        let says = self.tally.changes() + self.tally.bad + self.tally.odd > 0 || !self.gaps.is_empty();
        let read: u64 = self.logs.iter().map(|range| range.to - range.from).sum();
        let name = self.name(start);
        let idle_for = name.to - name.from;
        says || (read > 0 && (read >= IDLE_BYTES || idle_for >= self.options.idle_max))
    }

    fn without_window(mut self) -> Made {
        self.made.lines = self.tally.lines;
        self.made
    }

    /// Writes data, side file and manifest, in this order: the manifest makes the window exist.
    async fn write(mut self, out: &dyn Store, start: &Start) -> Result<Made, ChangelogError> {
        let name = self.name(start);
        let first = self.rescan(&name);
        if !first.is_empty() {
            *self.tally.counts.entry(Op::Rescan).or_default() += 1;
        }
        let spool = self.spool;
        let spooled = blocking(move || spool.finish(&first)).await?;
        let data = put_data(out, &name, spooled, self.tally.changes()).await?;
        let bad_file = put_bad(out, &name, &self.bad).await?;
        out.sync().await?;
        self.positions.sort_by(|a, b| (&a.log, &a.fingerprint).cmp(&(&b.log, &b.fingerprint)));
        let manifest = Manifest {
            version: VERSION,
            seq: name.seq,
            from: name.from,
            to: name.to,
            dialect: self.meaning.dialect.name().to_owned(),
            time_zone: self.options.zone.to_string(),
            audit_root: self.options.scope.to_string(),
            lines: self.tally.lines,
            bad: self.tally.bad,
            early: self.tally.early,
            ignored: self.tally.ignored,
            outside: self.tally.outside,
            odd: self.tally.odd,
            first_record: self.tally.first,
            last_record: self.tally.last,
            spans: self.tally.spans,
            doubts: self.doubts,
            counts: self.tally.counts,
            logs: self.logs,
            positions: self.positions,
            rescan_all: !self.gaps.is_empty(),
            gaps: self.gaps,
            data,
            bad_file,
            previous: start.previous.clone(),
        };
        let sha256 = put_manifest(out, &manifest).await?;
        let (lines, window) = (manifest.lines, Some(manifest));
        Ok(Made { window, manifest_sha256: Some(sha256), lines, ..self.made })
    }

    /// A window begins where the one before ended, and ends where nothing earlier can come any more.
    fn name(&self, start: &Start) -> WindowName {
        let first = [self.options.not_after, self.tally.first].into_iter().flatten().min();
        let from = start.from.or(first).unwrap_or(DateTime::UNIX_EPOCH);
        let last = self.tally.last.map(|last| self.options.until.map_or(last, |until| last.min(until)));
        let known = last.filter(|_| !self.behind).map(|last| last - LATENESS);
        WindowName { seq: start.seq, from, to: known.map_or(from, |known| known.max(from)) }
    }

    /// The change that a gap makes necessary.
    fn rescan(&self, name: &WindowName) -> Vec<u8> {
        let mut json = Vec::new();
        if let Some(gap) = self.gaps.first() {
            let (log, offset) = (gap.log.clone().unwrap_or_default(), gap.offset.unwrap_or(0));
            let (time, path) = (name.from, RelPath::root());
            lines::append(
                &mut json,
                &Change { time, op: Op::Rescan, path, to: None, into: false, user: None, log, offset },
            );
        }
        json
    }

    /// Lends the spool to a thread that may block.
    async fn spooling<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spool) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ChangelogError> {
        let mut spool = std::mem::replace(&mut self.spool, Spool::broken());
        let (spool, result) = blocking(move || {
            let result = work(&mut spool);
            Ok((spool, result))
        })
        .await?;
        self.spool = spool;
        Ok(result?)
    }
}

/// A file in which nothing is new keeps its place; only its name may be another, and it may be done.
fn idle_position(file: &LogFile) -> Option<Position> {
    let known = file.known.clone()?;
    Some(Position { log: file.name.clone(), closed: known.closed || file.closing, ..known })
}

/// The bytes of a block in a half-open range of the file.
fn between(block: &Block, from: u64, to: u64) -> &[u8] {
    let index = |offset: u64| usize::try_from(offset.saturating_sub(block.offset)).unwrap_or(usize::MAX);
    let end = index(to).min(block.bytes.len());
    &block.bytes[index(from).min(end)..end]
}

/// Logs that no rotation explains may be those of another source. Where there were none before, all are new.
fn strange_names(survey: &Survey, start: &Start) -> Vec<String> {
    let known: BTreeSet<&str> = start.positions.iter().map(|position| stem(&position.log)).collect();
    let new = survey.files.iter().filter(|file| file.known.is_none() && !known.contains(stem(&file.name)));
    let new = new.filter(|_| !known.is_empty());
    let doubt = |file: &LogFile| {
        format!("{} is a log under a new name: if another source writes it, \"as of\" may be too late", file.name)
    };
    new.map(doubt).collect()
}

/// A name up to its first digit or packing: what a rotation leaves of it.
fn stem(name: &str) -> &str {
    let plain = [".gz", ".zst"].iter().find_map(|packing| name.strip_suffix(packing)).unwrap_or(name);
    let file = plain.rfind('/').map_or(0, |slash| slash + 1);
    let digit = plain[file..].find(|c: char| c.is_ascii_digit()).map_or(plain.len(), |digit| file + digit);
    plain[..digit].trim_end_matches(['.', '-', '_'])
}

/// Logs that begin after the time from which on they were asked for may have had more.
fn late_start(start: &Start, tally: &Tally) -> Option<String> {
    let (since, first) = (start.since.filter(|_| start.previous.is_none())?, tally.first?);
    (tally.early == 0 && first > since).then(|| {
        let (first, since) = (manifest::spelled(first), manifest::spelled(since));
        format!("the oldest line is of {first}: what changed from {since} until then may not be in the logs")
    })
}

async fn put_data(
    out: &dyn Store,
    window: &WindowName,
    spooled: Spooled,
    changes: u64,
) -> Result<Data, ChangelogError> {
    out.create_root().await?;
    let name = window.data();
    let data = Data { name: name.clone(), sha256: spooled.sha256.clone(), bytes: spooled.bytes, changes };
    let path = read::path(&name)?;
    let (meta, body) = spooled.into_put(&path);
    out.put(&path, &meta, body).await?;
    Ok(data)
}

async fn put_bad(out: &dyn Store, window: &WindowName, bad: &[Bad]) -> Result<Option<String>, ChangelogError> {
    if bad.is_empty() {
        return Ok(None);
    }
    let lines: Result<Vec<String>, _> = bad.iter().map(serde_json::to_string).collect();
    let text = lines.map_err(std::io::Error::from)?.join("\n") + "\n";
    put_text(out, &window.bad(), text).await?;
    Ok(Some(window.bad()))
}

async fn put_manifest(out: &dyn Store, manifest: &Manifest) -> Result<String, ChangelogError> {
    let text = serde_json::to_string_pretty(manifest).map_err(std::io::Error::from)? + "\n";
    let sha256 = tail::sha256(text.as_bytes());
    put_text(out, &manifest.name().manifest(), text).await?;
    out.sync().await?;
    Ok(sha256)
}

async fn put_text(out: &dyn Store, name: &str, text: String) -> Result<(), ChangelogError> {
    let meta = Meta::file(text.len() as u64);
    Ok(out.put(&read::path(name)?, &meta, Body::Whole(text.into())).await?)
}

/// Where blocking work crosses over: compression, temporary files, parsing on all cores.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ChangelogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}
