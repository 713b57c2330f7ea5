//! Histories: what clients do at a source, and how their lines reach syncd. Random ones, drawn over so few names that they
//! collide, and all of the short ones.

use proptest::prelude::*;
use syncd_parsers::{Op, RelPath};

/// One thing that a client does at the source. What a source cannot do, it refuses, without a line.
#[derive(Debug, Clone)]
pub enum Deed {
    /// New content of so many bytes.
    Write(RelPath, usize),
    Append(RelPath),
    /// Other bytes of the same size within the same tick of the clock.
    Again(RelPath),
    /// Two files of one size and time and different bytes. From then on lines are not windows late: that a twin came in the place
    /// of the other is seen only where what says so is read together (docs/semantics.md, what is not promised).
    Twins(RelPath, RelPath),
    Mkdir(RelPath),
    /// With everything below.
    Delete(RelPath),
    /// Into `to` if that is a directory, else to `to` itself.
    Rename(RelPath, RelPath),
    /// Exactly to `to`, over a file that may be there.
    RenameOver(RelPath, RelPath),
    /// The second is appended to the first, and is gone.
    Concat(RelPath, RelPath),
    Chmod(RelPath, u32),
    /// A writer begins a new file and logs it; it is empty until it closes.
    Create(RelPath),
    /// A writer opens a file and logs it; nothing shows until it closes.
    Open(RelPath),
    /// It closes: new content, no line.
    Close(RelPath),
    Symlink(RelPath, RelPath),
    /// A second name of a file: the same bytes and time. Of twins there are none.
    Hardlink(RelPath, RelPath),
    /// Renamed to somewhere outside the root, or from there.
    Out(RelPath),
    In(RelPath),
    /// Listings do not show the key any more, though it lives.
    Hide(RelPath),
    /// Two names change places by way of a third.
    Swap(RelPath, RelPath),
    /// Each of three takes the name of the next.
    Rotate(RelPath, RelPath, RelPath),
    /// As a job commits: written below `_temporary`, renamed, and that deleted.
    Commit(RelPath),
    /// A line about nothing, which somebody made up.
    Forge(Op, RelPath, RelPath, bool),
}

/// A deed, and how its lines reach syncd.
#[derive(Debug, Clone)]
pub struct Step {
    pub deed: Deed,
    /// In which window from now its lines are read, unless there are twins.
    pub late: usize,
    /// They are read in the next one, too.
    pub doubled: bool,
    /// How many hours the clock of whoever wrote the lines is wrong.
    pub skew_hours: i64,
    /// Done in the middle of applying the window, at this call; else before it.
    pub at_call: Option<usize>,
    /// A window ends after it.
    pub cut: Option<Cut>,
}

/// In which order the lines of a window are read.
#[derive(Debug, Clone, Copy, Default)]
pub enum Order {
    #[default]
    LastFirst,
    AsWritten,
    /// In another one for each number.
    Shuffled(u8),
}

/// How a window is applied.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    pub order: Order,
    /// Each line is settled before the next is read.
    pub parts: bool,
    /// The first try ends at this call.
    pub crash: Option<usize>,
    /// This call fails, and leaves its path owed.
    pub fault: Option<usize>,
}

/// Who keeps the source, and what the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub source: Kind,
    pub flat_destination: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hdfs,
    Posix,
    Flat,
}

pub const HDFS: Setting = Setting { source: Kind::Hdfs, flat_destination: false };

