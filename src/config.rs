//! What was typed, validated and typed once; nothing after it sees a raw string.

use crate::checkpoint::{Key, State};
use crate::cli::{LogArgs, PairArgs, RunArgs, StoreArgs};
use crate::job::{Deletes, Job, JobError, Pair, Settings};
use crate::report::Event;
use crate::round::Logs;
use crate::scope::Scope;
use crate::store::Store;
use crate::uri::{StoreOptions, Uri};
use crate::zone::{self, Zone};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syncd_parsers::dialect;
use tracing::info;

/// Something that was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Usage {
    what: String,
    why: String,
}

impl Usage {
    pub fn new(what: &str, why: impl std::fmt::Display) -> Self {
        Self { what: what.to_owned(), why: why.to_string() }
    }
}

/// What `run` needs, wherever it stood.
pub struct RunSettings {
    pub pair: PairArgs,
    pub logs: LogArgs,
    pub deletes: Option<String>,
    pub memory: Option<String>,
}

/// Opens a store.
///
/// # Errors
///
/// The text is no URI, or the store's address cannot be used.
pub async fn store(option: &str, text: &str, stores: &StoreArgs) -> anyhow::Result<Arc<dyn Store>> {
    let uri = uri(option, text)?;
    let opened = uri.open(&options(stores)).await;
    opened.map_err(|error| Usage::new(&format!("{option} {uri}"), crate::apply::chain(&error)).into())
}

/// Opens both stores and the state directory.
///
/// # Errors
///
/// An option makes no sense, the state directory is in use, or a store cannot be opened.
pub async fn job(
    pair: &PairArgs,
    deletes: Option<&str>,
    events: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
) -> anyhow::Result<Job> {
    let (src, dest) = (uri("--src", &pair.src)?, uri("--dest", &pair.dest)?);
    check_apart(&src, &dest)?;
    check_outside(pair, "--state-dir", &pair.state_dir.to_string_lossy())?;
    let deletes = deletes.map(parse_deletes).transpose()?.unwrap_or_default();
    let state = Arc::new(State::open(&pair.state_dir).map_err(JobError::from)?);
    Ok(Job {
        source: store("--src", &pair.src, &pair.stores).await?,
        destination: store("--dest", &pair.dest, &pair.stores).await?,
        pair: (src.to_string(), dest.to_string()),
        state,
        settings: Settings { deletes, ..Settings::default() },
        events,
        now: crate::clock::now,
    })
}

/// Opens the log and the change log directory, and settles how lines are read.
///
/// # Errors
///
/// An option makes no sense, or a store cannot be opened.
pub async fn logs(
    args: &LogArgs,
    stores: &StoreArgs,
    state: Option<&State>,
    now: DateTime<Utc>,
) -> anyhow::Result<Logs> {
    let zone: Zone = args.log_timezone.parse().map_err(|error| Usage::new("--log-timezone", error))?;
    let at = |option: &str, text: &Option<String>| {
        let time = text.as_deref().map(|text| zone::parse_time(text, zone, now));
        time.transpose().map_err(|error| Usage::new(option, error))
    };
    let lateness = args.lateness.as_deref().map(zone::parse_duration);
    let (since, until) = (at("--since", &args.since)?, at("--until", &args.until)?);
    Ok(Logs {
        logs: store("--audit-log-dir", &args.audit_log_dir, stores).await?,
        change_log: store("--change-log-dir", &args.change_log_dir, stores).await?,
        dialect: args.dialect.as_deref().map(known_dialect).transpose()?,
        zone,
        scope: scope(args, state)?,
        lateness: lateness.transpose().map_err(|error| Usage::new("--lateness", error))?,
        since,
        until,
        accept_gap: args.accept_gap,
    })
}

/// How many names are settled at one time within a budget of memory; without one, as many as 512 MiB hold.
///
/// # Errors
///
/// The text is no size, or one too small to work with.
pub fn names_max(memory: Option<&str>) -> Result<usize, Usage> {
    /// What a name takes with all that is known of it while it is settled. A million short ones took a sixth of it in
    /// `tests/bench/run memory`; a path may have 4 KiB.
    const NAME_BYTES: u64 = 2 << 10;
    const LEAST_BYTES: u64 = 16 << 20;
    let Some(text) = memory else { return Ok(Settings::default().names_max) };
    let why = || Usage::new("--memory", format!("{text} is no size of 16MiB or more; examples: 512MiB, 2GiB"));
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = [("MiB", 20), ("GiB", 30), ("M", 20), ("G", 30)].into_iter().find(|(name, _)| *name == unit.trim());
    let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(number, (_, shift))| number.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| *bytes >= LEAST_BYTES).ok_or_else(why)?;
    Ok(usize::try_from(bytes / NAME_BYTES).unwrap_or(usize::MAX))
}

