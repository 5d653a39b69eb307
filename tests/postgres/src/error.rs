//! What can go wrong around a test database, each with what to do about it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no PostgreSQL server binaries (initdb and postgres) found; looked in SELKIE_TEST_PG_BIN, PATH and \
         /usr/lib/postgresql/*/bin. On Debian: apt-get install -y postgresql"
    )]
    NoBinaries,

    #[error("PostgreSQL will not run as root, and there is neither a user `postgres` nor `nobody` in /etc/passwd")]
    NobodyToRunAs,

    #[error("could not {doing}")]
    Io { doing: &'static str, source: std::io::Error },

    #[error("{program} failed ({status}):\n{output}")]
    Failed { program: PathBuf, status: std::process::ExitStatus, output: String },

    #[error("PostgreSQL did not become ready; the end of its log:\n{log}")]
    NotReady { log: String },

    #[error("{0} is not a URL of the form postgres://user@host:port/database")]
    NotAnAddress(String),

    #[error("could not {doing}")]
    Sql { doing: String, source: tokio_postgres::Error },

    #[error("the template {name} could not be prepared")]
    Template { name: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Error {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { doing, source }
    }

    /// The error with all its causes on one line: what a panic message in a test should say.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
