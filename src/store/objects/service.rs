//! A store behind the crate `object_store`, one call at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

use super::{Created, Objects};
use crate::store::StoreError;

/// Longest call: the service's client gives up long before, a directory that hangs does not.
const LONGEST: Duration = Duration::from_secs(300);

/// A store and what carries its calls out.
pub(super) struct Service {
    store: Arc<dyn ObjectStore>,
    /// Below which the store is.
    prefix: Path,
    /// For people.
    place: String,
    runtime: Runtime,
}

impl Service {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        place: String,
    ) -> Result<Service, StoreError> {
        let local = |error: String| StoreError::Local(format!("opening the store {place}: {error}"));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("store").enable_all().build();
        let runtime = runtime.map_err(|error| local(error.to_string()))?;
        let prefix = Path::parse(prefix).map_err(|error| local(error.to_string()))?;
        Ok(Service { store, prefix, runtime, place: place.clone() })
    }

    fn path(&self, name: &str) -> Result<Path, StoreError> {
        let whole =
            if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(whole).map_err(|error| StoreError::Local(format!("{name:?}: {error}")))
    }

    /// Whether an object may have this name.
    pub(super) fn check_name(&self, name: &str) -> Result<(), StoreError> {
        self.path(name).map(drop)
    }

    /// Does something that may hang, in a thread that nobody waits for longer than for any other call.
    pub(super) fn elsewhere<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.runtime.spawn_blocking(work);
        let bounded = async { tokio::time::timeout(LONGEST, done).await };
        let done = self.runtime.block_on(bounded).map_err(|_| self.no_answer(what))?;
        done.map_err(|error| StoreError::Local(format!("{}: {what}: {error}", self.place)))
    }

    fn no_answer(&self, what: &str) -> StoreError {
        StoreError::Unreachable(format!("{}: no answer to {what} within {LONGEST:?}", self.place))
    }

    fn wait<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, StoreError> {
        let bounded = async { tokio::time::timeout(LONGEST, call).await };
        self.runtime.block_on(bounded).map_err(|_| self.no_answer(what))
    }

    fn failed(&self, what: &str, error: &Error) -> StoreError {
        let told = answered(&innermost(error));
        let detail = format!("{}: {what}: {told}", self.place);
        match error {
            Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreError::Refused(detail),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => refused(&detail),
            // The crate has no kind of error for a list that is refused.
            _ if told.contains("status code: 401") || told.contains("status code: 403") => refused(&detail),
            _ => StoreError::Unreachable(detail),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: PutMode) -> Result<Result<(), Error>, StoreError> {
        let path = self.path(name)?;
        let payload = PutPayload::from(bytes.to_vec());
        let options = PutOptions { mode, ..PutOptions::default() };
        Ok(self.wait(name, self.store.put_opts(&path, payload, options))?.map(drop))
    }
}

/// What a chain of errors ends with: what is around it repeats it.
fn innermost(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.to_string() {
        // Errors of requests end with a word alone.
        short if short.len() < 12 => error.to_string(),
        told => told,
    }
}

fn refused(detail: &str) -> StoreError {
    StoreError::Refused(format!("{detail}; see the credentials in store.options, and what they may do there"))
}

/// An answer of a service without its XML: the status, and the service's own word for it.
fn answered(told: &str) -> String {
    let Some((status, body)) = told.split_once(": <") else { return told.trim().to_owned() };
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code {
        Some((code, _)) => format!("{status} ({code})"),
        None => status.to_owned(),
    }
}

