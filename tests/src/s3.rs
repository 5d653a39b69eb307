//! An S3 server in this process, with a bucket of its own: a real implementation of the protocol, signatures checked.
//!
//! Knows nothing about what is kept in it.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub const ACCESS_KEY: &str = "AKSELKIETEST";
pub const SECRET_KEY: &str = "selkie-test-secret-key";
pub const BUCKET: &str = "selkie";

/// Gone, with all that is in it, when it is dropped.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    files: TempDir,
    listener: tokio::task::JoinHandle<()>,
}

impl S3 {
    pub async fn start() -> Self {
        let files = tempfile::tempdir().expect("there is room for temporary files");
        // In the file system behind it, a bucket is a folder.
        std::fs::create_dir(files.path().join(BUCKET)).expect("the folder is ours");
        let mut builder =
            s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(files.path()).expect("the folder is there"));
        builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let listener = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let connection = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                connections.spawn(async move {
                    // A client that hangs up is not our business.
                    let _ = connection.await;
                });
            }
        });
        S3 { address, files, listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where everything lies.
    pub fn folder(&self) -> &std::path::Path {
        self.files.path()
    }

    /// The keys of all objects, sorted.
    pub fn objects(&self) -> Vec<String> {
        let bucket = self.files.path().join(BUCKET);
        let mut found = Vec::new();
        collect_files(&bucket, &bucket, &mut found);
        found.sort();
        found
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Every file beneath `folder`, as its path from `root`. The S3 server keeps notes of its own in hidden files.
pub(crate) fn collect_files(root: &std::path::Path, folder: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_files(root, &path, found);
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            let name = path.strip_prefix(root).expect("it was found beneath the root");
            found.push(name.to_string_lossy().into_owned());
        }
    }
}
