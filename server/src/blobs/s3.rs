//! Blobs in an S3-compatible store.
//!
//! Owns how such a store is spoken to, and with what patience. Knows nothing about what is stored. Relies on no
//! conditional write, because several such stores take the condition and ignore it.

use super::{BlobError, BlobKey, BlobPrefix, BlobStore};
use crate::config::S3;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
}

/// The most that one request may list or delete, by the protocol.
const PAGE: usize = 1000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl S3Blobs {
    /// Speaks to nobody yet. The configuration was checked to be complete.
    pub fn new(config: &S3) -> Self {
        let revealed =
            |secret: &Option<crate::config::Secret>| secret.as_ref().map_or("", |secret| secret.reveal()).to_owned();
        let credentials =
            Credentials::new(revealed(&config.access_key), revealed(&config.secret_key), None, None, "configuration");
        let attempt = config.timeout.as_duration();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(attempt))
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt * 2)
            .build();
        // Built from these settings alone: the AWS configuration chain would ask environment, home folder and
        // the cloud's metadata address.
        let mut settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(config.path_style)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(3));
        if let Some(endpoint) = &config.endpoint {
            // Not every store understands the checksums that the SDK adds on its own.
            settings = settings
                .endpoint_url(endpoint)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        S3Blobs { client: Client::from_conf(settings.build()), bucket: config.bucket.clone().unwrap_or_default() }
    }

    #[cfg(test)]
    pub(super) async fn create_bucket(&self) {
        self.client.create_bucket().bucket(&self.bucket).send().await.unwrap();
    }

    async fn delete_all(&self, keys: &[BlobKey]) -> Result<(), BlobError> {
        let identify = |key: &BlobKey| ObjectIdentifier::builder().key(key.as_str()).build();
        let objects = keys.iter().map(identify).collect::<Result<Vec<_>, _>>().expect("each has its key");
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().expect("it has its objects");
        let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await.map_err(failed)?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => {
                let reason = format!("a blob was not deleted ({})", error.code().unwrap_or("no reason given"));
                Err(BlobError::Unavailable { reason, source: None })
            }
        }
    }
}

/// The store's code for what went wrong, never its text: that may quote addresses and keys.
fn failed<E>(error: SdkError<E>) -> BlobError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let reason = match &error {
        SdkError::ServiceError(answer) => match (answer.err().code(), answer.raw().status().as_u16()) {
            (Some("NoSuchKey"), _) => return BlobError::NotFound,
            (Some("NoSuchBucket"), _) => "there is no such bucket".to_owned(),
            (Some(code), status) => format!("it answered {status} {}", word(code)),
            (None, status) => format!("it answered {status}"),
        },
        SdkError::TimeoutError(_) => return BlobError::unavailable("it did not answer in time", error),
        SdkError::DispatchFailure(_) => return BlobError::unavailable("it cannot be reached", error),
        SdkError::ConstructionFailure(_) => return BlobError::unavailable("the request could not be made", error),
        _ => "its answer could not be read".to_owned(),
    };
    BlobError::Unavailable { reason, source: None }
}

fn word(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).take(40).collect()
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn put(&self, key: &BlobKey, bytes: Vec<u8>) -> Result<(), BlobError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key.as_str()).body(ByteStream::from(bytes));
        put.send().await.map_err(failed)?;
        Ok(())
    }

    async fn get(&self, key: &BlobKey) -> Result<Vec<u8>, BlobError> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key.as_str()).send().await.map_err(failed)?;
        let body = answer.body.collect().await;
        Ok(body.map_err(|error| BlobError::unavailable("its answer broke off", error))?.to_vec())
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        match self.client.delete_object().bucket(&self.bucket).key(key.as_str()).send().await.map_err(failed) {
            Ok(_) | Err(BlobError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(
        &self,
        prefix: &BlobPrefix,
        after: Option<&BlobKey>,
        limit: usize,
    ) -> Result<Vec<BlobKey>, BlobError> {
        let mut found = Vec::new();
        let mut after = after.map(|key| key.as_str().to_owned());
        while found.len() < limit {
            let page = (limit - found.len()).min(PAGE);
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix.as_str());
            let request = request.set_start_after(after.clone()).max_keys(i32::try_from(page).unwrap_or(i32::MAX));
            let answer = request.send().await.map_err(failed)?;
            let mut names = answer.contents().iter().filter_map(|object| object.key());
            found.extend(names.clone().filter_map(BlobKey::from_store));
            after = names.next_back().map(str::to_owned).or(after);
            if answer.is_truncated() != Some(true) {
                break;
            }
        }
        Ok(found)
    }

    async fn delete_prefix(&self, prefix: &BlobPrefix) -> Result<u64, BlobError> {
        let mut deleted = 0;
        loop {
            let keys = self.list(prefix, None, PAGE).await?;
            if keys.is_empty() {
                return Ok(deleted);
            }
            self.delete_all(&keys).await?;
            deleted += keys.len() as u64;
        }
    }

    async fn probe(&self) -> Result<(), BlobError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            // The answer to HEAD has no body, so the status is all there is.
            Err(SdkError::ServiceError(answer)) => {
                let reason = match answer.raw().status().as_u16() {
                    404 => "there is no such bucket".to_owned(),
                    401 | 403 => "it refuses our keys".to_owned(),
                    status => format!("it answered {status}"),
                };
                Err(BlobError::Unavailable { reason, source: None })
            }
            Err(error) => Err(failed(error)),
        }
    }
}
