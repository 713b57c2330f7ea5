//! Where a line that came late makes size and time prove nothing: the destination may hold there what the source had before.

use super::{Shared, Stop, lock};
use crate::moves::{self, Move, Routes, Sides};
use crate::names::{Gone, Hint, Names};
use crate::store::StoreError;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncd_parsers::RelPath;

impl Shared {
    /// What a rename put in the place of something equal by size and time, while the destination lost what was renamed, cannot
    /// be told from what was there.
    pub(super) fn doubt_removed(&self, names: &Names, moved: &[Move]) {
        if names.hints().is_empty() {
            return;
        }
        let now = lock(&self.lately).clone();
        let lost = |how| names.lately().lost(how).chain(now.lost(how));
        let removed = lost_then_renamed(lost(Gone::Removed), names.hints(), moved);
        let left = lost_then_renamed(lost(Gone::Left), names.hints(), &[]);
        self.doubt(removed.into_iter().chain(left));
    }

    /// A rename may be read after one that led on from its end. What the destination moved then is what was there before, so where
    /// that led is doubtful. Returns those of such paths that this part does not look at by itself.
    pub(super) async fn doubt_overtaken(&self, names: &Names) -> Result<BTreeSet<RelPath>, Stop> {
        let remembered = names.lately().hints();
        let (routes, later) = (Routes::of(names.hints()), Routes::of(&remembered));
        let mut doubtful = BTreeSet::new();
        for hint in names.hints() {
            for end in moves::targets(hint) {
                let on = led_on(&end, &remembered, &later).filter(|path| !path.is_root());
                let on: Vec<RelPath> = on.collect();
                if on.is_empty() {
                    continue;
                }
                let may_be_at = std::iter::once(end.clone()).chain(routes.forward(&end));
                let arrived = self.source_has_one(may_be_at).await?;
                doubtful.extend(if arrived { self.like_what_stayed(&hint.from, on).await? } else { on });
            }
        }
        self.doubt(doubtful.iter().cloned());
        doubtful.retain(|path| !names.is_below_deep(path));
        Ok(doubtful)
    }

    fn doubt(&self, paths: impl IntoIterator<Item = RelPath>) {
        let mut fresh = lock(&self.fresh);
        *fresh = Arc::new(fresh.iter().cloned().chain(paths).collect());
    }

    async fn source_has_one(&self, paths: impl IntoIterator<Item = RelPath>) -> Result<bool, Stop> {
        for path in paths {
            match self.look(&self.source, &path).await {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(true),
                Err(error) => self.owe_error(&path, error, None).await?,
            }
        }
        Ok(false)
    }

    /// Those where the source shows what the destination still shows at `from`, though a line says that it was renamed. Where the
    /// source shows it at `from` as well, that is new, and nothing tells any more what was renamed.
    async fn like_what_stayed(&self, from: &RelPath, paths: Vec<RelPath>) -> Result<Vec<RelPath>, Stop> {
        match self.look(&self.destination, from).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Vec::new()),
            Err(error) => return self.owe_error(from, error, None).await.map(|()| paths),
        }
        let mut like = Vec::new();
        for path in paths {
            match self.is_like(from, &path).await {
                Ok(true) => like.push(path),
                Ok(false) => {}
                Err(error) => {
                    self.owe_error(&path, error, None).await?;
                    like.push(path);
                }
            }
        }
        Ok(like)
    }

    async fn is_like(&self, from: &RelPath, path: &RelPath) -> Result<bool, StoreError> {
        let sides = Sides { source: &*self.source, destination: &*self.destination };
        Ok(self.again(|| sides.look_alike(from, from)).await? || self.again(|| sides.look_alike(path, from)).await?)
    }
}

/// Where the renames say that something went which was lost here before they were read, unless the destination held
/// something there again and it was moved.
fn lost_then_renamed<'a>(
    lost: impl Iterator<Item = &'a RelPath>,
    hints: &BTreeSet<Hint>,
    moved: &[Move],
) -> Vec<RelPath> {
    let routes = Routes::of(hints);
    let mut doubtful = Vec::new();
    for lost in lost {
        let again = moved.iter().filter(|step| step.from.is_within(lost) || lost.is_within(&step.from));
        let again: Vec<&RelPath> = again.map(|step| &step.to).collect();
        let to = led_on(lost, hints, &routes);
        doubtful.extend(to.filter(|to| !again.iter().any(|again| to.is_within(again))));
    }
    doubtful
}

/// Where renames led on from a path, or from below it.
fn led_on<'a>(
    path: &'a RelPath,
    hints: &'a BTreeSet<Hint>,
    routes: &'a Routes,
) -> impl Iterator<Item = RelPath> + use<'a> {
    let below = hints.range(Hint::first_from(path)..).map(|hint| &hint.from);
    let from = std::iter::once(path).chain(below.take_while(|from| from.is_within(path)));
    from.flat_map(|from| routes.forward(from))
}
