//! A store in a directory of this host, or of one that it mounts.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use super::service::Service;
use super::{Created, Objects, StoreSpec};
use crate::store::StoreError;

/// Objects that are read at a time: handing work to another thread takes longer than reading a small file.
const AT_ONCE: usize = 32;

/// The directory. What is written goes by `object_store`; what is read is read in one piece.
pub(super) struct Files {
    dir: PathBuf,
    service: Service,
}

/// Opens `file:///DIR`. The directory must be there: one that is not mounted must not be taken for an empty store.
pub(super) fn open(spec: &StoreSpec) -> Result<Files, StoreError> {
    let dir = dir(&spec.url)?;
    let lost = |why: String| {
        StoreError::Unreachable(format!("there is no store at {}: {why}; is it mounted?", dir.display()))
    };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(lost("it is not a directory".to_owned())),
        Err(error) => return Err(lost(error.to_string())),
    }
    let files = LocalFileSystem::new_with_prefix(dir).map_err(|error| lost(error.to_string()))?;
    // What was published must outlive a power cut, as what was synchronised does.
    let service = Service::new(Arc::new(files.with_fsync(true)), "", spec.url.clone())?;
    Ok(Files { dir: dir.to_owned(), service })
}

/// The directory of a URL.
pub(crate) fn dir(url: &str) -> Result<&Path, StoreError> {
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'));
    path.map(Path::new).ok_or_else(|| {
        StoreError::Local(format!("expected a directory such as \"file:///srv/xds-store\", found '{url}'"))
    })
}

/// What was read of a file.
enum Content {
    Missing,
    TooLong,
    Whole(Vec<u8>),
}

fn read(path: &Path, limit: u64) -> io::Result<Content> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Content::Missing);
        }
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if found.is_dir() {
        return Ok(Content::Missing);
    }
    if found.len() > limit {
        return Ok(Content::TooLong);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    // It may have grown.
    Ok(if bytes.len() as u64 > limit { Content::TooLong } else { Content::Whole(bytes) })
}

impl Files {
    fn refused(&self, name: &str, error: &io::Error) -> StoreError {
        let detail = format!("{}: reading {name}: {error}", self.place());
        match error.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Refused(detail),
            _ => StoreError::Unreachable(detail),
        }
    }
}

impl Objects for Files {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get_all(&[(name, limit)])?.pop().flatten())
    }

    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let files = wanted.iter().map(|(name, limit)| {
            self.service.check_name(name)?;
            Ok((self.dir.join(name), *limit))
        });
        let files = files.collect::<Result<Vec<_>, StoreError>>()?;
        let what = wanted.first().map_or("", |(name, _)| name);
        let read_all = move || files.iter().map(|(path, limit)| read(path, *limit)).collect::<Vec<_>>();
        let read = self.service.elsewhere(what, read_all)?;
        let checked = wanted.iter().zip(read).map(|((name, limit), read)| match read {
            Ok(Content::Whole(bytes)) => Ok(Some(bytes)),
            Ok(Content::Missing) => Ok(None),
            Ok(Content::TooLong) => Err(StoreError::Tampered(format!(
                "{}: {name} has more than the {limit} bytes that it may have",
                self.place()
            ))),
            Err(error) => Err(self.refused(name, &error)),
        });
        checked.collect()
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.service.create(name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.service.put(name, bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.service.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.service.delete(name)
    }

    fn place(&self) -> &str {
        self.service.place()
    }
}
