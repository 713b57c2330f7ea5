//! The command line as clap reads it. Strings stay strings here; `config` says what they mean.

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;
use std::path::PathBuf;

/// What stands below the options of every command: examples, and what its exit codes mean there.
macro_rules! teach {
    ($examples:literal, $codes:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit codes:\n  0  done, and nothing is owed\n  1  failed; the message says why, and running it again goes on\n",
            "  2  wrong usage or configuration: nothing was done\n",
            $codes
        )
    };
}

/// Keeps a destination store in step with a live source, by the source's own audit log.
///
/// A migration in four steps:
///
///   syncd migrate-import --src hdfs://nn:8020/data --dest s3://lake/data \
///       --state-dir /var/lib/syncd/data --audit-log-dir /logs
///   syncd mkchangelog --audit-log-dir /logs --state-dir /var/lib/syncd/data \
///       --change-log-dir /var/lib/syncd/changes
///   syncd apply --update --change-log-dir /var/lib/syncd/changes \
///       --src hdfs://nn:8020/data --dest s3://lake/data --state-dir /var/lib/syncd/data
///   syncd verify --src hdfs://nn:8020/data --dest s3://lake/data --state-dir /var/lib/syncd/data
///
/// `syncd run` does the second and third as the log grows. `syncd demo` shows all of it in a temporary folder.
///
/// Exit codes: 0 done, nothing owed; 1 failed; 2 wrong usage or configuration; 3 done, some paths owed;
/// 4 refused by a guard (too many deletes, wrong source, a gap in the log).
#[derive(Debug, Parser)]
#[command(name = "syncd", version, verbatim_doc_comment, propagate_version = true)]
pub struct Cli {
    /// Print one JSON document (with --explain: JSON lines) on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell more on stderr; SYNCD_LOG=debug and its like choose finer.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What was typed.
    ///
    /// # Errors
    ///
    /// It makes no sense, or it asks for help or the version: then that is what the error says.
    pub fn typed() -> Result<Self, clap::Error> {
        Self::try_parse()
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy everything once, in restartable steps; what changes meanwhile is replayed by the first window.
    ///
    /// Nothing is deleted: what only the destination has is left, and counted. Ended half way, it goes on where it was.
    #[command(after_help = teach!(
        "  syncd migrate-import --src hdfs://nn:8020/data --dest s3://lake/data \\
      --state-dir /var/lib/syncd/data --audit-log-dir /logs
  syncd migrate-import --src /mnt/a --dest /mnt/b --state-dir /var/lib/syncd/a",
        "  3  done, but some paths are owed: `syncd status` names them
  4  refused: not the stores of this state directory, or another process has it"
    ))]
    MigrateImport(ImportArgs),
    /// Turn what is new in the audit logs into the next window of the change log.
    ///
    /// A window is two files: changes as JSON lines (`zstdcat *.changes.jsonl.zst | jq`), and a manifest that says what was
    /// read.
    #[command(after_help = teach!(
        "  syncd mkchangelog --audit-log-dir /logs --state-dir /var/lib/syncd/data \\
      --change-log-dir /var/lib/syncd/changes
  syncd mkchangelog --audit-log-dir /logs --change-log-dir /tmp/changes \\
      --since 2h --log-timezone Asia/Shanghai
  syncd mkchangelog --audit-log-dir /logs --change-log-dir /tmp/changes \\
      --dialect jindofs --start-time 2022-01-01-12:00:00",
        "  4  refused: lines are missing (see --accept-gap), the chain of windows is
     broken, or another process has the state directory"
    ))]
    Mkchangelog(MakeArgs),
    /// Settle what the change log's windows name, and move the checkpoint.
    ///
    /// The log says which names to look at, the source says what is there now: applying a window twice changes nothing.
    #[command(after_help = teach!(
        "  syncd apply --update --change-log-dir /var/lib/syncd/changes \\
      --src hdfs://nn:8020/data --dest s3://lake/data \\
      --state-dir /var/lib/syncd/data
  syncd apply --update … --dry-run --explain   say what would be done, and why
  syncd apply --update … --max-delete 1%       one file in a hundred at most",
        "  3  done, but some paths are owed: `syncd status` names them
  4  refused: too many deletes, another source or an empty one, windows that do
     not follow the checkpoint, or another process has the state directory"
    ))]
    Apply(ApplyArgs),
    /// Make windows and apply them as the log grows, until told to end.
    ///
    /// SIGTERM and SIGINT end it in order, at once; the next start goes on from the checkpoint.
    #[command(after_help = teach!(
        "  syncd run --config /etc/syncd/syncd.toml
  syncd run --once --config /etc/syncd/syncd.toml   one pass, for timers
  syncd run --src /mnt/a --dest /mnt/b --state-dir /var/lib/syncd/a \\
      --audit-log-dir /logs --change-log-dir /var/lib/syncd/changes",
        "  3  ended, but some paths are owed: `syncd status` names them
  4  refused by a guard (too many deletes, wrong source, a gap in the log): a
     person has to decide"
    ))]
    Run(RunArgs),
    /// Walk both sides and tell what differs; exit code 3 if anything does.
    #[command(after_help = teach!(
        "  syncd verify --src hdfs://nn:8020/data --dest s3://lake/data \\
      --state-dir /var/lib/syncd/data
  syncd verify --src /mnt/a --dest /mnt/b --content   read every byte
  syncd verify --src /mnt/a --dest /mnt/b --repair    mend what differs",
        "  3  something differs, or is owed
  4  refused: another source or an empty one, too many deletes, or another
     process has the state directory"
    ))]
    Verify(VerifyArgs),
    /// Say in one sentence how things stand; works while `run` is running.
    #[command(after_help = teach!(
        "  syncd status --state-dir /var/lib/syncd/data
  syncd status --state-dir /var/lib/syncd/data --json | jq .owed",
        "  3  some paths are owed; they are listed"
    ))]
    Status(StatusArgs),
    /// Show the whole job on a recorded NameNode log, in a temporary folder, in seconds.
    #[command(after_help = teach!("  syncd demo\n  syncd demo --keep", ""))]
    Demo(DemoArgs),
}