/// What was typed for `run`, over what its file says.
///
/// # Errors
///
/// The file cannot be read or holds something unknown, or a setting that is needed stands nowhere.
pub fn run(typed: RunArgs) -> anyhow::Result<RunSettings> {
    let file = typed.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let needed = |name: &str, typed: Option<String>, filed: Option<String>| {
        let missing = || Usage::new(&format!("--{name}"), "is needed, on the command line or in the file of --config");
        typed.or(filed).ok_or_else(missing)
    };
    let state_dir = typed.state_dir.or(file.state_dir);
    let stores = StoreArgs {
        s3_endpoint: typed.stores.s3_endpoint.or(file.stores.s3_endpoint),
        s3_region: typed.stores.s3_region.or(file.stores.s3_region),
        hdfs_http: typed.stores.hdfs_http.or(file.stores.hdfs_http),
    };
    Ok(RunSettings {
        pair: PairArgs {
            src: needed("src", typed.src, file.src)?,
            dest: needed("dest", typed.dest, file.dest)?,
            state_dir: state_dir.ok_or_else(|| Usage::new("--state-dir", "is needed"))?,
            stores,
        },
        logs: LogArgs {
            audit_log_dir: needed("audit-log-dir", typed.audit_log_dir, file.audit_log_dir)?,
            change_log_dir: needed("change-log-dir", typed.change_log_dir, file.change_log_dir)?,
            dialect: typed.dialect.or(file.dialect),
            audit_root: typed.audit_root.or(file.audit_root),
            lateness: typed.lateness.or(file.lateness),
            log_timezone: typed.log_timezone.or(file.log_timezone).unwrap_or_else(|| "UTC".to_owned()),
            since: None,
            until: None,
            accept_gap: typed.accept_gap || file.accept_gap,
        },
        deletes: typed.deletes.or(file.deletes),
        memory: typed.memory.or(file.memory),
    })
}

fn read_file(path: &Path) -> Result<RunArgs, Usage> {
    let what = format!("--config {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| Usage::new(&what, error))?;
    toml::from_str(&text).map_err(|error| Usage::new(&what, error))
}

/// A URI that does not depend on the current directory.
///
/// # Errors
///
/// The text is no URI, or the current directory is not known.
pub fn uri(option: &str, text: &str) -> Result<Uri, Usage> {
    let uri: Uri = text.parse().map_err(|error| Usage::new(&format!("{option} {text}"), error))?;
    uri.absolute().map_err(|error| Usage::new(option, error))
}

fn options(stores: &StoreArgs) -> StoreOptions {
    StoreOptions {
        s3_endpoint: stores.s3_endpoint.clone(),
        s3_region: stores.s3_region.clone(),
        hdfs_http: stores.hdfs_http.clone(),
    }
}

/// A destination within its source, or the other way round, would copy itself.
fn check_apart(src: &Uri, dest: &Uri) -> Result<(), Usage> {
    if is_within(src, dest) || is_within(dest, src) {
        return Err(Usage::new("--dest", format!("{dest} and the source {src} are one within the other")));
    }
    Ok(())
}

/// What syncd keeps below a source would be copied, and change for ever; below a destination it would be removed, since the
/// source does not have it.
///
/// # Errors
///
/// `dir` is within one of the two stores, or is no URI.
pub fn check_outside(pair: &PairArgs, option: &str, dir: &str) -> Result<(), Usage> {
    let inner = uri(option, dir)?;
    for (what, store) in [("source", uri("--src", &pair.src)?), ("destination", uri("--dest", &pair.dest)?)] {
        if is_within(&inner, &store) {
            return Err(Usage::new(option, format!("{inner} is within the {what} {store}; it has to be elsewhere")));
        }
    }
    Ok(())
}

/// True if `one` is `other`, or is below it.
fn is_within(one: &Uri, other: &Uri) -> bool {
    match (one, other) {
        (Uri::Local(one), Uri::Local(other)) => resolved(one).starts_with(resolved(other)),
        (Uri::S3 { bucket: a, prefix: one }, Uri::S3 { bucket: b, prefix: other }) => {
            a == b && (other.is_empty() || Path::new(one).starts_with(other))
        }
        (Uri::Hdfs { authority: a, path: one }, Uri::Hdfs { authority: b, path: other }) => {
            a == b && Path::new(one).starts_with(other)
        }
        _ => false,
    }
}

/// The path without links and dots, as far down as it exists.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_owned(),
    })
}

fn known_dialect(name: &str) -> Result<&'static dyn dialect::Dialect, Usage> {
    dialect::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = dialect::all().iter().map(|dialect| dialect.name()).collect();
        let known = known.join(", ");
        Usage::new(
            "--dialect",
            format!("{name} is not known; known are {known}, and hdfs-escaped and hdfs-raw for one spelling of names"),
        )
    })
}

