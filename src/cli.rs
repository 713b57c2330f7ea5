//! What was typed, and what is printed. The only module that prints or names clap.

mod args;
mod output;

pub use args::{Cli, LogArgs, PairArgs, RunArgs, StoreArgs};

use crate::apply::Mode;
use crate::checkpoint::State;
use crate::config::{self, Usage};
use crate::daemon;
use crate::job::{Job, JobError, Retry};
use crate::round;
use crate::status::Page;
use crate::wake::Wake;
use anyhow::Context;
use args::{Command, ImportArgs, MakeArgs, StatusArgs, VerifyArgs};
use output::{Output, Tell};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// How a command ended. `docs/operations.md` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Owed = 3,
    Refused = 4,
}

/// What was typed; or how to end if it asked for help, or makes no sense.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::typed().map_err(|error| {
        if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
            Output::new(true).document(&serde_json::json!({ "error": error.to_string().trim_end() }));
        }
        // A reader that went away is nothing to fail for.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Done } as u8)
    })
}

/// Log lines go to stderr: warnings, what `SYNCD_LOG` asks for, everything of syncd's own with `-v`. `run` tells its rounds.
pub fn start_logging(cli: &Cli) {
    let own = match (&cli.command, cli.verbose) {
        (_, true) => "warn,syncd=debug",
        (Command::Run(_), false) => "warn,syncd=info",
        _ => "warn",
    };
    let filter = EnvFilter::try_from_env("SYNCD_LOG").unwrap_or_else(|_| EnvFilter::new(own));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}

/// Does what was asked, and says how it ended.
pub async fn run(cli: Cli) -> ExitCode {
    let mut output = Output::new(cli.json);
    let exit = match command(cli.command, &mut output).await {
        Ok(exit) => exit,
        Err(error) => {
            output.error(&error);
            exit_of(&error)
        }
    };
    ExitCode::from(exit as u8)
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<Usage>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<JobError>() {
        Some(job) if job.is_refusal() => Exit::Refused,
        Some(JobError::NotReady(_)) => Exit::Usage,
        _ => Exit::Failed,
    }
}

async fn command(command: Command, output: &mut Output) -> anyhow::Result<Exit> {
    match command {
        Command::MigrateImport(args) => import(args, output).await,
        Command::Mkchangelog(args) => mkchangelog(args, output).await,
        Command::Apply(args) => {
            let mode = if args.dry_run { Mode::Look } else { Mode::Act };
            let tell = if args.explain { Tell::Lines } else { Tell::Nothing };
            let mut job = job(&args.pair, args.deletes.as_deref(), tell, output).await?;
            job.settings.names_max = config::names_max(args.memory.as_deref())?;
            config::check_outside(&args.pair, "--change-log-dir", &args.change_log_dir)?;
            let change_log = config::store("--change-log-dir", &args.change_log_dir, &args.pair.stores).await?;
            let applied = output.watch("applying", job.apply(&*change_log, mode)).await;
            let applied = noted(&job, applied)?;
            output.applied(&applied, mode);
            owed_or_done(&job, output, mode)
        }
        Command::Run(args) => run_daemon(args, output).await,
        Command::Verify(args) => verify(args, output).await,
        Command::Status(args) => status(&args, output),
        Command::Demo(args) => crate::demo::run(args.keep, |line| output.say(line)).await.map(|told| {
            output.document(&told);
            Exit::Done
        }),
    }
}

async fn import(args: ImportArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let job = job(&args.pair, None, Tell::Nothing, output).await?;
    let positions = match &args.audit_log_dir {
        None => None,
        Some(uri) => {
            let logs = config::store("--audit-log-dir", uri, &args.pair.stores).await?;
            let positions = crate::tail::positions(&*logs).await;
            Some(positions.with_context(|| format!("reading where the audit logs in {uri} end"))?)
        }
    };
    let report = output.watch("importing", job.import(positions)).await;
    let report = noted(&job, report)?;
    output.report("imported", &report);
    owed_or_done(&job, output, Mode::Act)
}

