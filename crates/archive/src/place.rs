//! Where an archive lies.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use serde::{Deserialize, Serialize};

use crate::store::Store;

/// Largest file of credentials, bytes.
const MAX_CREDENTIALS: u64 = 16 * 1024;

/// How long connecting to an S3 server may take, and how long it may send nothing.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(20);

/// Settings of an S3 bucket that its address does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Settings {
    /// Address of the server (`https://host[:port]`); empty for Amazon's own.
    pub endpoint: String,
    /// Region; empty means `us-east-1`.
    pub region: String,
    /// File with `access_key_id = …`, `secret_access_key = …` and perhaps `session_token = …`, one a line; only its owner may read it.
    pub credentials_file: Option<PathBuf>,
    /// Allow an `http://` endpoint that is not this machine: anybody on the way can then read and change documents.
    pub allow_http: bool,
}

/// A place that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, with what all keys begin with.
    S3 {
        /// Bucket.
        bucket: String,
        /// Prefix, without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// A place that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Not an address that is known.
    #[error(
        "{0:?} is no place for an archive; use an absolute path, file:///path or s3://bucket/prefix"
    )]
    Address(String),
    /// An unsafe endpoint.
    #[error(
        "the S3 endpoint {0:?} would send documents and signatures of requests in the clear; use https, or set allow_http: true if the network between is yours"
    )]
    Http(String),
    /// An endpoint that is no address.
    #[error("the S3 endpoint {0:?} is no address such as https://s3.example.com")]
    Endpoint(String),
    /// Credentials that cannot be read.
    #[error("the S3 credentials in {path} cannot be used: {reason}")]
    Credentials {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("{place} cannot be opened: {reason}")]
    Open {
        /// Place.
        place: String,
        /// Why.
        reason: String,
    },
}

impl Place {
    /// Reads an address.
    pub fn parse(address: &str) -> Result<Self, PlaceError> {
        let bad = || PlaceError::Address(address.to_owned());
        if let Some(rest) = address.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            let plain = |text: &str| {
                text.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
                    && !text.split('/').any(|part| part == "." || part == "..")
                    && !text.contains("//")
            };
            if bucket.is_empty() || !plain(bucket) || !plain(prefix) {
                return Err(bad());
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        let path = address.strip_prefix("file://").unwrap_or(address);
        if path.contains("://") || !path.starts_with('/') || path.contains('\0') {
            return Err(bad());
        }
        Ok(Self::Folder(PathBuf::from(path)))
    }

    /// Opens it; a folder is made if it is not there.
    pub fn open(&self, s3: &S3Settings) -> Result<Store, PlaceError> {
        match self {
            Self::Folder(path) => {
                let failed = |e: &dyn std::fmt::Display| PlaceError::Open {
                    place: path.display().to_string(),
                    reason: e.to_string(),
                };
                std::fs::create_dir_all(path).map_err(|e| failed(&e))?;
                let path = std::fs::canonicalize(path).map_err(|e| failed(&e))?;
                let store = LocalFileSystem::new_with_prefix(&path)
                    .map_err(|e| failed(&e))?
                    .with_fsync(true);
                Ok(Store::new(
                    Arc::new(store),
                    String::new(),
                    Some(path.clone()),
                    format!("file://{}", path.display()),
                ))
            }
            Self::S3 { bucket, prefix } => {
                let store = open_s3(bucket, s3)?;
                let place = format!("s3://{bucket}/{prefix}");
                Ok(Store::new(store, prefix.clone(), None, place))
            }
        }
    }
}

fn open_s3(bucket: &str, s3: &S3Settings) -> Result<Arc<dyn ObjectStore>, PlaceError> {
    let region = if s3.region.is_empty() {
        "us-east-1"
    } else {
        &s3.region
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region);
    let http = s3.endpoint.starts_with("http://");
    if !s3.endpoint.is_empty() {
        let url =
            url::Url::parse(&s3.endpoint).map_err(|_| PlaceError::Endpoint(s3.endpoint.clone()))?;
        let here = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => return Err(PlaceError::Endpoint(s3.endpoint.clone())),
        };
        if !http && url.scheme() != "https" {
            return Err(PlaceError::Endpoint(s3.endpoint.clone()));
        }
        if http && !here && !s3.allow_http {
            return Err(PlaceError::Http(s3.endpoint.clone()));
        }
        // Named endpoints are rarely reachable as bucket.host, so the bucket stays in the path.
        builder = builder.with_endpoint(s3.endpoint.trim_end_matches('/'));
    }
    // A request may take as long as a large document needs, but not fall silent; and a server that is away is told soon, for the caller knows how to wait.
    let options = ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE);
    builder = builder
        .with_client_options(options)
        .with_retry(RetryConfig {
            max_retries: 3,
            retry_timeout: SILENCE,
            ..RetryConfig::default()
        });
    let builder = match &s3.credentials_file {
        Some(path) => with_credentials(builder, path)?,
        None => builder,
    };
    let store = builder.build().map_err(|e| PlaceError::Open {
        place: format!("s3://{bucket}"),
        reason: e.to_string(),
    })?;
    Ok(Arc::new(store))
}