impl Objects for Service {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name)?;
        let read = async {
            let found = self.store.get_opts(&path, GetOptions::default()).await?;
            let mut bytes = Vec::with_capacity(usize::try_from(found.meta.size.min(limit)).unwrap_or(0));
            let mut stream = found.into_stream();
            while let Some(more) = stream.next().await {
                bytes.extend_from_slice(&more?);
                if bytes.len() as u64 > limit {
                    return Ok(None);
                }
            }
            Ok(Some(bytes))
        };
        match self.wait(name, read)? {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => Err(StoreError::Tampered(format!(
                "{}: {name} has more than the {limit} bytes that it may have",
                self.place
            ))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&format!("reading {name}"), &error)),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        match self.write(name, bytes, PutMode::Create)? {
            Ok(()) => Ok(Created::New),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::There),
            Err(error) => Err(self.failed(&format!("creating {name}"), &error)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.write(name, bytes, PutMode::Overwrite)?;
        written.map_err(|error| self.failed(&format!("writing {name}"), &error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(prefix.trim_end_matches('/'))?;
        let own = self.prefix.as_ref();
        let found = self.wait(prefix, async {
            self.store.list(Some(&path)).map_ok(|meta| meta.location).try_collect::<Vec<Path>>().await
        })?;
        let found = match found {
            Err(Error::NotFound { .. }) => Vec::new(),
            found => found.map_err(|error| self.failed(&format!("listing {prefix}"), &error))?,
        };
        let below = |path: &Path| {
            let name = path.as_ref().strip_prefix(own)?.trim_start_matches('/');
            name.starts_with(prefix).then(|| name.to_owned())
        };
        let mut names: Vec<String> = found.iter().filter_map(below).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        match self.wait(name, self.store.delete(&path))? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&format!("deleting {name}"), &error)),
        }
    }

    fn place(&self) -> &str {
        &self.place
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::answered;
    use crate::store::objects::{Created, Objects, StoreSpec, create_or_own, open};
    use crate::store::{Sha256, StoreError, names};

    fn directory() -> (tempfile::TempDir, Arc<dyn Objects>) {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let objects = open(&StoreSpec { url, ..StoreSpec::default() }).unwrap();
        (dir, objects)
    }

    #[test]
    fn an_answer_is_told_without_its_markup() {
        let status = "Server returned non-2xx status code: 403 Forbidden";
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>No</Message></Error>\n";
        assert_eq!(answered(&format!("{status}: {body}")), format!("{status} (AccessDenied)"));
        assert_eq!(answered(&format!("{status}: <html>\n</html>")), status);
        assert_eq!(answered("connection refused\n"), "connection refused");
    }

    #[test]
    fn a_directory_is_a_store() {
        let (dir, objects) = directory();
        let name = names::head(1);
        assert_eq!(objects.get(&name, 10).unwrap(), None);
        assert_eq!(objects.list(names::HEADS).unwrap(), Vec::<String>::new());
        assert_eq!(objects.create(&name, b"one").unwrap(), Created::New);
        assert_eq!(objects.create(&name, b"two").unwrap(), Created::There);
        assert_eq!(create_or_own(&*objects, &name, b"one").unwrap(), Created::New, "its own");
        assert_eq!(create_or_own(&*objects, &name, b"two").unwrap(), Created::There);
        assert_eq!(std::fs::read(dir.path().join(&name)).unwrap(), b"one");
        objects.put(&name, b"three").unwrap();
        assert_eq!(objects.get(&name, 5).unwrap().unwrap(), b"three");
        assert!(matches!(objects.get(&name, 4), Err(StoreError::Tampered(_))), "too long");
        objects.put(&names::lease(1), b"").unwrap();
        assert_eq!(objects.list(names::HEADS).unwrap(), std::slice::from_ref(&name));
        for _ in 0..2 {
            objects.delete(&name).unwrap();
        }
        assert_eq!(objects.get(&name, 10).unwrap(), None);
    }

    #[test]
    fn of_many_who_create_a_name_one_does() {
        let (_dir, objects) = directory();
        for round in 0..20 {
            let name = names::head(round);
            let made: Vec<Created> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8u8)
                    .map(|n| {
                        let (objects, name) = (&objects, &name);
                        scope.spawn(move || objects.create(name, &[n; 1000]).unwrap())
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(made.iter().filter(|made| **made == Created::New).count(), 1);
            let winner = made.iter().position(|made| *made == Created::New).unwrap() as u8;
            assert_eq!(objects.get(&name, 1000).unwrap().unwrap(), [winner; 1000]);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_empty_store() {
        let dir = tempfile::tempdir().unwrap();
        let spec = |url: String| StoreSpec { url, ..StoreSpec::default() };
        let gone = spec(format!("file://{}/gone", dir.path().display()));
        assert!(matches!(open(&gone), Err(StoreError::Unreachable(_))));
        for url in ["file://relative", "ftp://x", "x"] {
            assert!(matches!(open(&spec(url.to_owned())), Err(StoreError::Local(_))), "{url}");
        }
    }

    #[test]
    fn an_object_has_the_name_that_sha256sum_gives_it() {
        let (dir, objects) = directory();
        let name = names::Area::main().object(&Sha256::of(b"content"));
        objects.create(&name, b"content").unwrap();
        let sum = std::process::Command::new("sha256sum").arg(dir.path().join(&name)).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert!(name.ends_with(sum.split(' ').next().unwrap()));
    }
}