/// How stores are reached.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Stores")]
pub struct StoreArgs {
    /// Endpoint of an S3-compatible service, for example http://127.0.0.1:9000. Without it: AWS.
    /// Credentials come from the environment, the profile or the instance, as for every AWS tool.
    #[arg(long, value_name = "URL", env = "SYNCD_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,
    /// Region of the bucket.
    #[arg(long, value_name = "REGION")]
    pub s3_region: Option<String>,
    /// HOST:PORT of the NameNode's HTTP server, which knows what the RPC does not tell: whether a file is still open.
    /// Without it: as hdfs-site.xml says, else port 9870 of the NameNode. `none` does without.
    #[arg(long, value_name = "ADDRESS")]
    pub hdfs_http: Option<String>,
}

/// A source, a destination, and what is remembered about them.
#[derive(Debug, Clone, Args)]
pub struct PairArgs {
    /// The source: a path, file://, s3://bucket/prefix or hdfs://host:port/path.
    #[arg(long, value_name = "URI")]
    pub src: String,
    /// The destination, likewise.
    #[arg(long, value_name = "URI")]
    pub dest: String,
    /// Where syncd keeps its checkpoint, and what is owed. One per pair of stores; one process at a time.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub stores: StoreArgs,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the audit logs are: the first window then begins exactly where they ended before the import. Without it,
    /// the first window begins 5 minutes before the import, for clocks that differ.
    #[arg(long, value_name = "URI")]
    pub audit_log_dir: Option<String>,
    #[command(flatten)]
    pub pair: PairArgs,
}

/// Where audit logs are read and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The directory of the audit logs: rotated, compressed (.gz, .zst) or growing.
    #[arg(long, value_name = "URI")]
    pub audit_log_dir: String,
    /// The directory of the change log.
    #[arg(long, value_name = "URI")]
    pub change_log_dir: String,
    /// The audit log's format: hdfs, jindofs, ozone, s3-access, cloudtrail, s3-event, minio, ceph-rgw, oss-access, cos-access,
    /// gcs-audit, gcs-usage, azure-storage, samba-full-audit, linux-auditd, gluster-changelog, lustre-changelog. Without it:
    /// found out from the lines. hdfs-escaped (Hadoop 2.8 and later) and hdfs-raw (up to 2.7) spare the look at the other
    /// reading of a name with a backslash; samba-full-audit-relative is for Samba 4.11 and earlier.
    #[arg(long, value_name = "NAME")]
    pub dialect: Option<String>,
    /// The path in the log that corresponds to the source root. Without it: the path of an hdfs:// source,
    /// or bucket and prefix of an s3:// one, where the state directory knows it; else /.
    #[arg(long, value_name = "PATH")]
    pub audit_root: Option<String>,
    /// The zone of the log's times where these carry none: UTC, Asia/Shanghai, +08:00.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub log_timezone: String,
    /// How much older than the newest record one may be that is still to come: 1s, 15m, 24h. Without it: as the dialect
    /// has it. A window ends so much before its newest record.
    #[arg(long, value_name = "DURATION")]
    pub lateness: Option<String>,
    /// Begin the first window here: 2022-06-01T12:00:00Z, 2022-01-01-12:00:00 (in the log's zone), or 2h (before now).
    /// Later windows go on where the one before ended, by log position.
    #[arg(long, visible_alias = "start-time", value_name = "TIME")]
    pub since: Option<String>,
    /// Leave lines from this time on to a later window.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Go on although lines are missing: the gap is recorded, and everything is settled once.
    #[arg(long)]
    pub accept_gap: bool,
}

