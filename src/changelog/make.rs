//! Makes one window: reads what is new in the audit logs since the last one, and writes its changes, then its
//! manifest. What is written depends on the logs and the options alone, not on the clock or the machine.

use super::lines::{self, Bad, Crop, Extent, Meaning, Origin, Tally};
use super::manifest::{self, Data, Gap, LogRange, Manifest, VERSION, WindowName};
use super::memory::Memory;
use super::spool::{Mark, Spool, Spooled};
use super::{ChangelogError, MostlyBad, read};
use crate::scope::Scope;
use crate::store::{Body, ErrorKind, Meta, Store};
use crate::tail::{
    self, BLOCK_BYTES, Beginning, Block, Consumed, Follows, Head, LogFile, Position, Reader, Seen, Step, Survey,
    TailError,
};
use crate::zone::{Zone, utc_whole_hours_off, whole_hours_off};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use syncd_parsers::detect::{self, SAMPLE_BYTES, Sample, Undetected};
use syncd_parsers::dialect::{self, Clock, Delivery};
use syncd_parsers::{Change, Dialect, Op, RelPath};

/// So much of a log that changes nothing makes a window however short the time: reading it again has its price, too.
const IDLE_BYTES: u64 = 4 << 20;

/// After so much of a file its lines have to be those of a log: what a few compressed bytes can unpack to has no end.
const TRUSTED_BYTES: u64 = 64 << 20;

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
    /// How much older than the newest record one may be that is still to come; `None`: as the dialect has it.
    pub lateness: Option<TimeDelta>,
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
            lateness: None,
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
    let mut start = Start::new(last, options)?;
    let meaning = Arc::new(meaning(logs, &mut start, options).await?);
    let survey = survey(logs, &start, &meaning, options).await?;
    let mut draft = Draft::new(meaning, options).await?;
    draft.consumed = start.consumed.clone();
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
    draft.read_late(logs, &start).await?;
    draft.write(out, &start).await
}

/// Where a window begins.
struct Start {
    seq: u64,
    positions: Vec<Position>,
    consumed: Consumed,
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
            consumed: manifest.consumed,
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
            consumed: Consumed::default(),
            from: since.or(at),
            since,
            gap: gap.map(|(since, checkpoint)| hole(checkpoint, since)),
            previous: None,
            dialect: None,
        }
    }
}

impl Start {
    /// Objects have no positions, and a first one of them may hold records that are late, as when something was begun long
    /// before it was logged.
    fn suit(&mut self, dialect: &dyn Dialect, lateness: TimeDelta) {
        if matches!(dialect.delivery(), Delivery::Appended(_)) {
            return;
        }
        self.positions.clear();
        if self.previous.is_none() {
            self.since = self.since.or(self.from).map(|since| since - lateness);
            self.since.into_iter().for_each(|since| self.consumed.begin(since));
        }
    }
}

/// How much older than the newest record one may be that is still to come.
fn lateness(dialect: &dyn Dialect, options: &MakeOptions) -> TimeDelta {
    options.lateness.unwrap_or(match dialect.delivery() {
        Delivery::Appended(lateness) | Delivery::Objects(lateness) => lateness,
    })
}

fn hole(from: DateTime<Utc>, to: DateTime<Utc>) -> Gap {
    let reason = format!("lines from {} to {} were not to be read", manifest::spelled(from), manifest::spelled(to));
    Gap { log: None, offset: None, reason }
}

async fn meaning(logs: &dyn Store, start: &mut Start, options: &MakeOptions) -> Result<Meaning, ChangelogError> {
    let dialect = match (options.dialect, start.dialect.as_deref()) {
        (Some(dialect), _) => dialect,
        (None, Some(name)) => chained(name)?,
        (None, None) => detect(logs, options).await?,
    };
    let MakeOptions { until, now, .. } = *options;
    let zone = zone_of(dialect, options.zone)?;
    start.suit(dialect, lateness(dialect, options));
    Ok(Meaning { dialect, zone, scope: options.scope.clone(), since: start.since, until, now })
}

