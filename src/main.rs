//! Arguments, logging, limits, exit code.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;
use syncd::cli;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    cli::start_logging(&cli);
    raise_descriptors();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().max_blocking_threads(blocking_threads()).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Calls of a local file system that run at one time. Threads beyond what the cores can serve only wake each other: with 16
/// instead of tokio's 512 an import of small files takes a third less processor time on two cores.
fn blocking_threads() -> usize {
    8 * std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Each file in flight holds up to two descriptors on each side, and hundreds are in flight; the soft limit of 1,024 that
/// most systems begin with is there for programs that use `select`, and is meant to be raised by all others.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}
