//! The raw log of Linux auditd: events of several records, of which the names of system calls are read. Which numbers
//! calls have on which processor is `syscalls.rs`. See docs/formats/linux-auditd.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect, Framing};
use crate::error::ParseError;
use crate::sink::Sink;
use crate::syscalls::{self, Call, Effect};
use chrono::{DateTime, NaiveDateTime, TimeDelta};
use memchr::memchr;
use std::borrow::Cow;

/// What separates the raw part of a line from what `log_format = ENRICHED` adds.
const ENRICHED: u8 = 0x1d;
/// How many names one event may have; the kernel collects fewer.
const ITEMS_MAX: usize = 256;

/// The dialect `linux-auditd`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinuxAuditd;

impl Dialect for LinuxAuditd {
    fn name(&self) -> &'static str {
        "linux-auditd"
    }

    fn framing(&self) -> Framing {
        Framing::Events
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    /// Events of several processors overtake each other.
    fn delivery(&self) -> Delivery {
        Delivery::Appended(TimeDelta::seconds(2))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "calls that no rule covers, and events that the kernel dropped because its backlog was full",
            "what is written through a file that is open, or mapped into memory; only its opening is logged",
            "a second hard link of a file that is written through the first",
            "real paths: names are those of the process, through its symlinks, mounts and roots",
            "what NFS or SMB clients do through a server in the kernel",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        Record::of(line).is_some()
    }

    fn event<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        Record::of(line).map(|record| record.stamp)
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let first = Record::of(record);
        let time = first.and_then(|first| time_of(first.stamp)).ok_or(ParseError::malformed(0, TYPE))?;
        let mut at = 0;
        let mut nodes: Vec<(&[u8], Event)> = Vec::new();
        for line in record.split(|byte| *byte == b'\n') {
            let record = Record::of(line).ok_or(ParseError::malformed(at, TYPE))?;
            let index = nodes.iter().position(|(node, _)| *node == record.node);
            let index = index.unwrap_or_else(|| {
                nodes.push((record.node, Event::default()));
                nodes.len() - 1
            });
            nodes[index].1.add(&record).map_err(|expected| ParseError::malformed(at, expected))?;
            at += line.len() + 1;
        }
        nodes.iter().for_each(|(_, event)| event.name(time, out));
        Ok(time)
    }

    /// An event that cannot be read may have named anything, if it has names.
    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let of_names = |record: &Record| matches!(record.kind, b"SYSCALL" | b"PATH" | b"URINGOP");
        let line = record.split(|byte| *byte == b'\n').filter_map(Record::of).find(of_names);
        if let Some(time) = line.and_then(|line| time_of(line.stamp)) {
            Sink::plain(time, None, out).name(Op::Rescan, b"/");
        }
    }
}

const TYPE: &str = "type=TYPE msg=audit(SECONDS.mmm:SERIAL):";

/// One line: `[node=HOST ]type=TYPE msg=audit(STAMP): FIELDS`.
#[derive(Clone, Copy)]
struct Record<'a> {
    node: &'a [u8],
    kind: &'a [u8],
    stamp: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Record<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
        let (node, rest) = match line.strip_prefix(b"node=") {
            Some(rest) => {
                let end = memchr(b' ', &rest[..rest.len().min(256)])?;
                (&rest[..end], &rest[end + 1..])
            }
            None => (&b""[..], line),
        };
        let rest = rest.strip_prefix(b"type=")?;
        let end = memchr(b' ', &rest[..rest.len().min(64)])?;
        let (kind, rest) = (&rest[..end], rest[end + 1..].strip_prefix(b"msg=audit(")?);
        let close = memchr(b')', &rest[..rest.len().min(64)])?;
        let (stamp, rest) = (&rest[..close], rest[close + 1..].strip_prefix(b":")?);
        let fields = &rest[..memchr(ENRICHED, rest).unwrap_or(rest.len())];
        time_of(stamp).map(|_| Self { node, kind, stamp, fields })
    }

    /// The first value with this key. Values hold no spaces: a text with one is written in hexadecimal.
    fn value(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.fields.split(|byte| *byte == b' ').find_map(|field| field.strip_prefix(key))
    }
}

/// The time of `1492037291.038:60`, in UTC.
fn time_of(stamp: &[u8]) -> Option<NaiveDateTime> {
    let text = std::str::from_utf8(stamp).ok()?;
    let (seconds, rest) = text.split_once('.')?;
    let (millis, serial) = rest.split_once(':')?;
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_stamp = [seconds, millis, serial].iter().all(is_number) && millis.len() == 3;
    let millis = seconds.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(millis.parse().ok()?)?;
    DateTime::from_timestamp_millis(millis).filter(|_| is_stamp).map(|time| time.naive_utc())
}