/// The zone of the log's times. One that is given for a log of UTC is a mistake: then either is wrong.
fn zone_of(dialect: &dyn Dialect, given: Zone) -> Result<Zone, ChangelogError> {
    match dialect.clock() {
        Clock::Local | Clock::LocalWithoutYear => Ok(given),
        Clock::Utc | Clock::OfFile if given.is_utc() => Ok(Zone::UTC),
        Clock::Utc | Clock::OfFile => Err(ChangelogError::ZoneOfUtc { dialect: dialect.name(), given }),
    }
}

/// The dialect of the windows before.
fn chained(name: &str) -> Result<&'static dyn Dialect, ChangelogError> {
    dialect::by_name(name).ok_or_else(|| ChangelogError::OtherDialect { name: name.to_owned() })
}

/// The one dialect that the beginnings of the logs are of, those left out that are of none.
async fn detect(logs: &dyn Store, options: &MakeOptions) -> Result<&'static dyn Dialect, ChangelogError> {
    const FILES: usize = 8;
    let beginnings = tail::beginnings(logs, &*options.wanted, FILES, SAMPLE_BYTES).await.map_err(no_logs)?;
    let (mut found, mut other): (Option<(String, &dyn Dialect)>, _) = (None, None);
    for Beginning { log, bytes, is_whole } in beginnings {
        match (detect::detect(Sample { bytes: &bytes, is_whole }), &found) {
            (Ok(dialect), Some((one, first))) if first.name() != dialect.name() => {
                let (one, first) = (one.clone(), first.name());
                return Err(ChangelogError::TwoDialects { one, first, log, second: dialect.name() });
            }
            (Ok(dialect), _) => found = Some((log, dialect)),
            (Err(why @ (Undetected::Mixed { .. } | Undetected::Ambiguous { .. })), _) => {
                return Err(ChangelogError::NoDialect { log, why });
            }
            (Err(why), _) => other = other.or(Some(ChangelogError::NoDialect { log, why })),
        }
    }
    found.map(|(_, dialect)| dialect).ok_or_else(|| other.unwrap_or(ChangelogError::NoLogs))
}

async fn survey(
    logs: &dyn Store,
    start: &Start,
    meaning: &Meaning,
    options: &MakeOptions,
) -> Result<Survey, ChangelogError> {
    let wanted = |name: &str| is_wanted(name, meaning, options);
    let born = |head: &Head| meaning.born(head);
    let survey = match meaning.dialect.delivery() {
        Delivery::Objects(_) => tail::objects(logs, &start.consumed, &wanted).await,
        Delivery::Appended(_) => tail::survey(logs, &start.positions, &options.seen, &wanted, &born).await,
    };
    let survey = survey.map_err(no_logs)?;
    if survey.found == 0 {
        return Err(ChangelogError::NoLogs);
    }
    if survey.files.is_empty() && start.positions.is_empty() && start.consumed.is_empty() {
        return Err(ChangelogError::NoLines { files: survey.found });
    }
    Ok(survey)
}

fn is_wanted(name: &str, meaning: &Meaning, options: &MakeOptions) -> bool {
    (options.wanted)(name) && (meaning.dialect.clock() != Clock::OfFile || meaning.time_of_file(name).is_some())
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
    memory: Memory,
    tally: Tally,
    bad: Vec<Bad>,
    logs: Vec<LogRange>,
    positions: Vec<Position>,
    consumed: Consumed,
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
    /// Everything before it was read.
    end: u64,
    /// See [`Position::open`].
    open: u64,
    /// How many bytes follow: of a line that is not whole yet, or cannot be read yet.
    rest_len: u64,
    /// How the file begins, if it was read from there.
    head: Vec<u8>,
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
        Self { crop: Crop::default(), end, open, rest_len: 0, head: Vec::new() }
    }

    /// Notes what of a block is not read with it.
    fn measure(&mut self, block: &Block, extent: Extent) {
        if block.offset == 0 {
            self.head = block.bytes[..block.bytes.len().min(SAMPLE_BYTES)].to_vec();
        }
        self.rest_len = (block.bytes.len() - extent.used.bytes) as u64;
    }
}