fn with_credentials(
    mut builder: AmazonS3Builder,
    path: &std::path::Path,
) -> Result<AmazonS3Builder, PlaceError> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let error = |reason: String| PlaceError::Credentials {
        path: path.to_owned(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|e| error(e.to_string()))?;
    let mode = file
        .metadata()
        .map_err(|e| error(e.to_string()))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(error(format!(
            "others may read it (mode {mode:04o}); chmod 600"
        )));
    }
    let mut text = String::new();
    file.take(MAX_CREDENTIALS)
        .read_to_string(&mut text)
        .map_err(|e| error(e.to_string()))?;
    let (mut id, mut secret) = (false, false);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .ok_or_else(|| error(format!("line {} is not `name = value`", at + 1)))?;
        // Both spellings: ours and that of Amazon's own file.
        match name.strip_prefix("aws_").unwrap_or(name) {
            "access_key_id" => {
                id = true;
                builder = builder.with_access_key_id(value);
            }
            "secret_access_key" => {
                secret = true;
                builder = builder.with_secret_access_key(value);
            }
            "session_token" => builder = builder.with_token(value),
            other => {
                return Err(error(format!(
                    "line {} names {other:?}, which is no credential",
                    at + 1
                )));
            }
        }
    }
    if id && secret {
        Ok(builder)
    } else {
        Err(error(
            "it needs access_key_id and secret_access_key".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        assert_eq!(
            Place::parse("/srv/a").unwrap(),
            Place::Folder("/srv/a".into())
        );
        assert_eq!(
            Place::parse("file:///srv/a").unwrap(),
            Place::Folder("/srv/a".into())
        );
        let s3 = |bucket: &str, prefix: &str| Place::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!(Place::parse("s3://b/p/q/").unwrap(), s3("b", "p/q"));
        assert_eq!(Place::parse("s3://b").unwrap(), s3("b", ""));
        for bad in [
            "",
            "a",
            "file://a",
            "gs://b",
            "s3://",
            "s3://b/../c",
            "s3://b/a//c",
            "http://x/y",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_in_the_clear_needs_a_word_unless_it_is_this_machine() {
        // Another test may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let open = |endpoint: &str, allow_http| {
            let s3 = S3Settings {
                endpoint: endpoint.to_owned(),
                allow_http,
                ..S3Settings::default()
            };
            Place::parse("s3://b/p").unwrap().open(&s3)
        };
        assert!(matches!(
            open("http://s3.example.com", false),
            Err(PlaceError::Http(_))
        ));
        assert!(matches!(
            open("ftp://s3.example.com", false),
            Err(PlaceError::Endpoint(_))
        ));
        assert!(matches!(
            open("nonsense", false),
            Err(PlaceError::Endpoint(_))
        ));
        assert!(!matches!(
            open("http://127.0.0.1:9", false),
            Err(PlaceError::Http(_))
        ));
        assert!(!matches!(
            open("http://s3.example.com", true),
            Err(PlaceError::Http(_))
        ));
    }

    #[test]
    fn credentials_that_others_may_read_or_that_lack_a_part_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let read = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            with_credentials(AmazonS3Builder::new(), &path)
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let whole = "access_key_id = a\nsecret_access_key = b\n";
        assert_eq!(read(whole, 0o600), Ok(()));
        assert!(read(whole, 0o644).unwrap_err().contains("chmod 600"));
        assert!(
            read("access_key_id = a\n", 0o600)
                .unwrap_err()
                .contains("secret_access_key")
        );
        assert!(
            read("password = a\n", 0o600)
                .unwrap_err()
                .contains("password")
        );
    }
}
