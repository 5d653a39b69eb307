//! Reads the command line and runs the command.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

/// How long work that blocks a thread may hold up the end of the process.
const PATIENCE: Duration = Duration::from_secs(1);

/// The multi-threaded runtime, and not the web framework's own: migrations block the thread they run on, and
/// connections to the database must outlive the web workers.
fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a process that cannot start threads can do nothing at all");
    let code = runtime.block_on(selkie_server::cli::run());
    runtime.shutdown_timeout(PATIENCE);
    code
}