impl Step {
    /// Read at once, in order, before anything else happens.
    pub fn plain(deed: Deed) -> Self {
        Self { deed, late: 0, doubled: false, skew_hours: 0, at_call: None, cut: None }
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("made of names")
}

/// Two names on three levels.
fn paths() -> Vec<RelPath> {
    let one = ["a", "b"];
    let two = one.iter().flat_map(|up| one.map(|name| format!("{up}/{name}")));
    let three = two.clone().flat_map(|up| one.map(|name| format!("{up}/{name}")));
    one.iter().map(ToString::to_string).chain(two).chain(three).map(|text| path(&text)).collect()
}

fn any_path() -> impl Strategy<Value = RelPath> + Clone {
    // short ones collide more
    let paths = paths();
    (0..3_usize, 0..8_usize).prop_map(move |(level, number)| {
        let (first, count) = [(0, 2), (2, 4), (6, 8)][level];
        paths[first + number % count].clone()
    })
}

pub fn any_deed() -> impl Strategy<Value = Deed> {
    let p = any_path;
    let op = prop::sample::select(vec![Op::Write, Op::Mkdir, Op::Delete, Op::Rename, Op::Attr, Op::Rescan]);
    prop_oneof![
        6 => (p(), 1..3_usize).prop_map(|(path, len)| Deed::Write(path, len)),
        2 => p().prop_map(Deed::Append),
        2 => p().prop_map(Deed::Again),
        2 => (p(), p()).prop_map(|(one, other)| Deed::Twins(one, other)),
        2 => p().prop_map(Deed::Mkdir),
        4 => p().prop_map(Deed::Delete),
        8 => (p(), p()).prop_map(|(from, to)| Deed::Rename(from, to)),
        4 => (p(), p()).prop_map(|(from, to)| Deed::RenameOver(from, to)),
        1 => (p(), p()).prop_map(|(to, from)| Deed::Concat(to, from)),
        2 => (p(), 0..2_u32).prop_map(|(path, mode)| Deed::Chmod(path, 0o700 | mode)),
        2 => p().prop_map(Deed::Create),
        3 => p().prop_map(Deed::Open),
        3 => p().prop_map(Deed::Close),
        1 => (p(), p()).prop_map(|(path, to)| Deed::Symlink(path, to)),
        1 => (p(), p()).prop_map(|(from, to)| Deed::Hardlink(from, to)),
        1 => p().prop_map(Deed::Out),
        1 => p().prop_map(Deed::In),
        1 => p().prop_map(Deed::Hide),
        1 => (p(), p()).prop_map(|(one, other)| Deed::Swap(one, other)),
        1 => (p(), p(), p()).prop_map(|(one, two, three)| Deed::Rotate(one, two, three)),
        1 => p().prop_map(Deed::Commit),
        2 => (op, p(), p(), any::<bool>()).prop_map(|(op, path, to, into)| Deed::Forge(op, path, to, into)),
    ]
}

fn any_cut() -> impl Strategy<Value = Cut> {
    let call = || prop::option::weighted(0.15, 0..60_usize);
    let order = prop_oneof![1 => Just(Order::LastFirst), 1 => Just(Order::AsWritten), 1 => any::<u8>().prop_map(Order::Shuffled)];
    (order, prop::bool::weighted(0.2), call(), call()).prop_map(|(order, parts, crash, fault)| Cut {
        order,
        parts,
        crash,
        fault,
    })
}

pub fn any_step() -> impl Strategy<Value = Step> {
    let at_call = prop::option::weighted(0.4, 0..50_usize);
    let cut = prop::option::weighted(0.35, any_cut());
    (any_deed(), prop_oneof![3 => Just(0), 1 => 1..4_usize], any::<bool>(), -12..13_i64, at_call, cut).prop_map(
        |(deed, late, doubled, skew_hours, at_call, cut)| Step { deed, late, doubled, skew_hours, at_call, cut },
    )
}

pub fn any_setting() -> impl Strategy<Value = Setting> {
    let setting = |source, flat_destination| Setting { source, flat_destination };
    prop_oneof![
        6 => Just(HDFS),
        2 => Just(setting(Kind::Hdfs, true)),
        2 => Just(setting(Kind::Posix, false)),
        1 => Just(setting(Kind::Flat, false)),
        1 => Just(setting(Kind::Flat, true)),
    ]
}

/// All deeds over a few paths.
pub fn every_deed(paths: &[&str]) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for one in paths.iter().map(|text| path(text)) {
        deeds.extend([Deed::Write(one.clone(), 1), Deed::Mkdir(one.clone()), Deed::Delete(one.clone())]);
        for other in paths.iter().map(|text| path(text)).filter(|other| *other != one) {
            deeds.push(Deed::Rename(one.clone(), other.clone()));
            deeds.push(Deed::RenameOver(one.clone(), other));
        }
    }
    deeds
}
