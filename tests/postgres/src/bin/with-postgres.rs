//! Runs a command with a throw-away PostgreSQL beside it: `with-postgres cargo test`.
//!
//! The command finds the server in `SELKIE_TEST_DATABASE_URL`, and its exit code becomes ours. The server is gone when
//! the command is, also when somebody presses Ctrl-C or kills us.
#![allow(clippy::print_stderr, reason = "a command line tool speaks to a person")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use selkie_test_postgres::{Cluster, SHARED_URL_VARIABLE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-postgres COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // A server that is already there is used as it is: so a run inside a run does not start a second one.
    let _cluster = match std::env::var_os(SHARED_URL_VARIABLE) {
        Some(_) => None,
        None => match Cluster::start() {
            Ok(cluster) => {
                command.env(SHARED_URL_VARIABLE, cluster.url());
                Some(cluster)
            }
            Err(error) => {
                eprintln!("with-postgres: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    match command.status() {
        // As shells do: a command that was killed by signal n gives 128 + n.
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("with-postgres: cannot run {}: {error}", command.get_program().display());
            ExitCode::from(127)
        }
    }
}