async fn mkchangelog(args: MakeArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let state = args.state_dir.as_deref().map(State::open).transpose().map_err(JobError::from)?;
    let logs = config::logs(&args.logs, &args.stores, state.as_ref(), crate::clock::now()).await?;
    let made = output.watch("reading the audit logs", logs.make(state.as_ref(), crate::clock::now())).await?;
    made.warnings.iter().for_each(|warning| output.warn(warning));
    output.say(&round::words(&made));
    output.document(&made.window);
    Ok(Exit::Done)
}

async fn run_daemon(args: RunArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let once = args.once;
    let settings = config::run(args)?;
    let mut job = job(&settings.pair, settings.deletes.as_deref(), Tell::Nothing, output).await?;
    job.settings.names_max = config::names_max(settings.memory.as_deref())?;
    config::check_outside(&settings.pair, "--change-log-dir", &settings.logs.change_log_dir)?;
    let logs = config::logs(&settings.logs, &settings.pair.stores, Some(&*job.state), crate::clock::now()).await?;
    if once {
        let done = output.watch("one pass", daemon::round(&logs, &job)).await;
        let (made, applied) = noted(&job, done)?;
        made.warnings.iter().for_each(|warning| output.warn(warning));
        output.say(&round::words(&made));
        output.applied(&applied, Mode::Act);
        return owed_or_done(&job, output, Mode::Act);
    }
    job.settings.retry = Retry::Due;
    let wake = Wake::on(&config::uri("--audit-log-dir", &settings.logs.audit_log_dir)?).await;
    let ended = daemon::run(&logs, &job, wake.context("listening to signals")?).await;
    noted(&job, ended)?;
    output.document(&Page::of(&job.state, None)?);
    owed_or_done(&job, output, Mode::Act)
}

async fn verify(args: VerifyArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let mode = if args.repair { Mode::Act } else { Mode::Look };
    let scratch = tempfile::tempdir().context("making a directory for a state that nobody keeps")?;
    let known = args.state_dir.is_some();
    let pair = PairArgs {
        src: args.src,
        dest: args.dest,
        state_dir: args.state_dir.unwrap_or_else(|| scratch.path().to_owned()),
        stores: args.stores,
    };
    let mut job = job(&pair, args.deletes.as_deref(), Tell::Differences, output).await?;
    job.settings.compare_all = args.content;
    let report = if known { job.verify(mode).await } else { job.verify_alone(mode).await };
    let report = noted(&job, report)?;
    output.verification(if args.repair { "repaired" } else { "verified" }, &report);
    match (args.repair, report.differing_paths) {
        (false, differences) if differences > 0 => {
            output.say(&format!("{differences} differences; `syncd verify --repair` mends them"));
            Ok(Exit::Owed)
        }
        _ if report.owed_paths > 0 => Ok(Exit::Owed),
        _ => Ok(Exit::Done),
    }
}

fn status(args: &StatusArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let page = Page::read(&args.state_dir).with_context(|| {
        format!(
            "there is no status in {}: has `syncd migrate-import` run with this --state-dir?",
            args.state_dir.display()
        )
    })?;
    output.page(&page);
    Ok(if page.is_certain() { Exit::Done } else { Exit::Owed })
}

async fn job(pair: &PairArgs, deletes: Option<&str>, tell: Tell, output: &Output) -> anyhow::Result<Job> {
    config::job(pair, deletes, output.events(tell)).await
}

/// Keeps a failure for `syncd status`; that it could not be kept must not hide what it was.
fn noted<T>(job: &Job, result: Result<T, JobError>) -> Result<T, JobError> {
    result.inspect_err(|error| {
        if let Err(second) = job.note_failure(error) {
            tracing::error!(error = crate::apply::chain(&second), "the status page could not be written");
        }
    })
}

fn owed_or_done(job: &Job, output: &mut Output, mode: Mode) -> anyhow::Result<Exit> {
    let page = Page::of(&job.state, None)?;
    if mode == Mode::Act {
        output.say(&page.sentence);
    }
    Ok(if page.is_certain() { Exit::Done } else { Exit::Owed })
}
