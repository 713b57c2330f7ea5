//! `settle::decide`: two looks at one path to what has to be done there. Pure, and the only place that says what
//! "the same content" is.

use crate::store::{Capabilities, Kind, Meta, Owner, Owners, Time};

/// A directory's time at the source, and the earlier one that the destination had kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirTime {
    pub newer: Time,
    pub known: Time,
}

/// What makes the destination agree with the source at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// The content is the same; mode, owner or times are not.
    SetAttrs,
    /// Size and time are the same, but here that is no evidence: read both sides.
    Compare,
    Copy,
    MakeLink,
    MakeDir,
    Remove,
}

/// An action, and whether what stands at the destination is of a kind that cannot be written over and goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub clear: bool,
    pub action: Action,
}

/// When size and time count as evidence for the same content.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// Size and time are evidence only for files whose time lies before this. `None`: for all.
    ///
    /// A file may be written twice within one tick of the store's clock, with a copy taken between ("racily
    /// clean"); so a time is worth something only if the copy was made clearly later.
    pub before: Option<Time>,
    /// False below a name that took part in a rename, for a file that has a twin: another of equal size and time.
    pub size_and_time: bool,
}

impl Trust {
    pub const FULL: Self = Self { before: None, size_and_time: true };
}

/// What it takes to make the destination agree with the source at one path. `None` means that the store answered
/// "nothing there": a failed or timed-out look-up never reaches this function. Looks that are not
/// `complete` are not evidence for attributes, so complete them first.
#[must_use]
pub fn decide(source: Option<&Meta>, destination: Option<&Meta>, holds: &Capabilities, trust: Trust) -> Decision {
    let (action, clear) = match (source, destination) {
        (None, None) => (Action::Nothing, false),
        (None, Some(_)) => (Action::Remove, false),
        (Some(s), None) => (make(s.kind), false),
        (Some(s), Some(d)) if !holds.tree && d.is_implied() && s.is_dir() && !s.is_implied() => {
            (Action::MakeDir, false)
        }
        (Some(s), Some(d)) if s.kind == d.kind => (mend(s, d, holds, trust), false),
        (Some(s), Some(d)) => (make(s.kind), s.is_dir() || d.is_dir()),
    };
    Decision { clear, action }
}

fn make(kind: Kind) -> Action {
    match kind {
        Kind::File => Action::Copy,
        Kind::Dir => Action::MakeDir,
        Kind::Symlink => Action::MakeLink,
    }
}

fn mend(source: &Meta, destination: &Meta, holds: &Capabilities, trust: Trust) -> Action {
    match source.kind {
        Kind::Symlink if source.target != destination.target => Action::MakeLink,
        Kind::File => match content(source, destination, holds, trust) {
            Content::Other => Action::Copy,
            Content::Unknown => Action::Compare,
            Content::Same if attrs_differ(source, destination, holds) => Action::SetAttrs,
            Content::Same => Action::Nothing,
        },
        Kind::Symlink | Kind::Dir if attrs_differ(source, destination, holds) => Action::SetAttrs,
        Kind::Symlink | Kind::Dir => Action::Nothing,
    }
}

/// What two looks say about the content of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Other,
    Unknown,
}

/// The one definition of "same content": files of different size differ; files of different time are taken to
/// differ (copying costs no more than finding out); files of equal size and time are the same where `trust` lets
/// size and time be evidence, and have to be read otherwise. Nothing is unknown about two empty files.
fn content(source: &Meta, destination: &Meta, holds: &Capabilities, trust: Trust) -> Content {
    if source.len != destination.len {
        return Content::Other;
    }
    let Some(same_time) = same_time(source.mtime, destination.mtime, holds) else { return Content::Unknown };
    if !same_time {
        return Content::Other;
    }
    let old_enough = trust.before.is_none_or(|before| source.mtime < Some(before));
    if source.len == 0 || (trust.size_and_time && old_enough) { Content::Same } else { Content::Unknown }
}

/// Whether two times are equal in the unit that the destination keeps; `None` if one of them is not known.
#[must_use]
pub fn same_time(source: Option<Time>, destination: Option<Time>, holds: &Capabilities) -> Option<bool> {
    let unit = i64::try_from(holds.time_unit?.as_nanos()).unwrap_or(i64::MAX).max(1);
    let (Time(source), Time(destination)) = (source?, destination?);
    Some(source.div_euclid(unit) == destination.div_euclid(unit))
}

/// Mode, owner and (for directories, where both keep it) time; the time of a file belongs to its content.
#[must_use]
pub fn attrs_differ(source: &Meta, destination: &Meta, holds: &Capabilities) -> bool {
    let mode = source.kind != Kind::Symlink && differ(holds.kept_mode(source), destination.mode);
    let owner =
        owner_counts(source.owner.as_ref(), holds.owners) && differ(source.owner.as_ref(), destination.owner.as_ref());
    let time = source.is_dir() && holds.dir_times && same_time(source.mtime, destination.mtime, holds) == Some(false);
    mode || owner || time
}

