//! Where size and time prove nothing, since the destination lost, or never had, what the source renamed.

use super::walk::within;
use super::{Shared, lock};
use crate::moves::{Move, Routes};
use crate::names::{Gone, Hint, Names};
use std::collections::BTreeSet;
use std::sync::Arc;
use syncd_parsers::RelPath;

impl Shared {
    /// What a rename put in the place of something equal by size and time, while the destination lost what was renamed, cannot
    /// be told from what was there; nor can what a move put where something is owed. `routes`: of the part's renames.
    pub(super) fn doubt_removed(&self, names: &Names, moved: &[Move], routes: &Routes) {
        if names.hints().is_empty() {
            return;
        }
        let now = lock(&self.lately).clone();
        let lost = |how| names.lately().lost(how).chain(now.lost(how));
        let removed = lost_then_renamed(lost(Gone::Removed), names.hints(), routes, moved);
        let left = lost_then_renamed(lost(Gone::Left), names.hints(), routes, &[]);
        let missed: BTreeSet<RelPath> = lost(Gone::Left).cloned().collect();
        let filled = moved.iter().flat_map(|step| filled_by(step, &missed));
        let doubtful: Vec<RelPath> = removed.into_iter().chain(left).chain(filled).collect();
        if !doubtful.is_empty() {
            let mut fresh = lock(&self.fresh);
            *fresh = Arc::new(fresh.iter().cloned().chain(doubtful).collect());
        }
    }
}

/// Where the renames say that something went which was lost here before they were read, unless the destination held
/// something there again and it was moved.
fn lost_then_renamed<'a>(
    lost: impl Iterator<Item = &'a RelPath>,
    hints: &BTreeSet<Hint>,
    routes: &Routes,
    moved: &[Move],
) -> Vec<RelPath> {
    let mut doubtful = Vec::new();
    for lost in lost {
        let below = hints.range(Hint::first_from(lost)..).map(|hint| &hint.from);
        let from = std::iter::once(lost).chain(below.take_while(|from| from.is_within(lost)));
        let again = moved.iter().filter(|step| step.from.is_within(lost) || lost.is_within(&step.from));
        let again: Vec<&RelPath> = again.map(|step| &step.to).collect();
        let to = from.flat_map(|from| routes.forward(from));
        doubtful.extend(to.filter(|to| !again.iter().any(|again| to.is_within(again))));
    }
    doubtful
}

/// Where the destination never had what the source has, a move may have brought something else of its size and time.
fn filled_by<'a>(step: &'a Move, missed: &'a BTreeSet<RelPath>) -> impl Iterator<Item = RelPath> + use<'a> {
    let below = within(&step.to, missed);
    let at = step.to.ancestors().any(|at| missed.contains(&at)).then_some(&step.to);
    below.chain(at).cloned()
}