/// What the records of one event say together.
#[derive(Default)]
struct Event<'a> {
    request: Option<Request<'a>>,
    cwd: Option<Cow<'a, [u8]>>,
    items: Vec<Item<'a>>,
    /// What `openat2` was asked for, where the kernel says so.
    open_flags: Option<u64>,
}

/// The record `SYSCALL`, or `URINGOP`.
struct Request<'a> {
    call: Call,
    is_success: bool,
    /// The first four arguments.
    arguments: [Option<u64>; 4],
    /// How many names the event has.
    items: Option<usize>,
    user: Option<&'a [u8]>,
}

/// One record `PATH`.
struct Item<'a> {
    /// As the process gave it; none where it gave none.
    name: Option<Cow<'a, [u8]>>,
    role: Role,
    /// Inode and device.
    file: (Option<&'a [u8]>, Option<&'a [u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The directory of another item.
    Parent,
    Made,
    Removed,
    Normal,
    /// An old kernel does not say.
    Unknown,
}

impl<'a> Event<'a> {
    fn add(&mut self, record: &Record<'a>) -> Result<(), &'static str> {
        match record.kind {
            b"SYSCALL" => self.request = Some(Request::of_syscall(record)?),
            b"URINGOP" => self.request = Some(Request::of_uring(record)?),
            b"CWD" => self.cwd = record.value(b"cwd=").and_then(text_of),
            b"PATH" if self.items.len() < ITEMS_MAX => self.items.push(Item::of(record)?),
            b"PATH" => return Err("fewer names in one event"),
            b"OPENAT2" => self.open_flags = record.value(b"oflag=").and_then(|flags| number(flags, 8)),
            _ => (),
        }
        Ok(())
    }

    fn name(&self, time: NaiveDateTime, out: &mut Vec<Entry>) {
        let unknown = Request::unknown();
        let request = self.request.as_ref().unwrap_or(&unknown);
        if !request.is_success || request.call.effect == Effect::Ignored {
            return;
        }
        let mut names = Names { event: self, request, sink: Sink::plain(time, request.user, out) };
        let is_whole = request.items.is_none_or(|items| items <= self.items.len());
        if !is_whole && names.changes() {
            names.sink.name(Op::Rescan, b"/");
        }
        names.name();
    }
}

impl<'a> Request<'a> {
    /// What stands for a record that was lost.
    fn unknown() -> Self {
        Self { call: Call::UNKNOWN, is_success: true, arguments: [None; 4], items: None, user: None }
    }

    fn of_syscall(record: &Record<'a>) -> Result<Self, &'static str> {
        let arch = record.value(b"arch=").and_then(|arch| number(arch, 16)).ok_or("arch=")?;
        let syscall = record.value(b"syscall=").and_then(|syscall| number(syscall, 10)).ok_or("syscall=")?;
        let call = syscalls::call(arch, syscall);
        if call.effect == Effect::Ignored {
            return Ok(Self { call, ..Self::unknown() });
        }
        let keys: [&[u8]; 4] = [b"a0=", b"a1=", b"a2=", b"a3="];
        let arguments = keys.map(|key| record.value(key).and_then(|value| number(value, 16)));
        Ok(Self { call, arguments, ..Self::of_both(record) })
    }

    /// Operations of io_uring: their arguments are not logged, the roles of their names tell.
    fn of_uring(record: &Record<'a>) -> Result<Self, &'static str> {
        record.value(b"uring_op=").ok_or("uring_op=")?;
        Ok(Self::of_both(record))
    }

    fn of_both(record: &Record<'a>) -> Self {
        let items = record.value(b"items=").and_then(|items| number(items, 10));
        Self {
            is_success: record.value(b"success=") != Some(b"no"),
            items: items.and_then(|items| usize::try_from(items).ok()),
            user: record.value(b"uid="),
            ..Self::unknown()
        }
    }
}

impl<'a> Item<'a> {
    fn of(record: &Record<'a>) -> Result<Self, &'static str> {
        let name = record.value(b"name=").ok_or("name=")?;
        let role = record.value(b"nametype=").or_else(|| record.value(b"objtype="));
        let role = match role {
            Some(b"PARENT") => Role::Parent,
            Some(b"CREATE") => Role::Made,
            Some(b"DELETE") => Role::Removed,
            Some(b"NORMAL") => Role::Normal,
            _ => Role::Unknown,
        };
        Ok(Self { name: text_of(name), role, file: (record.value(b"inode="), record.value(b"dev=")) })
    }
}

/// The text of `"…"`, where nothing is escaped, or of hexadecimal digits; none for `(null)`.
fn text_of(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(quoted) = value.strip_prefix(b"\"") {
        return Some(Cow::Borrowed(quoted.strip_suffix(b"\"").unwrap_or(quoted)));
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let is_hex = value.len().is_multiple_of(2) && !value.is_empty();
    let bytes: Option<Vec<u8>> =
        value.chunks_exact(2).map(|pair| Some(digit(&pair[0])? << 4 | digit(&pair[1])?)).collect();
    bytes.filter(|_| is_hex).map(Cow::Owned)
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// Says what one event names.
struct Names<'e, 'a> {
    event: &'e Event<'a>,
    request: &'e Request<'a>,
    sink: Sink<'e>,
}

impl Names<'_, '_> {
    /// False if the call only reads, as far as its arguments tell.
    fn changes(&self) -> bool {
        match self.request.call.effect {
            Effect::Ignored => false,
            Effect::Open { flags } => syscalls::writes(self.request.arguments.get(flags).copied().flatten()),
            Effect::OpenBy => syscalls::writes(self.event.open_flags),
            Effect::Unknown => !self.event.items.is_empty(),
            _ => true,
        }
    }

    fn name(&mut self) {
        if !self.changes() {
            return;
        }
        match self.request.call.effect {
            Effect::Rename => self.rename(),
            Effect::Delete => self.each(&[Role::Removed], Op::Delete),
            Effect::Make(op) => self.each(&[Role::Made], op),
            Effect::Open { .. } | Effect::OpenBy | Effect::Write => self.each(&[Role::Made, Role::Normal], Op::Write),
            Effect::Attr => self.each(&[Role::Normal], Op::Attr),
            Effect::Ignored | Effect::Unknown => self.by_role(),
        }
    }

    /// The items in these roles; where there is none, whatever there is.
    fn each(&mut self, roles: &[Role], op: Op) {
        let event = self.event;
        let mut items = event.items.iter().filter(|item| roles.contains(&item.role)).peekable();
        match items.peek() {
            Some(_) => items.for_each(|item| self.one(op, item)),
            None => self.by_role(),
        }
    }

    /// A record `PARENT` is read only where there is nothing else.
    fn by_role(&mut self) {
        let event = self.event;
        let mut others = event.items.iter().filter(|item| item.role != Role::Parent).peekable();
        if others.peek().is_none() {
            return self.sink.name(Op::Rescan, b"/");
        }
        others.for_each(|item| match item.role {
            Role::Removed => self.one(Op::Delete, item),
            _ => self.one(Op::Rescan, item),
        });
    }

    /// Old and new name are those of the same inode, wherever they stand; what has no partner was replaced.
    fn rename(&mut self) {
        let event = self.event;
        let in_role = |role| event.items.iter().filter(move |item| item.role == role);
        if in_role(Role::Made).next().is_none() {
            return self.by_role();
        }
        let old_of = |made: &Item| {
            let has_inode = made.file.0.is_some();
            in_role(Role::Removed).find(|removed| has_inode && removed.file == made.file)
        };
        for made in in_role(Role::Made) {
            match old_of(made) {
                Some(removed) => self.pair(removed, made),
                None => self.one(Op::Rescan, made),
            }
        }
        for removed in in_role(Role::Removed) {
            if !in_role(Role::Made).filter_map(old_of).any(|old| std::ptr::eq(old, removed)) {
                self.one(Op::Delete, removed);
            }
        }
    }

    fn pair(&mut self, old: &Item, new: &Item) {
        match (self.path(old), self.path(new)) {
            (Some(old), Some(new)) => self.sink.rename(&old, &new, false),
            _ => self.sink.name(Op::Rescan, b"/"),
        }
    }

    fn one(&mut self, op: Op, item: &Item) {
        match self.path(item) {
            Some(path) => self.sink.name(op, &path),
            None => self.sink.name(Op::Rescan, b"/"),
        }
    }

    /// None where the log does not tell: a name that is relative to a directory that the process had open, or none.
    fn path(&self, item: &Item) -> Option<Vec<u8>> {
        let name = item.name.as_deref().filter(|name| !name.is_empty())?;
        if name.starts_with(b"/") {
            return Some(normal(name));
        }
        let call = self.request.call;
        let is_of_cwd = |index: &usize| self.request.arguments.get(*index).copied().flatten().is_some_and(is_cwd);
        let is_of_cwd = call.effect != Effect::Unknown && call.directories.iter().all(is_of_cwd);
        let cwd = self.event.cwd.as_deref().filter(|cwd| is_of_cwd && cwd.starts_with(b"/"))?;
        Some(normal(&[cwd, b"/", name].concat()))
    }
}

/// `AT_FDCWD`, as 32 or as 64 bits.
fn is_cwd(argument: u64) -> bool {
    argument & 0xffff_ffff == 0xffff_ff9c
}

/// Without `.`, `..` and doubled slashes, as if no directory on the way were a symlink.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => (),
            b".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    if names.is_empty() { b"/".to_vec() } else { names.iter().flat_map(|name| [b"/", *name].concat()).collect() }
}