fn scope(args: &LogArgs, state: Option<&State>) -> anyhow::Result<Scope> {
    let pair: Option<Pair> = state.map(|state| state.get(Key::Pair)).transpose().map_err(JobError::from)?.flatten();
    let source = pair.and_then(|pair| pair.source.parse::<Uri>().ok());
    let of_source = source.as_ref().and_then(Uri::audit_root);
    let root = args.audit_root.clone().or(of_source).unwrap_or_else(|| "/".to_owned());
    info!(audit_root = root, "paths in the log below this one concern the source");
    let scope = Scope::new(&root).map_err(|error| Usage::new("--audit-root", error))?;
    let logs = uri("--audit-log-dir", &args.audit_log_dir)?;
    Ok(match source.and_then(|source| logs.below(&source)) {
        Some(inside) => scope.without(inside),
        None => scope,
    })
}

/// `500` or `10%`.
fn parse_deletes(text: &str) -> Result<Deletes, Usage> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Deletes::Percent),
        None => text.parse().ok().map(Deletes::Files),
    };
    parsed
        .ok_or_else(|| Usage::new("--max-delete", format!("{text} is neither a number of files nor a share like 10%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_are_a_number_or_a_share() {
        assert_eq!(parse_deletes("500").ok(), Some(Deletes::Files(500)));
        assert_eq!(parse_deletes("10%").ok(), Some(Deletes::Percent(10)));
        for bad in ["", "x", "-1", "101%", "%", "10 %"] {
            assert!(parse_deletes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_budget_of_memory_is_a_size_with_its_unit() {
        assert_eq!(names_max(None).ok(), Some(250_000));
        assert_eq!(names_max(Some("512MiB")).ok(), Some(262_144));
        assert_eq!(names_max(Some("2G")).ok(), Some(1 << 20));
        for bad in ["", "512", "MiB", "1MiB", "-1GiB", "99999999999999GiB", "1 TB"] {
            assert!(names_max(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_destination_within_its_source_is_refused() {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        for (src, dest, fine) in [
            ("/a", "/b", true),
            ("/a", "/a/b", false),
            ("/a/b", "/a", false),
            ("/a", "/ab", true),
            ("s3://b/x", "s3://b/x/y", false),
            ("s3://b/x", "s3://b/xy", true),
            ("s3://b", "s3://b/y", false),
            ("s3://b/x", "s3://c/x", true),
            ("hdfs://n/x", "hdfs://n/x", false),
            ("hdfs://n/x", "/x", true),
        ] {
            assert_eq!(check_apart(&uri(src), &uri(dest)).is_ok(), fine, "{src} {dest}");
        }
    }

    #[test]
    fn a_destination_that_only_looks_apart_is_refused_too() {
        let temp = tempfile::tempdir().expect("a directory");
        let at = |name: &str| Uri::Local(temp.path().join(name));
        std::fs::create_dir(temp.path().join("a")).expect("makes");
        std::os::unix::fs::symlink("a", temp.path().join("link")).expect("links");
        for (src, dest, fine) in
            [("a", "link", false), ("a", "link/new/deep", false), ("a", "a/../b", true), ("a", "b", true)]
        {
            assert_eq!(check_apart(&at(src), &at(dest)).is_ok(), fine, "{src} {dest}");
        }
    }

    #[test]
    fn what_syncd_keeps_is_in_neither_store() {
        let pair =
            PairArgs { src: "/a".into(), dest: "/b".into(), state_dir: "/s".into(), stores: StoreArgs::default() };
        for (dir, fine) in
            [("/a/state", false), ("/b", false), ("/b/x/y", false), ("/bc", true), ("/", true), ("s3://b", true)]
        {
            assert_eq!(check_outside(&pair, "--state-dir", dir).is_ok(), fine, "{dir}");
        }
    }

    #[test]
    fn what_is_typed_wins_over_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("syncd.toml");
        let text = "src = '/a'\ndest = '/b'\nstate-dir = '/s'\naudit-log-dir = '/l'\nchange-log-dir = '/c'\nmax-delete = '5%'\n";
        std::fs::write(&file, text).expect("writes");
        let typed = RunArgs { config: Some(file.clone()), dest: Some("/typed".into()), ..RunArgs::default() };
        let settings = run(typed).expect("is whole");
        assert_eq!((settings.pair.src.as_str(), settings.pair.dest.as_str()), ("/a", "/typed"));
        assert_eq!(settings.deletes.as_deref(), Some("5%"));
        std::fs::write(&file, "sorce = '/a'\n").expect("writes");
        let error =
            run(RunArgs { config: Some(file), ..RunArgs::default() }).map(|_| ()).expect_err("is wrong").to_string();
        assert!(error.contains("sorce"), "{error}");
    }
}
