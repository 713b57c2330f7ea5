//! One pass over the audit logs: what is new in them becomes a window of the change log. Knows where to begin, and
//! orders `changelog` and the state around it.

use crate::changelog::{self, Begin, Made, MakeOptions};
use crate::checkpoint::{Key, State, set};
use crate::job::{Import, JobError};
use crate::report::time;
use crate::scope::Scope;
use crate::store::Store;
use crate::zone::Zone;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use syncd_parsers::Dialect;

/// How much earlier than an import's beginning the first window begins where no log position was taken: what the
/// clocks of the source and of this machine may be apart.
pub const CLOCKS_APART: TimeDelta = TimeDelta::minutes(5);

/// Where the audit logs are, where the windows go, and how lines are read.
pub struct Logs {
    pub logs: Arc<dyn Store>,
    pub change_log: Arc<dyn Store>,
    pub dialect: Option<&'static dyn Dialect>,
    pub zone: Zone,
    /// See [`MakeOptions::lateness`].
    pub lateness: Option<TimeDelta>,
    pub scope: Scope,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    pub accept_gap: bool,
}

impl Logs {
    /// Everything that is new, of the dialect that the logs look like; lines that are missing are refused.
    #[must_use]
    pub fn new(logs: Arc<dyn Store>, change_log: Arc<dyn Store>, zone: Zone, scope: Scope) -> Self {
        Self {
            logs,
            change_log,
            dialect: None,
            zone,
            lateness: None,
            scope,
            since: None,
            until: None,
            accept_gap: false,
        }
    }

    /// Makes the next window, if the logs have anything new.
    ///
    /// # Errors
    ///
    /// Lines are missing, the logs cannot be read, or nothing says where to begin. There is no new window then.
    pub async fn make(&self, state: Option<&State>, now: DateTime<Utc>) -> Result<Made, JobError> {
        self.make_unless_idle(state, now, TimeDelta::zero()).await
    }

    /// The same, but lines that change nothing make no window until they are `idle_max` later than the last one's end.
    ///
    /// # Errors
    ///
    /// As for [`Logs::make`].
    pub async fn make_unless_idle(
        &self,
        state: Option<&State>,
        now: DateTime<Utc>,
        idle_max: TimeDelta,
    ) -> Result<Made, JobError> {
        self.change_log.create_root().await.map_err(changelog::ChangelogError::from)?;
        let import: Option<Import> = state.map(|state| state.get(Key::Import)).transpose()?.flatten();
        let applied: Option<changelog::Applied> = state.map(|state| state.get(Key::Applied)).transpose()?.flatten();
        let options = MakeOptions {
            begin: self.begin(import.as_ref()).await?,
            until: self.until,
            not_after: applied.map(|applied| applied.to).or(import.map(|import| import.started)),
            dialect: self.dialect,
            lateness: self.lateness,
            accept_gap: self.accept_gap,
            seen: state.map(|state| state.get(Key::Seen)).transpose()?.flatten().unwrap_or_default(),
            now: Some(now),
            idle_max,
            ..MakeOptions::new(self.scope.clone(), self.zone)
        };
        let made = changelog::make(&*self.logs, &*self.change_log, &options).await?;
        if let Some(state) = state {
            state.commit(&[set(Key::Seen, &made.seen)])?;
        }
        Ok(made)
    }

    /// Where a first window begins; a later one goes on where the one before ended, whatever this says.
    async fn begin(&self, import: Option<&Import>) -> Result<Option<Begin>, JobError> {
        if let Some(since) = self.since {
            return Ok(Some(Begin::Time(since)));
        }
        if let Some(import) = import {
            return Ok(Some(match import.positions.clone() {
                Some(positions) => Begin::Positions { positions, at: import.started },
                None => Begin::Time(import.started - CLOCKS_APART),
            }));
        }
        if changelog::chain(&*self.change_log).await?.is_empty() {
            return Err(JobError::NotReady(
                "nothing says where the first window begins: give --since TIME, or --state-dir of an import".to_owned(),
            ));
        }
        Ok(None)
    }
}

/// What a pass made, for people.
#[must_use]
pub fn words(made: &Made) -> String {
    match &made.window {
        None => "nothing new in the audit logs".to_owned(),
        Some(window) => format!(
            "window {} [{}, {}): {} changes from {} lines ({} bad, {} outside the audit root)",
            window.seq,
            time(window.from),
            time(window.to),
            window.data.changes,
            window.lines,
            window.bad,
            window.outside
        ),
    }
}