/// The times of a directory that is newer at the source than what the destination keeps of it.
#[must_use]
pub fn newer_dir(source: Option<&Meta>, destination: Option<&Meta>, holds: &Capabilities) -> Option<DirTime> {
    let (newer, known) = (source?.mtime, destination?.mtime);
    let is_newer = same_time(newer, known, holds) == Some(false) && newer > known;
    (is_newer && are_dirs(source, destination)).then_some(DirTime { newer: newer?, known: known? })
}

/// True if both sides have a directory.
#[must_use]
pub fn are_dirs(source: Option<&Meta>, destination: Option<&Meta>) -> bool {
    source.is_some_and(Meta::is_dir) && destination.is_some_and(Meta::is_dir)
}

/// The attributes for a directory that is still being filled: its own mode may forbid that, and comes last.
#[must_use]
pub fn writable(meta: &Meta) -> Meta {
    Meta { mode: meta.mode.map(|mode| mode | 0o700), ..meta.clone() }
}

/// An owner counts where the destination holds owners of its form.
fn owner_counts(owner: Option<&Owner>, held: Owners) -> bool {
    match held {
        Owners::None => false,
        Owners::Any => owner.is_some(),
        Owners::Ids => matches!(owner, Some(Owner::Ids { .. })),
        Owners::Names => matches!(owner, Some(Owner::Names { .. })),
    }
}

/// Unknown at the source is no difference; unknown at the destination is one, since it can be set.
fn differ<T: PartialEq>(source: Option<T>, destination: Option<T>) -> bool {
    source.is_some() && source != destination
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn holds() -> Capabilities {
        Capabilities {
            name: "test",
            tree: true,
            rename: crate::store::Rename::Native,
            time_unit: Some(Duration::from_millis(1)),
            dir_times: true,
            modes: true,
            owner_access: false,
            owners: Owners::Names,
            symlinks: true,
            listed_per_lookup: 1,
        }
    }

    fn file(len: u64, mtime: i64) -> Meta {
        Meta { mtime: Some(Time(mtime)), mode: Some(0o644), ..Meta::file(len) }
    }

    fn dir() -> Meta {
        Meta { mtime: Some(Time(5)), mode: Some(0o755), ..Meta::dir() }
    }

    fn link(target: &str) -> Meta {
        Meta { kind: Kind::Symlink, target: Some(target.into()), ..Meta::file(0) }
    }

    fn decided(source: Option<Meta>, destination: Option<Meta>) -> (bool, Action) {
        let decision = decide(source.as_ref(), destination.as_ref(), &holds(), Trust::FULL);
        (decision.clear, decision.action)
    }

    #[test]
    fn every_pair_of_kinds_has_its_action() {
        use Action::*;
        let kinds = [None, Some(file(1, 1)), Some(dir()), Some(link("x"))];
        let expected = [
            [(false, Nothing), (false, Remove), (false, Remove), (false, Remove)],
            [(false, Copy), (false, Nothing), (true, Copy), (false, Copy)],
            [(false, MakeDir), (true, MakeDir), (false, Nothing), (true, MakeDir)],
            [(false, MakeLink), (false, MakeLink), (true, MakeLink), (false, Nothing)],
        ];
        for (source, row) in kinds.iter().zip(expected) {
            for (destination, expected) in kinds.iter().zip(row) {
                assert_eq!(decided(source.clone(), destination.clone()), expected, "{source:?} {destination:?}");
            }
        }
    }

    #[test]
    fn times_are_compared_in_the_unit_of_the_destination() {
        assert_eq!(decided(Some(file(1, 1_999_999)), Some(file(1, 1_000_000))).1, Action::Nothing);
        assert_eq!(decided(Some(file(1, 2_000_000)), Some(file(1, 1_999_999))).1, Action::Copy);
        assert_eq!(decided(Some(file(1, -1)), Some(file(1, -1_000_000))).1, Action::Nothing);
    }

    #[test]
    fn size_and_time_are_not_evidence_for_a_fresh_file_or_a_twin() {
        let fresh = Trust { before: Some(Time(1_000)), size_and_time: true };
        let twin = Trust { before: None, size_and_time: false };
        let (s, d) = (file(3, 1_000), file(3, 1_000));
        for trust in [fresh, twin] {
            assert_eq!(decide(Some(&s), Some(&d), &holds(), trust).action, Action::Compare);
        }
        let old = file(3, 999);
        assert_eq!(decide(Some(&old), Some(&old), &holds(), fresh).action, Action::Nothing);
        let empty = file(0, 1_000);
        assert_eq!(decide(Some(&empty), Some(&empty), &holds(), twin).action, Action::Nothing);
    }

    #[test]
    fn attributes_count_only_where_the_destination_holds_them() {
        let named =
            |name: &str| Meta { owner: Some(Owner::Names { user: name.into(), group: "g".into() }), ..file(1, 1) };
        assert_eq!(decided(Some(named("a")), Some(named("b"))).1, Action::SetAttrs);
        let holds = Capabilities { owners: Owners::Ids, ..holds() };
        assert_eq!(decide(Some(&named("a")), Some(&named("b")), &holds, Trust::FULL).action, Action::Nothing);
        let writable = Meta { mode: Some(0o600), ..file(1, 1) };
        assert_eq!(decided(Some(writable), Some(file(1, 1))).1, Action::SetAttrs);
    }
}
