//! How a story is told once and happens on both backends. Knows nothing about any story.

/// Makes two tests of each story: `name::sqlite_and_files` and `name::postgres_and_s3`.
#[macro_export]
macro_rules! on_both_backends {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident: Backend) $story:block)*) => {$(
        mod $name {
            use super::*;

            async fn story($backend: $crate::premises::Backend) $story

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite_and_files() {
                story($crate::premises::Backend::SqliteAndFiles).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres_and_s3() {
                story($crate::premises::Backend::PostgresAndS3).await;
            }
        }
    )*};
}
