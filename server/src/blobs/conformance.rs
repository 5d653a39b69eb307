//! The contract of a blob store as a test, run on every implementation.

use super::files::FileBlobs;
use super::{BlobError, BlobKey, BlobPrefix, BlobStore};

fn key(tenant: i64, words: &[&str]) -> BlobKey {
    BlobKey::new(tenant, words).unwrap()
}

async fn names(store: &dyn BlobStore, prefix: &BlobPrefix) -> Vec<String> {
    store.list(prefix, None, 10_000).await.unwrap().iter().map(|key| key.as_str().to_owned()).collect()
}

/// Everything the contract promises, told as one story on an empty store.
async fn a_store_keeps_its_contract(store: &dyn BlobStore) {
    store.probe().await.unwrap();

    let photo = key(1, &["aa", "photo"]);
    assert!(matches!(store.get(&photo).await, Err(BlobError::NotFound)));
    store.put(&photo, b"first".to_vec()).await.unwrap();
    store.put(&photo, b"second".to_vec()).await.unwrap();
    assert_eq!(store.get(&photo).await.unwrap(), b"second");

    let empty = key(1, &["aa", "empty"]);
    store.put(&empty, Vec::new()).await.unwrap();
    assert_eq!(store.get(&empty).await.unwrap(), b"");

    let large: Vec<u8> = (0..3 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
    store.put(&key(1, &["aa", "large"]), large.clone()).await.unwrap();
    assert!(store.get(&key(1, &["aa", "large"])).await.unwrap() == large);

    store.delete(&empty).await.unwrap();
    store.delete(&empty).await.unwrap();
    assert!(matches!(store.get(&empty).await, Err(BlobError::NotFound)));

    // The order is that of the bytes of the whole key: "a-" before "a/" before "a0".
    for words in [&["a", "b"][..], &["a-b"], &["a0"], &["zz", "y", "x"]] {
        store.put(&key(2, words), b"x".to_vec()).await.unwrap();
    }
    store.put(&key(12, &["not", "ours"]), b"x".to_vec()).await.unwrap();
    let whole = BlobPrefix::tenant(2);
    assert_eq!(names(store, &whole).await, ["t2/a-b", "t2/a/b", "t2/a0", "t2/zz/y/x"]);
    assert_eq!(names(store, &BlobPrefix::below(2, &["a"]).unwrap()).await, ["t2/a/b"]);
    assert_eq!(names(store, &BlobPrefix::tenant(99)).await, [""; 0]);

    // Page by page, one sees each once.
    let mut seen: Vec<BlobKey> = Vec::new();
    loop {
        let page = store.list(&whole, seen.last(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(BlobKey::as_str).collect::<Vec<_>>(), names(store, &whole).await);
    let after_gone = store.list(&whole, Some(&key(2, &["a", "aa"])), 1).await.unwrap();
    assert_eq!(after_gone, [key(2, &["a", "b"])], "a key to go on from need not exist");

    assert_eq!(store.delete_prefix(&BlobPrefix::below(2, &["a"]).unwrap()).await.unwrap(), 1);
    assert_eq!(names(store, &whole).await, ["t2/a-b", "t2/a0", "t2/zz/y/x"]);
    assert_eq!(store.delete_prefix(&whole).await.unwrap(), 3);
    assert_eq!(store.delete_prefix(&whole).await.unwrap(), 0);
    assert_eq!(names(store, &whole).await, [""; 0]);
    assert_eq!(names(store, &BlobPrefix::tenant(12)).await, ["t12/not/ours"], "tenant 12 is not tenant 1");
    assert_eq!(store.delete_prefix(&BlobPrefix::tenant(1)).await.unwrap(), 2);
    assert_eq!(store.delete_prefix(&BlobPrefix::tenant(12)).await.unwrap(), 1);
}

#[tokio::test]
async fn files_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileBlobs::open(folder.path().join("blobs")).unwrap();
    a_store_keeps_its_contract(&store).await;
}

/// True of every S3 as well, but the S3 of these tests keeps its objects as files of the same name.
#[tokio::test]
async fn a_word_may_be_a_blob_and_have_blobs_below_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileBlobs::open(folder.path()).unwrap();
    store.put(&key(2, &["a", "b"]), b"below".to_vec()).await.unwrap();
    store.put(&key(2, &["a"]), b"itself".to_vec()).await.unwrap();
    assert_eq!(names(&store, &BlobPrefix::tenant(2)).await, ["t2/a", "t2/a/b"]);
    assert_eq!(store.get(&key(2, &["a"])).await.unwrap(), b"itself");
    assert_eq!(store.delete_prefix(&BlobPrefix::below(2, &["a"]).unwrap()).await.unwrap(), 1);
    assert_eq!(names(&store, &BlobPrefix::tenant(2)).await, ["t2/a"]);
}

#[tokio::test]
async fn a_draft_of_a_killed_server_is_no_blob_and_is_cleared_away_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileBlobs::open(folder.path()).unwrap();
    store.put(&key(1, &["a"]), vec![1]).await.unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(".drafts").join(name));
    std::fs::File::create(&old).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::File::create(&new).unwrap();

    let store = FileBlobs::open(folder.path()).unwrap();
    assert!(!old.exists());
    assert!(new.exists(), "somebody may still be writing it");
    assert_eq!(names(&store, &BlobPrefix::tenant(1)).await, ["t1/a"]);
}