impl<'a> Draft<'a> {
    async fn new(meaning: Arc<Meaning>, options: &'a MakeOptions) -> Result<Self, ChangelogError> {
        let dir = options.temp_dir.clone();
        let spool = blocking(move || Spool::new(dir)).await?;
        Ok(Self {
            options,
            memory: Memory::of(meaning.dialect),
            meaning,
            spool,
            tally: Tally::default(),
            bad: Vec::new(),
            logs: Vec::new(),
            positions: Vec::new(),
            consumed: Consumed::default(),
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
            self.memory.forget();
            self.read_once(logs, &file).await?;
        }
        Ok(())
    }

    /// Where directories are named after days, those that are over are looked through once more whenever this window ends another
    /// day: a service may deliver later than it says. What came late before the first window is not wanted.
    async fn read_late(&mut self, logs: &dyn Store, start: &Start) -> Result<(), ChangelogError> {
        if start.previous.is_none() || !self.consumed.forgets(self.name(start).to) {
            return Ok(());
        }
        let (meaning, options) = (Arc::clone(&self.meaning), self.options);
        let wanted = |name: &str| is_wanted(name, &meaning, options);
        let files = tail::late_objects(logs, &self.consumed, &wanted).await?.files;
        let late: Vec<&str> = files.iter().map(|file| &*file.name).filter(|name| self.consumed.is_late(name)).collect();
        self.made.warnings.extend(late.first().map(|first| late_warning(first, late.len())));
        for file in files {
            self.read(logs, file).await?;
        }
        Ok(())
    }

    /// Reads what is new in one file; or says that it lost what had been read.
    async fn read_once(&mut self, logs: &dyn Store, file: &LogFile) -> Result<Option<tail::Gap>, ChangelogError> {
        let mut reader = Reader::new(logs, file, self.options.block_bytes);
        let mut mark = None;
        let mut part = Part::of(file);
        loop {
            let step = match reader.next().await {
                Err(error) => return self.leave_out(part, file, error).map(|()| None),
                Ok(step) => step,
            };
            match step {
                Step::Block(block) => {
                    let (block, extent) = self.measure(file, block).await?;
                    if mark.is_none() {
                        mark = self.mark(&block, extent).await?;
                    }
                    part.measure(&block, extent);
                    reader.put_back(&block.bytes[extent.used.bytes..]);
                    let ahead = async { Ok::<_, ChangelogError>(reader.read_ahead().await) };
                    let ((taken, block), ahead) = tokio::try_join!(self.take(part, file, block, extent), ahead)?;
                    part = taken;
                    reader.reuse(block.bytes);
                    if let Err(error) = ahead {
                        return self.leave_out(part, file, error).map(|()| None);
                    }
                }
                Step::End { torn } => return self.keep(part, file, End::Reached { torn }).map(|()| None),
                Step::Rotated => return self.postpone(file, mark).await.map(|()| None),
                Step::Lost(gap) => return Ok(Some(gap)),
            }
            if part.end - file.offset() > TRUSTED_BYTES {
                self.check_dialect(&part, file)?;
            }
            if part.crop.stop.is_some() {
                return match reader.is_same().await? {
                    true => self.keep(part, file, End::Stopped).map(|()| None),
                    false => self.postpone(file, mark).await.map(|()| None),
                };
            }
        }
    }

    /// What follows damaged data is lost, if somebody accepts that.
    fn leave_out(&mut self, part: Part, file: &LogFile, error: TailError) -> Result<(), ChangelogError> {
        let TailError::Damaged { offset, cause, .. } = &error else { return Err(error.into()) };
        if !self.options.accept_gap {
            return Err(error.into());
        }
        let reason = format!("what follows is lost, the compressed data is damaged: {cause}");
        self.gaps.push(Gap { log: Some(file.name.clone()), offset: Some(*offset), reason });
        let mut file = file.clone();
        file.closing = true;
        self.keep(Part { rest_len: 0, ..part }, &file, End::Reached { torn: false })
    }

    /// The last block of a file is handed over when the file has proven to be the right one; what is taken before may have to
    /// be given back.
    async fn mark(&mut self, block: &Block, extent: Extent) -> Result<Option<Mark>, ChangelogError> {
        let is_proven = block.follows != Follows::More && extent.stop.is_none();
        if is_proven { Ok(None) } else { self.spooling(Spool::mark).await.map(Some) }
    }

    /// How much of a block to read now; what follows that begins the next one.
    async fn measure(&self, file: &LogFile, block: Block) -> Result<(Block, Extent), ChangelogError> {
        let (meaning, origin) = (Arc::clone(&self.meaning), origin(file));
        blocking(move || {
            let extent = lines::extent(&meaning, &origin, &block);
            Ok((block, extent))
        })
        .await
    }

    async fn take(
        &mut self,
        mut part: Part,
        file: &LogFile,
        block: Block,
        extent: Extent,
    ) -> Result<(Part, Block), ChangelogError> {
        let (meaning, origin, from) = (Arc::clone(&self.meaning), origin(file), file.offset());
        let mut memory = std::mem::take(&mut self.memory);
        let (part, block, memory) = self
            .spooling(move |spool| {
                let (used, end) = (extent.used, block.offset + extent.used.bytes as u64);
                let mut crop = lines::reap(&meaning, &origin, &mut memory, &block, extent);
                if end > from {
                    spool.write_all(std::mem::take(&mut crop.text))?;
                    (part.end, part.open) = (end, used.open as u64);
                    part.crop.add(crop);
                }
                Ok((part, block, memory))
            })
            .await?;
        self.memory = memory;
        Ok((part, block))
    }

    /// What was read of a file counts.
    fn keep(&mut self, part: Part, file: &LogFile, end: End) -> Result<(), ChangelogError> {
        self.check_dialect(&part, file)?;
        let LogFile { name: log, fingerprint, .. } = file.clone();
        let Part { crop, end: offset, open, rest_len, .. } = part;
        let is_object = matches!(self.meaning.dialect.delivery(), Delivery::Objects(_));
        let closed = file.closing && end == End::Reached { torn: false } && rest_len == 0;
        match is_object {
            true if closed => self.consumed.add(&log, &file.meta),
            true => {}
            false => {
                let (log, fingerprint) = (log.clone(), fingerprint.clone());
                self.positions.push(Position { log, fingerprint, offset, open, closed });
            }
        }
        if offset > file.offset() {
            self.logs.push(LogRange { log, fingerprint, from: file.offset(), to: offset });
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
        self.memory.forget();
        self.behind = true;
        self.made.postponed += 1;
        self.positions.extend(file.known.clone());
        Ok(())
    }

    /// A file of another dialect is an error, a few bad lines in a good file are not.
    fn check_dialect(&self, part: &Part, file: &LogFile) -> Result<(), ChangelogError> {
        let Tally { lines, bad, records, .. } = part.crop.tally;
        let Some(first) = part.crop.bad.first() else { return self.check_silent(part, file) };
        let all = records == 0 && file.offset() == 0;
        let most = bad * 2 > lines;
        let likely = || self.likely(part, first);
        let likely = if all || (most && lines >= MOSTLY_BAD_LINES) {
            likely().ok()
        } else if most && let Ok(other) = likely() {
            Some(other)
        } else {
            return Ok(());
        };
        Err(ChangelogError::MostlyBad(Box::new(MostlyBad {
            log: file.name.clone(),
            dialect: self.meaning.dialect.name().to_owned(),
            bad,
            lines,
            offset: first.offset,
            column: first.column,
            expected: first.expected.clone(),
            text: detect::shown(first.text.as_bytes()),
            likely: likely.map(str::to_owned),
        })))
    }

    /// A file that says nothing holds reads alone, or waits for more lines, or is of another dialect.
    fn check_silent(&self, part: &Part, file: &LogFile) -> Result<(), ChangelogError> {
        if part.crop.tally.says_something() || part.head.is_empty() {
            return Ok(());
        }
        let is_whole = part.head.len() < SAMPLE_BYTES;
        match detect::detect(Sample { bytes: &part.head, is_whole }) {
            Ok(found) if !self.is_ours(found) => {
                let (log, dialect, likely) = (file.name.clone(), self.meaning.dialect.name(), found.name());
                Err(ChangelogError::OtherLog { log, dialect, likely })
            }
            _ => Ok(()),
        }
    }

    /// A dialect, or that of which it is one spelling.
    fn is_ours(&self, found: &dyn Dialect) -> bool {
        self.meaning.dialect.name().starts_with(found.name())
    }

    /// The other dialect that a file is of, by its beginning or by the first of its lines that is bad.
    fn likely(&self, part: &Part, first: &Bad) -> Result<&'static str, Undetected> {
        let is_whole = part.head.len() < SAMPLE_BYTES;
        let of_head = detect::detect(Sample { bytes: &part.head, is_whole });
        let found = of_head.or_else(|_| detect::detect(Sample { bytes: first.text.as_bytes(), is_whole: true }))?;
        if self.is_ours(found) { Err(Undetected::Empty) } else { Ok(found.name()) }
    }

    fn warn(&mut self, survey: &Survey, start: &Start) {
        let (zone, new) = (self.hours_off(survey), strange_names(survey, start, self.meaning.dialect));
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
        clock_warning(&self.meaning, log, *last, modified(newest)?)
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
        if !self.consumed.is_empty() {
            self.consumed.begin(name.to);
        }
        let first = self.rescan(&name);
        if !first.is_empty() {
            self.tally.counts[Op::Rescan as usize] += 1;
        }
        let lateness_seconds = u64::try_from(self.lateness().num_seconds()).unwrap_or(0);
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
            doubles: self.tally.doubles,
            first_record: self.tally.first,
            last_record: self.tally.last,
            spans: self.tally.spans.clone(),
            doubts: self.doubts,
            counts: self.tally.by_op(),
            logs: self.logs,
            positions: self.positions,
            consumed: self.consumed,
            lateness_seconds,
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
        let known = last.filter(|_| !self.behind).map(|last| last - self.lateness());
        WindowName { seq: start.seq, from, to: known.map_or(from, |known| known.max(from)) }
    }

    fn lateness(&self) -> TimeDelta {
        lateness(self.meaning.dialect, self.options)
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

/// Where a log appears in whole objects, its times tell nothing of when these were written.
fn clock_warning(meaning: &Meaning, log: &str, last: DateTime<Utc>, modified: DateTime<Utc>) -> Option<String> {
    match (meaning.dialect.delivery(), meaning.dialect.clock()) {
        (Delivery::Objects(_), _) | (_, Clock::OfFile) => None,
        (_, Clock::Local | Clock::LocalWithoutYear) => whole_hours_off(log, meaning.zone, last, modified),
        (_, Clock::Utc) => utc_whole_hours_off(log, last, modified),
    }
}

fn origin(file: &LogFile) -> Origin {
    Origin { log: file.name.clone(), modified: modified(file) }
}

fn modified(file: &LogFile) -> Option<DateTime<Utc>> {
    file.meta.mtime.map(|time| DateTime::from_timestamp_nanos(time.0))
}

/// A file in which nothing is new keeps its place; only its name may be another, and it may be done.
fn idle_position(file: &LogFile) -> Option<Position> {
    let known = file.known.clone()?;
    Some(Position { log: file.name.clone(), closed: known.closed || file.closing, ..known })
}

/// Logs that no rotation explains may be those of another source. Where there were none before, all are new; where each delivery
/// has a name of its own, names say nothing.
fn strange_names(survey: &Survey, start: &Start, dialect: &dyn Dialect) -> Vec<String> {
    let known: BTreeSet<String> = start.positions.iter().map(|position| stem(&position.log)).collect();
    if known.is_empty() || matches!(dialect.delivery(), Delivery::Objects(_)) {
        return Vec::new();
    }
    let new = survey.files.iter().filter(|file| file.known.is_none() && !known.contains(&stem(&file.name)));
    let doubt = |file: &LogFile| {
        format!("{} is a log under a new name: if another source writes it, \"as of\" may be too late", file.name)
    };
    new.map(doubt).collect()
}

fn late_warning(first: &str, objects: usize) -> String {
    format!(
        "{objects} log objects appeared when their day was taken for over, and are read only now, the first is {first}: a \
         larger --lateness keeps days open for longer"
    )
}

/// What rotations, dates and packing leave of a name.
fn stem(name: &str) -> String {
    let plain = [".gz", ".zst"].iter().find_map(|packing| name.strip_suffix(packing)).unwrap_or(name);
    plain.chars().filter(|c| !c.is_ascii_digit() && !['.', '-', '_'].contains(c)).collect()
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
