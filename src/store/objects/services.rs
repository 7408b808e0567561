//! Stores behind a service: S3 and what speaks like it; others where they were built in.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use rustls::crypto::ring;

use super::StoreSpec;
use super::service::Service;
use crate::store::StoreError;

/// For connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// For one request, with a part on a slow line.
const REQUEST: Duration = Duration::from_secs(240);
/// After this time of failing, a request has failed: whoever asked tries again in their own time.
const RETRIES: Duration = Duration::from_secs(30);

/// Opens `s3://BUCKET/PREFIX`.
pub(super) fn s3(spec: &StoreSpec) -> Result<Service, StoreError> {
    let (bucket, prefix) = bucket_and_prefix(spec)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_client_options(client(spec)?)
        .with_retry(retry());
    for (name, value) in &spec.options {
        let key: AmazonS3ConfigKey = option(name)?;
        // One that is not encrypted is meant, where it is written so.
        if value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    opened(spec, builder.build(), prefix)
}

/// Opens `gs://BUCKET/PREFIX`. Untested.
#[cfg(feature = "gcs-untested")]
pub(super) fn gcs(spec: &StoreSpec) -> Result<Service, StoreError> {
    let (bucket, prefix) = bucket_and_prefix(spec)?;
    let mut builder = object_store::gcp::GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(client(spec)?)
        .with_retry(retry());
    for (name, value) in &spec.options {
        builder = builder.with_config(option(name)?, value);
    }
    opened(spec, builder.build(), prefix)
}

/// Opens `az://CONTAINER/PREFIX`. Untested.
#[cfg(feature = "azure-untested")]
pub(super) fn azure(spec: &StoreSpec) -> Result<Service, StoreError> {
    let (container, prefix) = bucket_and_prefix(spec)?;
    let mut builder = object_store::azure::MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_client_options(client(spec)?)
        .with_retry(retry());
    for (name, value) in &spec.options {
        builder = builder.with_config(option(name)?, value);
    }
    opened(spec, builder.build(), prefix)
}

fn bucket_and_prefix(spec: &StoreSpec) -> Result<(&str, &str), StoreError> {
    let place = spec.url.split_once("://").map_or("", |(_, place)| place);
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    match bucket.is_empty() {
        false => Ok((bucket, prefix)),
        true => {
            Err(StoreError::Local(format!("{}: expected a bucket such as \"s3://bucket/prefix\"", spec.url)))
        }
    }
}

fn option<K: std::str::FromStr>(name: &str) -> Result<K, StoreError> {
    name.parse().map_err(|_| {
        StoreError::Local(format!(
            "store.options: '{name}' is no option of this service, such as \"endpoint\" or \"region\""
        ))
    })
}

fn client(spec: &StoreSpec) -> Result<ClientOptions, StoreError> {
    // This program has one stack for TLS; whoever installed it first did the same.
    let _ = ring::default_provider().install_default();
    let mut client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST);
    if let Some(proxy) = &spec.proxy {
        client = client.with_proxy_url(proxy);
    }
    if let Some(ca) = &spec.ca {
        let wrong = |why: String| StoreError::Local(format!("store.ca: {}: {why}", ca.display()));
        let pem = std::fs::read(ca).map_err(|error| wrong(error.to_string()))?;
        let all = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
        client = all.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    Ok(client)
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 4, retry_timeout: RETRIES }
}

fn opened(
    spec: &StoreSpec,
    built: Result<impl ObjectStore, object_store::Error>,
    prefix: &str,
) -> Result<Service, StoreError> {
    let store = built.map_err(|error| StoreError::Local(format!("{}: {error}", spec.url)))?;
    Service::new(Arc::new(store), prefix, spec.url.clone())
}