#[tokio::test]
async fn files_that_are_gone_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("blobs");
    let store = FileBlobs::open(&root).unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let refusal = store.probe().await.unwrap_err().to_string();
    assert!(refusal.contains(root.to_str().unwrap()), "{refusal}");
    assert!(matches!(store.put(&key(1, &["a"]), vec![1]).await, Err(BlobError::Unavailable { .. })));
}

#[tokio::test]
async fn a_file_is_stored_while_its_folder_is_being_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileBlobs::open(folder.path()).unwrap();
    let prefix = BlobPrefix::tenant(1);
    let emptying = async {
        for _ in 0..200 {
            store.delete_prefix(&prefix).await.unwrap();
        }
    };
    let storing = async {
        for i in 0..200 {
            store.put(&key(1, &["deep", "down", &i.to_string()]), vec![1]).await.unwrap();
        }
    };
    tokio::join!(emptying, storing);
    store.put(&key(1, &["last"]), vec![1]).await.unwrap();
    assert_eq!(store.get(&key(1, &["last"])).await.unwrap(), [1]);
}

#[cfg(feature = "s3")]
mod s3 {
    use super::*;
    use crate::blobs::s3::S3Blobs;
    use crate::config::{Period, S3, Secret};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    /// A real S3 server in this process, with its files in `folder`.
    async fn s3_server(folder: &std::path::Path) -> String {
        let files = s3s_fs::FileSystem::new(folder).unwrap();
        let mut builder = s3s::service::S3ServiceBuilder::new(files);
        builder.set_auth(s3s::auth::SimpleAuth::from_single("AKTEST", "SKTEST"));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                tokio::spawn(connection);
            }
        });
        endpoint
    }

    fn settings(endpoint: String) -> S3 {
        S3 {
            bucket: Some("selkie".into()),
            endpoint: Some(endpoint),
            access_key: Some(Secret::new("AKTEST")),
            secret_key: Some(Secret::new("SKTEST")),
            timeout: Period::seconds(20),
            ..S3::default()
        }
    }

    #[tokio::test]
    async fn s3_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = S3Blobs::new(&settings(s3_server(folder.path()).await));
        store.create_bucket().await;
        a_store_keeps_its_contract(&store).await;
    }

    /// Runs against a store elsewhere if `SELKIE_TEST_S3_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY` name
    /// one (`_REGION` too, where it matters). The bucket must exist and be empty.
    #[tokio::test]
    async fn a_store_elsewhere_keeps_the_contract() {
        let variable = |name: &str| std::env::var(format!("SELKIE_TEST_S3_{name}")).ok();
        let Some(endpoint) = variable("ENDPOINT") else { return };
        let mut settings = settings(endpoint);
        settings.bucket = variable("BUCKET").or(settings.bucket);
        settings.region = variable("REGION").unwrap_or(settings.region);
        settings.access_key = Some(Secret::new(variable("ACCESS_KEY").expect("SELKIE_TEST_S3_ACCESS_KEY is set")));
        settings.secret_key = Some(Secret::new(variable("SECRET_KEY").expect("SELKIE_TEST_S3_SECRET_KEY is set")));
        a_store_keeps_its_contract(&S3Blobs::new(&settings)).await;
    }

    #[tokio::test]
    async fn a_probe_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = s3_server(folder.path()).await;
        let right = settings(endpoint.clone());
        let reason = async |settings: &S3| S3Blobs::new(settings).probe().await.unwrap_err().to_string();

        assert!(reason(&right).await.contains("no such bucket"));
        S3Blobs::new(&right).create_bucket().await;
        let wrong_key = S3 { secret_key: Some(Secret::new("wrong")), ..right.clone() };
        assert!(reason(&wrong_key).await.contains("refuses our keys"));

        let nobody_listens = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let unreachable = S3 { endpoint: Some(format!("http://{nobody_listens}")), ..right };
        assert!(reason(&unreachable).await.contains("cannot be reached"));
    }
}