#[derive(Debug, Args)]
pub struct MakeArgs {
    #[command(flatten)]
    pub logs: LogArgs,
    /// The state directory of the import: says where the first window begins, and what the source is.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub stores: StoreArgs,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Bring the destination up to date. The one thing that apply does; the word is part of the contract.
    #[arg(long, required = true)]
    pub update: bool,
    /// The directory of the change log.
    #[arg(long, value_name = "URI")]
    pub change_log_dir: String,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Tell for every path touched which log line led to it.
    #[arg(long)]
    pub explain: bool,
    /// Refuse to remove more files than this: a number, or a share of the destination's files (10%).
    /// Without it: half of them, but 1,000 at least.
    #[arg(long = "max-delete", value_name = "N|P%")]
    pub deletes: Option<String>,
    /// About how much memory the names of a window may take: 512MiB, 2GiB. A window with more is applied in parts.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    #[command(flatten)]
    pub pair: PairArgs,
}

/// Everything may also stand in a TOML file, under the same names without the dashes in front; what is typed wins.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RunArgs {
    /// A TOML file with these same names.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The directory of the audit logs.
    #[arg(long, value_name = "URI")]
    pub audit_log_dir: Option<String>,
    /// The directory of the change log.
    #[arg(long, value_name = "URI")]
    pub change_log_dir: Option<String>,
    /// The source: a path, file://, s3://bucket/prefix or hdfs://host:port/path.
    #[arg(long, value_name = "URI")]
    pub src: Option<String>,
    /// The destination, likewise.
    #[arg(long, value_name = "URI")]
    pub dest: Option<String>,
    /// The state directory of the import.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The audit log's format. Without it: found out from the lines.
    #[arg(long, value_name = "NAME")]
    pub dialect: Option<String>,
    /// The path in the log that corresponds to the source root.
    #[arg(long, value_name = "PATH")]
    pub audit_root: Option<String>,
    /// The zone of the log's times: UTC (the default), Asia/Shanghai, +08:00.
    #[arg(long, value_name = "ZONE")]
    pub log_timezone: Option<String>,
    /// How much older than the newest record one may be that is still to come: 1s, 15m, 24h.
    #[arg(long, value_name = "DURATION")]
    pub lateness: Option<String>,
    /// Go on although lines are missing: the gap is recorded, and everything is settled once.
    #[arg(long)]
    pub accept_gap: bool,
    /// Refuse to remove more files than this in one round: a number, or a share (10%).
    #[arg(long = "max-delete", value_name = "N|P%")]
    #[serde(rename = "max-delete")]
    pub deletes: Option<String>,
    /// About how much memory the names of a window may take: 512MiB, 2GiB. A window with more is applied in parts.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// One round, then end: for cron and timers.
    #[arg(long)]
    #[serde(skip)]
    pub once: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub stores: StoreArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The source.
    #[arg(long, value_name = "URI")]
    pub src: String,
    /// The destination.
    #[arg(long, value_name = "URI")]
    pub dest: String,
    /// The state directory: the result is kept there, and what is owed is known.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Mend what differs, deletes included.
    #[arg(long)]
    pub repair: bool,
    /// Read every byte on both sides instead of trusting sizes and times.
    #[arg(long)]
    pub content: bool,
    /// With --repair: refuse to remove more files than this.
    #[arg(long = "max-delete", value_name = "N|P%")]
    pub deletes: Option<String>,
    #[command(flatten)]
    pub stores: StoreArgs,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The state directory.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the folder, and say where it is.
    #[arg(long)]
    pub keep: bool,
}
