//! Runs administrative statements from code that is not async, from any thread. Knows nothing about what they say.

use tokio_postgres::{Client, NoTls};

use crate::Error;

/// Runs `work` on a thread of its own, so that a caller inside an async runtime may block on it.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A connection with a small runtime around it. To be used outside of any other runtime.
pub(crate) struct Connection {
    runtime: tokio::runtime::Runtime,
    client: Option<Client>,
    driver: Option<tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>>,
}

impl Connection {
    pub(crate) fn open(url: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start a runtime for the test database"))?;
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(url, NoTls))
            .map_err(|source| Error::Sql { doing: "connect to the test server".into(), source })?;
        let driver = runtime.spawn(connection);
        Ok(Connection { runtime, client: Some(client), driver: Some(driver) })
    }

    pub(crate) fn run(&self, statement: &str) -> Result<(), Error> {
        self.query_is_empty(statement).map(drop)
    }

    /// Runs one statement and says whether it gave no row.
    pub(crate) fn query_is_empty(&self, statement: &str) -> Result<bool, Error> {
        let client = self.client.as_ref().expect("a connection has its client until it is dropped");
        let messages = self
            .runtime
            .block_on(client.simple_query(statement))
            .map_err(|source| Error::Sql { doing: format!("run: {statement}"), source })?;
        Ok(!messages.iter().any(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_))))
    }
}

impl Drop for Connection {
    /// Says goodbye to the server and waits until it was sent: what is dropped is not connected any more.
    fn drop(&mut self) {
        drop(self.client.take());
        if let Some(driver) = self.driver.take() {
            // Whether the goodbye arrived is of no interest: the server sees the closed socket either way.
            let _ = self.runtime.block_on(driver);
        }
    }
}

/// An identifier as SQL writes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as SQL writes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
